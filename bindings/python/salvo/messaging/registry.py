# SPDX-License-Identifier: Apache-2.0
"""Which producers there are: one engine per broker and process, made at first use.

Guarantees: flushed at interpreter exit within ``close_timeout_ms``, with a warning that counts what
stayed, in multiprocessing's children too; after a fork the child makes engines of its own and
never touches its parent's. A default SIGTERM ends a process without any of this:
``install_sigterm_handler`` turns it into an orderly exit.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from salvo import _engine
from salvo.messaging import avro_wire, settings
from salvo.messaging.errors import MessagingError, ProducerClosed
from salvo.messaging.handlers import (  # what is registered, of every kind, is found here
    get_all_consumers as get_all_consumers,
    get_all_event_handlers as get_all_event_handlers,
    get_all_message_handlers as get_all_message_handlers,
    get_consumer as get_consumer,
    get_db_provider as get_db_provider,
    set_db_provider as set_db_provider,
)
from salvo.messaging.native import Native

if TYPE_CHECKING:
    from salvo.messaging.producers import Producer

logger = logging.getLogger("salvo.messaging")

# Keys that the engine's producer has no use for: a change needs no other engine.
_PYTHON_ONLY = ("kafka_backend", "default_topic", "default_group", "modules", "source",
                *avro_wire.KEYS)

_lock = threading.RLock()
_natives: dict[tuple[tuple[str, str | None], ...], Native] = {}
_facades: weakref.WeakSet[Producer] = weakref.WeakSet()
_named: dict[str | None, Producer] = {}
_leaving: set[Native] = set()  # out of the registry and not closed yet: exit closes these too
_announced: set[str] = set()
_exit_pid = _ended_pid = 0


def _fingerprint(config: _engine.Config) -> tuple[tuple[str, str | None], ...]:
    keys = [row[0] for row in config.entries() if row[0] not in _PYTHON_ONLY]
    return tuple((key, config.get(key)) for key in keys)


def _announce(config: _engine.Config) -> None:
    """Which broker was chosen and where that came from, once each; which client sends to Kafka."""
    rows = {row[0]: row for row in config.entries()}
    broker, source = rows["message_broker"][1], rows["message_broker"][5]
    if broker not in _announced:
        _announced.add(broker)
        logger.info("broker %s (%s)", broker, source)
    backend = f"kafka_backend {rows['kafka_backend'][1]}"
    if broker == "kafka" and backend != "kafka_backend confluent" and backend not in _announced:
        _announced.add(backend)
        logger.info("%s: this build sends through librdkafka", backend)


def acquire(broker: str | None, overrides: Mapping[str, Any], source: str) -> Native:
    """The engine for a configuration; opened if there is none yet."""
    if _ended_pid == os.getpid():  # nobody would flush it any more
        raise ProducerClosed("the interpreter ends: its producers are closed; nothing was sent")
    with _lock:
        config = settings.effective(broker, overrides, source)
        mark = _fingerprint(config)
        native = _natives.get(mark)
        if native is None:
            native = _natives[mark] = Native(config)
            _register_exit()
        _announce(config)
        return native


def release(native: Native) -> None:
    """A facade turned to another engine: close this one if nobody else uses it, in background."""
    with _lock:
        if native not in _natives.values() or any(f._native is native for f in _facades):
            return
        forget(native)
    retire(native)


def retire(native: Native) -> None:
    """Close a forgotten engine in the background."""
    with contextlib.suppress(RuntimeError):  # no new threads while the interpreter ends: it will
        threading.Thread(target=_retire, args=(native,), name="salvo-retire", daemon=True).start()


def _retire(native: Native) -> None:
    with contextlib.suppress(MessagingError):  # another thread was faster
        shut(native, native.close_timeout)


def shut(native: Native, timeout: float) -> None:
    """Close a forgotten engine; say how many messages stayed behind."""
    stayed = native.shut(timeout)
    if stayed:
        logger.warning("%s: %d messages were accepted and not delivered", native.broker, stayed)
    _leaving.discard(native)


def forget(native: Native) -> list[Producer]:
    """Take an engine out of the registry, to be closed; returns the facades that used it."""
    with _lock:
        if native in _natives.values():  # else another thread closes it, or has
            _leaving.add(native)
        for mark in [m for m, n in _natives.items() if n is native]:
            del _natives[mark]
        users = [facade for facade in _facades if facade._native is native]
        for facade in users:
            facade._drop()
        return users


def _tell_facades() -> None:
    for facade in list(_facades):
        facade._stale()


settings.on_change.append(_tell_facades)


def add_facade(facade: Producer) -> None:
    """Know a facade, so that forks and stops reach it."""
    _facades.add(facade)


def get_producer(broker: str | None = None) -> Producer:
    """The producer of the configured broker, or of the named one. Started at first use.

    Always the same object for the same name; it follows later ``configure*()`` calls.
    """
    from salvo.messaging.producers import Producer

    with _lock:
        found = _named.get(broker)
        if found is None:
            if broker is not None:
                settings.effective(broker, source="get_producer")  # a bad name fails here
            found = _named[broker] = Producer(broker)
        return found


async def start_all_producers() -> None:
    """Start the configured broker's producer and all others that were asked for."""
    get_producer()
    for facade in list(_facades):
        if facade in _named.values():
            await facade.start()


async def stop_all_producers(timeout: float | None = None) -> None:
    """Flush and close all producers. ``timeout`` in seconds each; None: close_timeout_ms."""
    from salvo.messaging.producers import Producer

    for facade in list(_facades):
        await facade.stop(timeout)
    for native in list(_natives.values()):  # their facades are gone: RedisProducer(url).send(...)
        facade = Producer(native.broker)
        facade._native = native
        await facade.stop(timeout)


# --- exit ---


def _register_exit() -> None:
    """Once per process: multiprocessing's children run no atexit, but their own finalizers."""
    global _exit_pid
    if _exit_pid == os.getpid():
        return
    _exit_pid = os.getpid()
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _flush_at_exit, exitpriority=100)


def _await_other(native: Native) -> None:
    """Another thread is closing it, and will say what stayed; it has used up its time."""
    until = time.monotonic() + 2
    while native in _leaving and time.monotonic() < until:
        time.sleep(0.005)


def _flush_at_exit() -> None:
    """Deliver what is left, within the deadline, and say how much stayed."""
    global _ended_pid
    _ended_pid = os.getpid()
    for native in [*_natives.values(), *_leaving]:
        stayed = 0
        try:
            stayed = native.shut(native.close_timeout)
        except MessagingError:
            _await_other(native)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C or SIGTERM again: no more waiting
            with contextlib.suppress(MessagingError):
                stayed = native.pending()
        if stayed and sys.stderr is not None:
            sys.stderr.write(f"salvo: {native.broker}: {stayed} messages were accepted and not "
                             "delivered before the process ended\n")
    _natives.clear()
    _leaving.clear()


atexit.register(_flush_at_exit)


def install_sigterm_handler() -> None:
    """Make SIGTERM end the process by SystemExit(143), so that producers are flushed.

    Python's default for SIGTERM ends the process at once: nothing is flushed then. Servers such
    as gunicorn and uvicorn have handlers of their own and need none. Main thread only.
    """

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


# --- fork ---


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    settings._lock = threading.RLock()
    for native in [*_natives.values(), *_leaving]:
        native.abandon()
    _natives.clear()
    _leaving.clear()
    for facade in list(_facades):
        facade._drop()


# Held across the fork, so that the child finds the registry whole.
os.register_at_fork(before=lambda: _lock.acquire() and None,
                    after_in_parent=lambda: _lock.release(),
                    after_in_child=_after_fork_in_child)

# SPDX-License-Identifier: Apache-2.0
"""The engine's producer with what Python adds: event loops, waiting flushes, topics by name.

One reader per event loop, on a duplicate of the engine's descriptor: it wakes Python once per
batch of reports and settles all of them. No thread per call; one thread per producer, made at the
first flush that somebody waits for, because the engine's flush waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from salvo import _engine
from salvo.messaging import settings
from salvo.messaging.delivery import Delivery
from salvo.messaging.errors import MessagingError

_FAIL, _DROP_NEWEST = 2, 3
_FLUSH_SLICE_MS = 1000
_PENDING = 1


def _no_loop() -> None:
    """In place of a weak reference to an event loop."""


class Place:
    """A topic of a producer: its number, and what a full buffer means for it."""

    __slots__ = ("blocks", "drops", "id", "name", "repeated", "timed_out")

    def __init__(self, number: int, name: str, policy: str) -> None:
        self.id = number
        self.name = name
        self.blocks = policy == "block"
        self.drops = policy == "drop_newest"
        self.repeated = 0  # refusals that were only "not yet"
        self.timed_out = 0  # refusals that were the deadline's


class Native(_engine.Producer):
    """One engine. Made and kept by the registry; what people hold are facades."""

    def __new__(cls, config: _engine.Config) -> Native:
        made = super().__new__(cls, config, Delivery)
        assert isinstance(made, Native)
        return made

    def __init__(self, config: _engine.Config) -> None:
        self.broker = config.get("message_broker") or ""
        self.config = config
        self.policy = config.get("full_policy") or "block"
        self.send_timeout = settings.value_of(config, "send_timeout_ms") / 1000
        self.close_timeout = settings.value_of(config, "close_timeout_ms") / 1000
        self.waits = not settings.value_of(config, "kafka_fire_and_forget")
        self.places: dict[str, Place] = {}
        self._readers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Reader] = (
            weakref.WeakKeyDictionary())
        self._latest: Callable[[], asyncio.AbstractEventLoop | None] = _no_loop
        self.kicked: asyncio.AbstractEventLoop | None = None
        self._flusher: _Flusher | None = None
        self._is_shut = False
        self._lock = threading.Lock()

    def place(self, name: str, policy: str | None = None) -> Place:
        """Open a topic. Its policy is the first opener's, else the configuration's."""
        with self._lock:
            found = self.places.get(name)
            if found is None:
                chosen = policy or self.policy
                # Waiting is done here, not in the engine: an event loop must not be blocked.
                number = self.open_topic(name, _DROP_NEWEST if chosen == "drop_newest" else _FAIL)
                found = self.places[name] = Place(number, name, chosen)
            return found

    # --- event loops ---

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have reports read by this loop from now on."""
        if self._latest() is loop or loop in self._readers:
            return
        with self._lock:
            reader = _Reader(self.report_fd())
            weakref.finalize(loop, reader.close)
            loop.add_reader(reader.fd, self._readable)
            self._readers[loop] = reader
            self._latest = weakref.ref(loop)

    def _readable(self) -> None:
        with contextlib.suppress(MessagingError):  # closed meanwhile: its reader goes soon
            self.collect()

    def await_outcome(
        self, delivery: Delivery, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[None] | None:
        """A future of this loop, which is attached, for a delivery's outcome; None if it is
        settled. The first one that waits closes the batch."""
        if delivery.status != _PENDING:
            return None
        if self.kicked is not loop:
            self.kick_soon(loop)
        future: asyncio.Future[None] = loop.create_future()
        return future if delivery.add_waiter(future) else None

    def kick_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cut lingers short once the tasks that are ready now have sent what they send."""
        self.kicked = loop
        loop.call_soon(self._kick_now)

    def _kick_now(self) -> None:
        self.kicked = None
        with contextlib.suppress(MessagingError):
            self.kick()

    def resolve(self, settled: list[Delivery]) -> None:
        """Tell those who wait. Called by the extension, in whatever thread took the reports."""
        try:
            self._tell(settled)
        except BaseException:  # Ctrl-C in this thread; in others they wait for it all the same
            self._tell(settled)
            raise

    def _tell(self, settled: list[Delivery]) -> None:
        here = asyncio._get_running_loop()
        elsewhere: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for delivery in settled:
            for future in delivery.waiters or ():
                loop = future.get_loop()
                if loop is not here:
                    elsewhere.setdefault(loop, []).append(future)
                elif not future.done():
                    future.set_result(None)
        for loop, futures in elsewhere.items():
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits
                loop.call_soon_threadsafe(_wake, futures)
        for delivery in settled:
            delivery.take_waiters()

    def detach(self) -> None:
        """Take the readers out of their loops."""
        here = asyncio._get_running_loop()
        with self._lock:
            readers = list(self._readers.items())
            self._readers.clear()
            self._latest = _no_loop
        for loop, reader in readers:
            if loop.is_closed():
                reader.close()
            elif loop is here:
                reader.leave(loop)
            else:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(reader.leave, loop)

    # --- flush and close ---

    def flush_then(self, timeout: float, told: Callable[[], None]) -> None:
        """Call ``told`` in another thread once all that is accepted now is settled, or later."""
        with self._lock:
            if self._flusher is None and not self._is_shut:
                self._flusher = _Flusher(self)
            flusher = self._flusher
        if flusher is None:
            told()
        else:
            flusher.add(timeout, told)

    def pending(self) -> int:
        """How many accepted messages have no outcome yet."""
        return self.ledger(None)["pending"]

    def shut(self, timeout: float) -> int:
        """Flush for up to ``timeout`` seconds, then close. Returns how many stayed behind."""
        with self._lock:
            self._is_shut = True  # from now on no thread is made that nobody would end
            flusher = self._flusher
        if flusher is not None:
            flusher.end()
        try:
            return self.close(timeout)
        finally:
            self.detach()


def _wake(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class _Reader:
    """A loop's own duplicate of the descriptor; closed once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.fd >= 0:
            loop.remove_reader(self.fd)
            self.close()


class _Flusher:
    """Runs the engine's flush for others: all who ask during one round share the next."""

    def __init__(self, native: Native) -> None:
        self._native = weakref.ref(native)
        self._asked: list[tuple[float, Callable[[], None]]] = []
        self._wanted = threading.Condition()
        self._ended = False
        threading.Thread(target=self._run, name="salvo-flush", daemon=True).start()

    def add(self, timeout: float, told: Callable[[], None]) -> None:
        with self._wanted:
            if not self._ended:
                self._asked.append((timeout, told))
                self._wanted.notify()
                return
        told()  # the producer has been shut: there is nothing to wait for

    def end(self) -> None:
        with self._wanted:
            self._ended = True
            self._wanted.notify()

    def _run(self) -> None:
        while True:
            with self._wanted:
                while not self._asked and not self._ended:
                    self._wanted.wait()
                round_, self._asked = self._asked, []
                if self._ended and not round_:
                    return
            try:
                self._flush(max(timeout for timeout, _ in round_))
            finally:
                for _, told in round_:
                    told()
                del told
                round_.clear()  # loops are not kept alive until the next one

    def _flush(self, timeout: float) -> None:
        """In slices, so that closing has not long to wait. A slice begins anew with what was
        accepted by then; one that outlasts it only waits for more than was asked."""
        left_ms = int(timeout * 1000)
        native: Any = self._native()
        try:
            while native is not None and not self._ended:
                slice_ms = min(left_ms, _FLUSH_SLICE_MS)
                left_ms -= slice_ms
                if native.flush_once(slice_ms) or left_ms <= 0:
                    break
            if native is not None:
                native.collect()
        except MessagingError:
            pass  # closed meanwhile: whoever asked looks for himself

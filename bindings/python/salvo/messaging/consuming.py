# SPDX-License-Identifier: Apache-2.0
"""A consumer of the engine in an event loop: ``Source``.

Guarantees: nothing blocks the loop (joining, commits and leaving run in a thread); the engine gets
its turn every 100 ms whether or not anybody takes messages; every source is closed, what is
acknowledged committed, before the interpreter ends, and before the producers whose memory it may
read; a source that was made before a fork is of no use in the child, and says so.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from salvo import _engine
from salvo._engine import Message
from salvo.messaging import registry, settings
from salvo.messaging.errors import MessagingError, ProducerClosed
from salvo.messaging.native import Native

logger = logging.getLogger("salvo.messaging")
_T = TypeVar("_T")
_TICK = 0.1  # seconds between two turns of the engine where nobody takes
_BUSY_PAUSE = 0.005  # seconds, while another thread has the consumer
_FRUITLESS_MAX = 8  # polls in a row that gave nothing though there was something to read
_EXIT_TIMEOUT = 5.0  # seconds that a source may take to leave its group at exit

_open: weakref.WeakSet[Source] = weakref.WeakSet()


class Source:
    """A member of a group: what the broker gives it, for one event loop.

    ``broker`` None: the configured one. ``settings``: overrides for this source alone.
    ``manual_commit`` None: as ``kafka_enable_auto_commit`` says; where commits are not automatic,
    what is acknowledged is committed at once. Other options as in ``salvo/consumer.h``.
    """

    def __init__(
        self, broker: str | None = None, *, group: str, topics: Sequence[str],
        settings: Mapping[str, Any] | None = None, member: str | None = None,
        max_in_hand: int = 0, transactional: bool = False, manual_commit: bool | None = None,
        name: str = "a consumer",
    ) -> None:
        self.group = group
        self.topics = list(topics)
        self._broker = broker
        self._settings = dict(settings or {})
        self._options: dict[str, Any] = {"member": member, "max_in_hand": max_in_hand,
                                         "transactional": transactional,
                                         "manual_commit": manual_commit}
        self._name = name
        self._consumer: _engine.Consumer | None = None
        self._native: Native | None = None  # memory: whose messages are read
        self._thread: ThreadPoolExecutor | None = None  # the one that waits for the broker
        self._starting: asyncio.Future[None] | None = None
        self._wanted: asyncio.Future[bool] | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._committing: asyncio.Task[None] | None = None
        self._unsaid = False  # acknowledged since the last commit began
        self._by_hand = False
        self.closed = False

    # --- joining ---

    async def start(self) -> None:
        """Join the group. Raises what is wrong with the settings or the broker."""
        if self._consumer is not None or self.closed:
            return
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._join())
        try:
            await asyncio.shield(self._starting)
        finally:
            if self._starting is not None and self._starting.done():
                self._starting = None

    async def _join(self) -> None:
        config = self._configure()
        self._thread = ThreadPoolExecutor(1, "salvo-consumer")
        try:
            consumer = await self._in_thread(lambda: _engine.Consumer(
                config, self._native, self.group, self.topics, **self._options))
        except BaseException:
            self._end_thread()
            raise
        self._consumer = consumer
        if self.closed:  # while it joined
            await self._leave(0.0)
            return
        _open.add(self)
        _register_exit()
        self._turn()

    def _configure(self) -> _engine.Config:
        config = settings.effective(self._broker, self._settings, self._name)
        if config.get("message_broker") == "memory":
            # Where this process' producers send to: overrides would make another memory.
            self._native = registry.acquire("memory", {}, self._name)
        automatic = settings.value_of(config, "kafka_enable_auto_commit")
        manual = self._options["manual_commit"]
        self._by_hand = not automatic if manual is None else bool(manual)
        self._by_hand = self._by_hand and not self._options["transactional"]
        return config

    async def _in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, function, *arguments)

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    @property
    def is_started(self) -> bool:
        """Whether it has joined, and not left."""
        return self._consumer is not None and not self.closed

    @property
    def consumer(self) -> _engine.Consumer:
        """The engine's consumer; ProducerClosed where there is none."""
        if self._consumer is None:
            raise ProducerClosed(f"the consumer of group {self.group} is "
                                 f"{'closed' if self.closed else 'not started'}")
        return self._consumer

    # --- taking ---

    def _turn(self) -> None:
        """The engine's own work, and a look for whoever waits."""
        consumer = self._consumer
        if consumer is None or self.closed:
            return
        if self._wanted is not None:
            _wake(self._wanted, False)
        else:
            with contextlib.suppress(MessagingError):  # take() will tell it
                consumer.poll(0)
        self._tick = asyncio.get_running_loop().call_later(_TICK, self._turn)

    async def take(self, max: int) -> list[Message]:
        """At least one message, at most ``max``, in order within a partition. An empty list: the
        source is closed. One task at a time."""
        if self._consumer is None and not self.closed:
            await self.start()
        fruitless = 0
        while not self.closed:
            consumer = self.consumer
            messages = consumer.poll(max)
            if messages:
                return messages
            if consumer.busy or fruitless >= _FRUITLESS_MAX:
                # Committing in a thread: its descriptor may stay readable all the while.
                await asyncio.sleep(_BUSY_PAUSE)
                fruitless = 0
            else:
                fruitless = fruitless + 1 if await self._readable() else 0
        return []

    def take_now(self, max: int) -> list[Message]:
        """What is here already."""
        return self.consumer.poll(max) if not self.closed else []

    async def _readable(self) -> bool:
        """Wait until the descriptor is readable (True), or for the next turn."""
        loop = asyncio.get_running_loop()
        descriptor = self.consumer.fileno()
        wanted: asyncio.Future[bool] = loop.create_future()
        self._wanted = wanted
        loop.add_reader(descriptor, _wake, wanted, True)
        try:
            return await wanted
        finally:
            self._wanted = None
            if not loop.is_closed():
                loop.remove_reader(descriptor)

    # --- settling ---

    def ack(self, messages: Message | Sequence[Message]) -> int:
        """These are settled. Returns how many of them were still ours; never waits."""
        settled = self.consumer.ack(messages)
        if settled and self._by_hand:
            self._commit_soon()
        return settled

    def held(self, message: Message) -> bool:
        """Whether it is unsettled and no other member has got it meanwhile."""
        return self._consumer is not None and not self.closed and self._consumer.held(message)

    def all_held(self, messages: Sequence[Message]) -> bool:
        """Whether ``held`` is true for each, in one call."""
        return self.is_started and self.consumer.all_held(messages)

    def _commit_soon(self) -> None:
        """One commit at a time; what comes while it runs goes with the next."""
        self._unsaid = True
        if self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit_all())

    async def _commit_all(self) -> None:
        try:
            while self._unsaid and not self.closed:
                self._unsaid = False
                await self._in_thread(self.consumer.commit, 10.0)
        except MessagingError as error:
            logger.warning("group %s: not committed yet: %s", self.group, error)
        finally:
            self._committing = None

    async def commit(self, timeout: float = 10.0) -> None:
        """Make the broker know what is acknowledged, now."""
        await self._in_thread(self.consumer.commit, timeout)

    async def committed(self) -> None:
        """Wait for the commit of what was acknowledged, where commits are not automatic."""
        if self._committing is not None:
            await asyncio.shield(self._committing)

    async def rewind(self) -> None:
        """Forget what is in hand and read on from what is committed."""
        await self._in_thread(self.consumer.rewind)

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Read on from an offset; -2: the beginning, -1: the end."""
        await self._in_thread(self.consumer.seek, topic, partition, offset)

    async def lag(self, timeout: float = 10.0) -> list[tuple[str, int, int, int, int]]:
        """(topic, partition, committed, end, lag) of each partition of this member."""
        return await asyncio.to_thread(self.consumer.lag, timeout)

    def stats(self) -> dict[str, Any]:
        """What the engine counts; see ``salvo_consumer_stats``."""
        return self.consumer.stats()

    # --- leaving ---

    async def close(self, timeout: float = 10.0) -> None:
        """Commit what is acknowledged, give the rest back, leave the group. Idempotent."""
        if self._starting is not None:
            self.closed = True
            with contextlib.suppress(Exception):  # whoever started it is told
                await asyncio.shield(self._starting)
        await self._leave(timeout)

    async def _leave(self, timeout: float) -> None:
        self.closed = True
        if self._tick is not None:
            self._tick.cancel()
        if self._wanted is not None:
            _wake(self._wanted, False)
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            await asyncio.shield(self._in_thread(consumer.close, timeout))
        finally:
            _open.discard(self)
            self._end_thread()

    def close_now(self, timeout: float) -> None:
        """As ``close``, for code without an event loop; blocks."""
        self.closed = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(timeout)
        _open.discard(self)


def _wake(future: asyncio.Future[bool], readable: bool) -> None:
    if not future.done():
        future.set_result(readable)


# --- exit ---

_exit_pid = 0


def _close_at_exit() -> None:
    for source in list(_open):
        try:
            source.close_now(_EXIT_TIMEOUT)
        except MessagingError as error:
            if sys.stderr is not None:
                sys.stderr.write(f"salvo: group {source.group}: {error}; what was not committed "
                                 "is given again\n")
        except (KeyboardInterrupt, SystemExit):
            return


def _register_exit() -> None:
    """In multiprocessing's children too, which run finalizers and no atexit."""
    global _exit_pid
    if _exit_pid == os.getpid():
        return
    _exit_pid = os.getpid()
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_at_exit, exitpriority=110)  # before the producers' 100


atexit.register(_close_at_exit)  # after the registry's, so it runs before
os.register_at_fork(after_in_child=lambda: _open.clear())

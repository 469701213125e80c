# SPDX-License-Identifier: Apache-2.0
"""Consumers that people hold: ``create_consumer()``, ``KafkaConsumer``, and those of registered
handlers.

Guarantees: a message is acknowledged after its handler has ended, or, iterated over, when the next
one is asked for or ``ack`` is called, never before; ``stop`` finishes what is being handled, and
what it cannot finish is given again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from salvo._engine import Message
from salvo.messaging import settings
from salvo.messaging.base import Received
from salvo.messaging.consuming import Source
from salvo.messaging.deadletter import DeadLetter
from salvo.messaging.decoding import avro_topics, decoded
from salvo.messaging.errors import BadMessage, ConfigurationError, MessagingError
from salvo.messaging.handlers import (
    ConsumerSpec,
    check_unknown_event,
    default_group,
    get_all_consumers,
    handler_of,
    specs_of,
    topic_names,
)
from salvo.messaging.outbox import Outbox
from salvo.messaging.registry import get_producer
from salvo.messaging.routing import Router
from salvo.messaging.runner import STOP_TIMEOUT, Runner

logger = logging.getLogger("salvo.messaging")

_TAKE = 500  # messages at a time, iterated over
_COUNTERS = {"received": "received", "handled": "succeeded", "failed": "failed",
             "dead_lettered": "dead_lettered", "retries": "retried", "lost": "lost"}

_started: weakref.WeakSet[Consumer] = weakref.WeakSet()


class Consumer:
    """Reads topics as a member of a group.

    With ``message_handler`` each message goes to it, as a dict (or ``schema``'s model); without,
    to the handlers that are registered for the group; without any, iterate over it. ``broker``
    None: the configured one; ``group_id`` None: the setting ``default_group``. Retries, dead
    letters and ``timeout`` as in ``message_handler``; ``unknown_event`` as in ``consumer``.
    ``concurrency``: messages at one time, those with the same key in order. ``auto_ack``: whether a
    message that was iterated over is settled when the next one is asked for; None: as
    ``kafka_enable_auto_commit`` says. ``member``: a name in the group that is kept over restarts.
    Whatever else is given is a setting for this consumer alone.
    """

    broker: str | None = None

    def __init__(
        self, group_id: str | None = None, topics: Any = None,
        message_handler: Callable[..., Any] | None = None, *, broker: str | None = None,
        schema: Any = None, max_retries: int = 0, retry_delay: float = 1.0,
        retry_max_delay: float | None = None, dlq_topic: Any = None, timeout: float | None = None,
        unknown_event: str = "ignore", concurrency: int = 1, auto_ack: bool | None = None,
        member: str | None = None, max_in_hand: int = 0, **settings: Any,
    ) -> None:
        self.group_id = group_id if group_id is not None else default_group()
        self.topics = topic_names(topics, "topics")
        self._broker = broker if broker is not None else self.broker
        self._handler = message_handler
        self._options = {"schema": schema, "max_retries": max_retries, "retry_delay": retry_delay,
                         "retry_max_delay": retry_max_delay, "dlq_topic": dlq_topic,
                         "timeout": timeout}
        check_unknown_event(unknown_event, dlq_topic)
        self._dlq_topic = handler_of(print, **self._options).dlq_topic  # and all are checked
        self._unknown_event = unknown_event
        if not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency {concurrency!r}: 1 or more")
        self._concurrency = concurrency
        self._auto_ack = auto_ack
        self._member, self._max_in_hand, self._settings = member, max_in_hand, settings
        self._specs: Sequence[ConsumerSpec] | None = None  # None: those of the group
        self._reset()

    def _reset(self) -> None:
        self._source: Source | None = None
        self._runner: Runner | None = None
        self._router: Router | None = None
        self._task: asyncio.Task[None] | None = None
        self._avro: frozenset[str] = frozenset()
        self._taking = asyncio.Lock()
        self._waiting: deque[Message] = deque()  # taken, not yet yielded
        self._yielded: Message | None = None
        self._acks = False
        self._letters: Outbox | None = None
        self._letter_tasks: list[asyncio.Task[None]] = []
        self._counted = dict.fromkeys(_COUNTERS, 0)

    # --- life ---

    async def start(self) -> None:
        """Join the group, start handling in the background, and return. Raises what is wrong with
        the settings or the broker. Started already: nothing."""
        await self._start(self._chosen_router())

    async def run(self) -> None:
        """Handle messages until ``stop()`` is called; cancelled, it stops, too."""
        await self.start()
        if self._task is None:
            await self.stop(0.0)
            raise ConfigurationError(
                f"group {self.group_id}: nothing handles {', '.join(self.topics)}: give a "
                "message_handler, register one for this group, or iterate over the consumer")
        await self._ended()

    async def _ended(self) -> None:
        task = self._task
        if task is None:
            return
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                await self.stop()
            raise

    async def stop(self, timeout: float | None = None) -> None:
        """Take nothing more, finish what is being handled within ``timeout`` seconds (None: 30),
        give the rest back, commit, leave the group. It can be started again."""
        deadline = STOP_TIMEOUT if timeout is None else max(0.0, timeout)
        runner, source, task = self._runner, self._source, self._task
        _started.discard(self)
        if runner is not None and task is not None:
            await runner.stop(deadline)
            if not task.done():  # one that is done may belong to an event loop that is closed
                await asyncio.wait([task])
        elif source is not None:
            for letter_task in self._letter_tasks:
                letter_task.cancel()
            await source.close(max(1.0, deadline))
        if self._source is source:
            counted, router = self.stats(), self._router
            self._reset()
            self._counted = {name: counted[name] for name in _COUNTERS}
            self._router = router  # for stats()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def consume(self, handler: Callable[..., Any]) -> None:
        """Give each message to ``handler`` until ``stop()`` is called. A message that it raises on
        is logged and counted, after the retries that the consumer was made with."""
        if self._task is not None:
            raise ConfigurationError(f"group {self.group_id}: this consumer handles its messages "
                                     "already: make another one")
        await self._start(self._router_of(handler))
        await self._ended()

    # --- handlers ---

    def _router_of(self, function: Callable[..., Any]) -> Router:
        handler = handler_of(function, **self._options)
        spec = ConsumerSpec(handler.name, self.group_id, self.topics, [handler], function)
        return Router(self.group_id, self.topics, [spec], dlq_topic=self._dlq_topic)

    def _chosen_router(self) -> Router | None:
        if self._handler is not None:
            return self._router_of(self._handler)
        specs = self._specs
        if specs is None:
            specs = specs_of(self.group_id, self.topics)
        if not specs:
            return None
        if not self.topics:
            self.topics = _topics_of(specs)
        return Router(self.group_id, self.topics, specs, self._unknown_event, self._dlq_topic)

    async def _start(self, router: Router | None) -> None:
        if self._task is not None or (self._source is not None and router is None):
            return
        if not self.topics:
            raise ConfigurationError(f"group {self.group_id}: name its topics: topics=[...]")
        if self._source is None:
            self._source = self._make_source()
            self._avro = avro_topics(self.topics)
            self._acks = settings.setting("kafka_enable_auto_commit")
            if self._auto_ack is not None:
                self._acks = self._auto_ack
        source = self._source
        try:
            await source.start()
        except BaseException:
            if self._source is source:
                self._reset()
            raise
        _started.add(self)
        if router is not None and self._task is None and self._source is source:
            self._handle(source, router)

    def _make_source(self) -> Source:
        return Source(self._broker, group=self.group_id, topics=self.topics,
                      settings=self._settings, member=self._member,
                      max_in_hand=self._max_in_hand, name=type(self).__name__)

    def _handle(self, source: Source, router: Router) -> None:
        self._router = router
        only = router.only_route()
        process: Any = router.process
        retry: Any = router.retry_of
        letters: Any = router.dead_letter_of
        if only is not None:  # the usual case, and the quickest
            handler = only.handler
            topic = handler.dlq_topic or self._dlq_topic
            process, retry = only, handler.retry
            letters = DeadLetter(topic) if topic is not None else None
        self._runner = Runner(
            source, process, name=f"group {self.group_id}", concurrency=self._concurrency,
            retry=retry, dead_letter=letters)
        self._task = asyncio.create_task(self._runner.run(), name=f"consumer {self.group_id}")
        self._task.add_done_callback(self._has_ended)

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("group %s: its consumer has ended: %s", self.group_id, task.exception())

    # --- iterating ---

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        if self._task is not None:
            raise ConfigurationError(f"group {self.group_id}: handlers get its messages: do not "
                                     "iterate over it, too")
        if self._source is None or not self._source.is_started:
            await self._start(None)
        self._settle_yielded()
        while True:
            source = self._source
            if source is None or source.closed:
                raise StopAsyncIteration
            if not self._waiting:
                async with self._taking:  # several tasks may iterate, where each one acks
                    if not self._waiting:
                        self._waiting.extend(await source.take(_TAKE))
                continue
            message = self._waiting.popleft()
            if not source.held(message):
                self._counted["lost"] += 1
                continue
            self._counted["received"] += 1
            try:
                received = Received.of(
                    message if message.topic not in self._avro else await decoded(message))
            except BadMessage as error:
                await self._refuse(message, error)
                continue
            received.message = self._yielded = message
            return received

    def _settle_yielded(self) -> None:
        message, self._yielded = self._yielded, None
        if message is None or self._source is None or self._source.closed:
            return
        self._counted["handled"] += 1
        if self._acks:
            self._source.ack(message)

    async def ack(self, message: Received | Message) -> bool:
        """This message was processed. False: another member has got it meanwhile, or it was
        acknowledged before. Where commits are not automatic it returns once it is committed."""
        source = self._source
        if source is None or source.closed:
            return False
        read = message.message if isinstance(message, Received) else message
        settled = source.ack(read) == 1
        if settled:
            await source.committed()
        return settled

    async def _refuse(self, message: Message, error: BadMessage) -> None:
        """What cannot be yielded goes to the dead letter topic, or is counted and settled."""
        source = self._source
        assert source is not None
        self._counted["failed"] += 1
        logger.error("group %s: %s; %s", self.group_id, error,
                     f"to {self._dlq_topic}" if self._dlq_topic else "given up")
        if self._dlq_topic is None:
            source.ack(message)
            return
        if self._letters is None:
            self._letters = Outbox(f"group {self.group_id}", get_producer(), _Settler(source),
                                   None)
            self._letter_tasks = [asyncio.create_task(self._letters.settle_all()),
                                  asyncio.create_task(self._letters.insist())]
        await self._letters.put(message, DeadLetter(self._dlq_topic).write(message, error, 1))
        self._counted["dead_lettered"] += 1

    # --- looking ---

    def stats(self) -> dict[str, Any]:
        """Counts since it was made: ``received``, ``handled``, ``failed``, ``dead_lettered``,
        ``retries``, ``lost`` to other members, ``unknown`` by name; and while it runs the
        engine's, as ``engine``."""
        counted: dict[str, Any] = dict(self._counted)
        if self._runner is not None:
            for name, attribute in _COUNTERS.items():
                counted[name] += getattr(self._runner, attribute)
        counted["unknown"] = dict(self._router.unknown) if self._router is not None else {}
        if self._source is not None and self._source.is_started:
            counted["engine"] = self._source.stats()
        return counted

    async def lag(self, timeout: float = 10.0) -> list[tuple[str, int, int, int, int]]:
        """(topic, partition, committed, end, lag) of each partition of this member."""
        await self._start(None)
        assert self._source is not None
        return await self._source.lag(timeout)

    async def seek(self, topic: Any, partition: int, offset: int) -> None:
        """Read on from an offset of a partition; -2: from its beginning, -1: from its end.
        Unsupported where there are no offsets."""
        await self._start(None)
        assert self._source is not None
        self._waiting.clear()
        await self._source.seek(topic_names(topic, "seek")[0], partition, offset)

    @property
    def is_running(self) -> bool:
        """Whether it has joined and has not been stopped."""
        return self._source is not None and self._source.is_started

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<{type(self).__name__} {self.group_id}: {', '.join(self.topics)}; {state}>"


class _Settler:
    """What an outbox tells a runner."""

    def __init__(self, source: Source) -> None:
        self.settle: Callable[[Any], Any] = source.ack
        self.held: Callable[[Any], bool] = source.held

    def flush(self) -> None:
        """Nothing waits."""


class KafkaConsumer(Consumer):
    """A consumer of the Kafka at ``bootstrap_servers`` (None: the configured one)."""

    broker = "kafka"

    def __init__(
        self, bootstrap_servers: str | None = None, group_id: str | None = None,
        topics: Any = None, message_handler: Callable[..., Any] | None = None, **options: Any,
    ) -> None:
        if bootstrap_servers is not None:
            options["kafka_bootstrap_servers"] = bootstrap_servers
        super().__init__(group_id, topics, message_handler, **options)


class RedisConsumer(Consumer):
    """A consumer of Redis Streams at ``url`` (None: the configured one). What is iterated over is
    settled by ``ack`` alone, unless ``auto_ack`` says otherwise."""

    broker = "redis"

    def __init__(
        self, topics: Any = None, group_id: str | None = None, url: str | None = None,
        message_handler: Callable[..., Any] | None = None, *, consumer_name: str | None = None,
        auto_ack: bool | None = False, **options: Any,
    ) -> None:
        if url is not None:
            options["redis_url"] = url
        if consumer_name is not None:
            options["member"] = consumer_name
        super().__init__(group_id, topics, message_handler, auto_ack=auto_ack, **options)


def _configured_broker() -> str:
    return settings.effective().get("message_broker") or ""


def get_kafka_consumer_class() -> type[Consumer]:
    """KafkaConsumer; where another broker is configured, the class that reads from that."""
    return KafkaConsumer if _configured_broker() == "kafka" else Consumer


def create_consumer(
    group_id: str | None = None, topics: Any = None,
    message_handler: Callable[..., Any] | None = None, *, broker: str | None = None,
    **options: Any,
) -> Consumer:
    """A consumer of the configured broker, or of the named one; options as in ``Consumer``."""
    chosen = broker if broker is not None else _configured_broker()
    kinds: dict[str, Any] = {"kafka": KafkaConsumer, "redis": RedisConsumer}
    kind = kinds.get(chosen, Consumer)
    if kind is Consumer:
        options["broker"] = broker
    if kind is RedisConsumer:
        options.setdefault("auto_ack", None)
    made: Consumer = kind(group_id=group_id, topics=topics, message_handler=message_handler,
                          **options)
    return made


# --- those of registered handlers ---


def _topics_of(specs: Sequence[ConsumerSpec]) -> list[str]:
    return list(dict.fromkeys(topic for spec in specs for topic in spec.topics))


def _of_specs(group: str, specs: Sequence[ConsumerSpec], topics: Sequence[str] = ()) -> Consumer:
    consumer = create_consumer(group, topics or _topics_of(specs),
                               concurrency=max(spec.concurrency for spec in specs))
    consumer._specs = specs
    return consumer


def consumers_for(group: str | None = None, topics: Any = None,
                  auto_start_only: bool = False) -> list[Consumer]:
    """Consumers for what is registered, one for each group: for one group or (None) all; for some
    topics or (None) all of theirs."""
    wanted = topic_names(topics, "topics")
    groups: dict[str, list[ConsumerSpec]] = {}
    for spec in get_all_consumers().values():
        if auto_start_only and not spec.auto_start:
            continue
        if group in (None, spec.group_id) and (not wanted or set(wanted) & set(spec.topics)):
            groups.setdefault(spec.group_id, []).append(spec)
    return [_of_specs(name, specs, [t for t in wanted if t in _topics_of(specs)])
            for name, specs in groups.items()]


async def start_all_consumers() -> list[Consumer]:
    """Start what is registered with ``auto_start=True``; returns the consumers."""
    made = consumers_for(auto_start_only=True)
    try:
        for consumer in made:
            await consumer.start()
    except BaseException:
        for consumer in made:
            with contextlib.suppress(MessagingError):
                await consumer.stop(0.0)
        raise
    return made


async def stop_all_consumers(timeout: float | None = None) -> None:
    """Stop all consumers that this process has started, all at one time."""
    await asyncio.gather(*(each.stop(timeout) for each in list(_started)))


os.register_at_fork(after_in_child=lambda: _started.clear())

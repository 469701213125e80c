# SPDX-License-Identifier: Apache-2.0
"""KafkaProducer, KafkaConsumer, RabbitMQQueue, EventPublisher and TaskWorker, on the engine."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from collections.abc import Callable
from typing import Any, Protocol

from salvo import _engine
from salvo.messaging import settings
from salvo.messaging.consumers import Consumer, KafkaConsumer
from salvo.messaging.delivery import Delivery
from salvo.messaging.errors import InvalidMessage
from salvo.messaging.producers import MISSING, Producer
from salvo.messaging.routing import is_async
from salvo.messaging.threads import in_thread

__all__ = ["DomainEvent", "EventPublisher", "KafkaConsumer", "KafkaProducer", "RabbitMQQueue",
           "TaskWorker"]

logger = logging.getLogger("salvo.messaging")
_DECLARE_TIMEOUT = 10.0  # seconds
_DIFFERENT = 2  # of topics_ensure
_TYPES_MAX = 1000  # unknown task types that are told by name


class KafkaProducer(Producer):
    """A producer for the Kafka at ``bootstrap_servers`` (None: the configured one)."""

    def __init__(self, bootstrap_servers: str | None = None, **settings: Any) -> None:
        if bootstrap_servers is not None:
            settings["kafka_bootstrap_servers"] = bootstrap_servers
        super().__init__("kafka", **settings)

    async def send(  # type: ignore[override]  # the key may be given by place here
        self, topic: Any, value: Any = MISSING, key: Any = None, *, message: Any = MISSING,
        **options: Any,
    ) -> Delivery:
        """Send one message and wait for the broker, unless ``wait`` says otherwise; options as in
        ``Producer.send``."""
        options.setdefault("wait", True)
        return await super().send(topic, message, value=value, key=key, **options)


class RabbitMQQueue:
    """A durable queue of the RabbitMQ at ``url`` (None: the configured one): what is published to
    it is persistent, what is consumed is acknowledged when its handler has ended."""

    def __init__(self, url: str | None = None, queue_name: str = "") -> None:
        if not queue_name:
            raise InvalidMessage("RabbitMQQueue needs a queue_name")
        # The queue itself, whatever exchange the application's other messages go to.
        self._settings: dict[str, Any] = {
            "rabbitmq_exchange": "", "rabbitmq_exchange_type": "", "rabbitmq_routing_key": "",
            "rabbitmq_mandatory": True}
        if url is not None:
            self._settings["rabbitmq_url"] = url
        self._producer = Producer("rabbitmq", **self._settings)
        self._queue_name = queue_name
        self._consumers: set[Consumer] = set()

    async def connect(self) -> None:
        """Declare the queue. Raises where there is no broker, or another queue of that name."""
        config = settings.effective("rabbitmq", self._settings, "RabbitMQQueue")
        outcome, differences = await asyncio.to_thread(
            _engine.topics_ensure, config, None, self._queue_name, 1, 1, None, None,
            _DECLARE_TIMEOUT)
        if outcome == _DIFFERENT:
            logger.warning("queue %s is there and is used as it is, though it differs: %s",
                           self._queue_name, differences)
        await self._producer.start()

    async def publish(self, message: Any) -> Delivery:
        """Publish to the queue and wait for the broker's confirm."""
        return await self._producer.send(self._queue_name, message, wait=True)

    async def consume(self, handler: Callable[[dict[str, Any]], Any], *, concurrency: int = 1,
                      max_retries: int = 0, retry_delay: float = 1.0, dlq_topic: Any = None,
                      timeout: float | None = None) -> None:
        """Give each message to ``handler`` until ``close()`` is called, or it is cancelled. One
        that it raises on is logged and counted, after its retries, or goes to ``dlq_topic``."""
        consumer = Consumer(
            self._queue_name, [self._queue_name], handler, broker="rabbitmq",
            concurrency=concurrency, max_retries=max_retries, retry_delay=retry_delay,
            dlq_topic=dlq_topic, timeout=timeout, **self._settings)
        self._consumers.add(consumer)
        try:
            await consumer.run()
        finally:
            self._consumers.discard(consumer)

    async def close(self) -> None:
        """End ``consume``, flush and close."""
        await asyncio.gather(*(each.stop() for each in list(self._consumers)))
        await self._producer.stop()


class DomainEvent(Protocol):
    """What EventPublisher takes: a dataclass with these attributes."""

    @property
    def event_id(self) -> Any: ...
    @property
    def event_type(self) -> str: ...
    @property
    def occurred_at(self) -> Any: ...


class EventPublisher:
    """Publishes domain events to ``events.<event_type>``, keyed by their ``aggregate_id``."""

    def __init__(self, kafka: Producer) -> None:
        self._kafka = kafka

    async def publish(self, event: DomainEvent) -> Delivery:
        """Send an event with its id, type, time and data."""
        if not dataclasses.is_dataclass(event) or isinstance(event, type):
            raise InvalidMessage(f"a domain event is a dataclass, not a {type(event).__name__}")
        return await self._kafka.send(
            f"events.{event.event_type}",
            value={
                "event_id": event.event_id,
                "event_type": event.event_type,
                "occurred_at": event.occurred_at.isoformat(),
                "data": dataclasses.asdict(event),
            },
            key=getattr(event, "aggregate_id", None),
        )


class TaskWorker:
    """Runs the tasks of a queue: ``{"type": ..., "data": {...}}``, by the handler of their type.

    It has nothing to do with ``Worker``, and a subclass of that may have its name.
    """

    def __init__(self, queue: RabbitMQQueue) -> None:
        self._queue = queue
        self._handlers: dict[str, Callable[..., Any]] = {}
        self.unknown: dict[str, int] = {}  # tasks that nobody runs, by their type

    def register(self, task_type: str, handler: Callable[..., Any]) -> None:
        """Run ``handler(data)`` for tasks of that type; without ``async``, in a thread."""
        self._handlers[task_type] = handler

    async def start(self) -> None:
        """Connect, and run tasks until the queue is closed, or it is cancelled."""
        await self._queue.connect()
        await self._queue.consume(self._process_task)

    async def _process_task(self, message: dict[str, Any]) -> None:
        task_type = message.get("type")
        handler = self._handlers.get(task_type) if isinstance(task_type, str) else None
        if handler is None:
            self._count(str(task_type))
            return
        data = message.get("data", {})
        result = handler(data) if is_async(handler) else await in_thread(handler, data)
        if inspect.isawaitable(result):
            await result

    def _count(self, name: str) -> None:
        name = name if name in self.unknown or len(self.unknown) < _TYPES_MAX else "(others)"
        if name not in self.unknown:
            logger.warning("no handler is registered for tasks of type %r: they are counted, and "
                           "nothing else is done with them", name[:250])
        self.unknown[name] = self.unknown.get(name, 0) + 1

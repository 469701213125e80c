# SPDX-License-Identifier: Apache-2.0
"""KafkaProducer, RabbitMQQueue and EventPublisher, on the engine."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from salvo.messaging.delivery import Delivery
from salvo.messaging.errors import InvalidMessage
from salvo.messaging.producers import MISSING, Producer


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
    """A durable queue of the RabbitMQ at ``url``: what is published to it is persistent."""

    def __init__(self, url: str | None = None, queue_name: str = "") -> None:
        if not queue_name:
            raise InvalidMessage("RabbitMQQueue needs a queue_name")
        settings = {"rabbitmq_url": url} if url is not None else {}
        # The queue itself, whatever exchange the application's other messages go to.
        self._producer = Producer("rabbitmq", rabbitmq_exchange="", rabbitmq_exchange_type="",
                                  rabbitmq_routing_key="", rabbitmq_mandatory=True, **settings)
        self._queue_name = queue_name

    async def connect(self) -> None:
        """Open the engine. It connects in the background, and declares the queue with the first
        message; ``publish`` tells what goes wrong."""
        await self._producer.start()

    async def publish(self, message: Any) -> Delivery:
        """Publish to the queue and wait for the broker's confirm."""
        return await self._producer.send(self._queue_name, message, wait=True)

    async def close(self) -> None:
        """Flush and close."""
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

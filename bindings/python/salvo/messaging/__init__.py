# SPDX-License-Identifier: Apache-2.0
"""Messages to Kafka, Redis Streams, RabbitMQ or the embedded ``memory`` broker.

    from salvo.messaging import publish

    await publish("user-events", {"user_id": 1, "action": "created"})

``get_producer()`` gives the producer behind it; ``configure_messaging()``, ``core.toml``, ``.env``
and the environment say which broker it talks to; every exception is a ``MessagingError``.
"""

from salvo.messaging.asgi import lifespan, with_producers
from salvo.messaging.base import Event
from salvo.messaging.confluent import ConfluentProducer
from salvo.messaging.delivery import Delivery
from salvo.messaging.errors import (
    AuthenticationError,
    BrokerError,
    BufferFull,
    ConfigurationError,
    DeliveryError,
    Dropped,
    Expired,
    FatalError,
    Forked,
    InvalidMessage,
    KeyTypeError,
    LimitReached,
    MaybeDelivered,
    MessageTooLarge,
    MessagingError,
    NoSuchPartition,
    OutOfMemory,
    ProducerClosed,
    Rejected,
    SchemaError,
    SendTimeout,
    SerializationError,
    TransientError,
    UnknownTopic,
    Unreachable,
    Unsupported,
)
from salvo.messaging.events import event, event_failures, producer, publish, publish_event
from salvo.messaging.infrastructure import EventPublisher, KafkaProducer, RabbitMQQueue
from salvo.messaging.producers import Producer
from salvo.messaging.redis import RedisProducer
from salvo.messaging.registry import (
    get_producer,
    install_sigterm_handler,
    start_all_producers,
    stop_all_producers,
)
from salvo.messaging.settings import Settings, configure, configure_messaging
from salvo.messaging.sync import SyncProducer
from salvo.messaging.topics import (
    CommandTopic,
    EventTopic,
    StateTopic,
    Topic,
    get_all_topics,
    get_topic,
)

__all__ = [
    "AuthenticationError", "BrokerError", "BufferFull", "CommandTopic", "ConfigurationError",
    "ConfluentProducer", "Delivery", "DeliveryError", "Dropped", "Event", "EventPublisher",
    "EventTopic", "Expired", "FatalError", "Forked", "InvalidMessage", "KafkaProducer",
    "KeyTypeError", "LimitReached", "MaybeDelivered", "MessageTooLarge", "MessagingError",
    "NoSuchPartition", "OutOfMemory", "Producer", "ProducerClosed", "RabbitMQQueue",
    "RedisProducer", "Rejected", "SchemaError", "SendTimeout", "SerializationError", "Settings",
    "StateTopic", "SyncProducer", "Topic", "TransientError", "UnknownTopic", "Unreachable",
    "Unsupported", "configure", "configure_messaging", "event", "event_failures",
    "get_all_topics", "get_producer", "get_topic", "install_sigterm_handler", "lifespan",
    "producer", "publish", "publish_event", "start_all_producers", "stop_all_producers",
    "with_producers",
]

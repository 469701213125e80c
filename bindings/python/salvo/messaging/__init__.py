# SPDX-License-Identifier: Apache-2.0
"""Messages to Kafka, Redis Streams, RabbitMQ or the embedded ``memory`` broker.

    from salvo.messaging import publish

    await publish("user-events", {"user_id": 1, "action": "created"})

``get_producer()`` gives the producer behind it; ``configure_messaging()``, ``core.toml``, ``.env``
and the environment say which broker it talks to; every exception is a ``MessagingError``.
"""

from salvo.messaging.asgi import lifespan, with_producers
from salvo.messaging.avro import AvroModel, AvroType, avro_schema
from salvo.messaging.avro_wire import decode_confluent, decode_confluent_soon
from salvo.messaging.base import Event, Received
from salvo.messaging.confluent import ConfluentProducer
from salvo.messaging.consumers import (
    Consumer,
    RedisConsumer,
    consumers_for,
    create_consumer,
    get_kafka_consumer_class,
    start_all_consumers,
    stop_all_consumers,
)
from salvo.messaging.delivery import Delivery
from salvo.messaging.errors import (
    AuthenticationError,
    BadMessage,
    BrokerError,
    BufferFull,
    ConfigurationError,
    DeliveryError,
    Dropped,
    Expired,
    FatalError,
    Forked,
    IncompatibleSchema,
    InvalidMessage,
    InvalidSchema,
    KeyTypeError,
    LimitReached,
    MaybeDelivered,
    MessageTooLarge,
    MessagingError,
    NoSuchPartition,
    OutOfMemory,
    ProducerClosed,
    RegistryError,
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
from salvo.messaging.handlers import (
    consumer,
    get_all_consumers,
    get_all_event_handlers,
    get_all_message_handlers,
    message_handler,
    on_event,
    set_db_provider,
)
from salvo.messaging.infrastructure import (
    EventPublisher,
    KafkaConsumer,
    KafkaProducer,
    RabbitMQQueue,
    TaskWorker,
)
from salvo.messaging.producers import Producer
from salvo.messaging.redis import RedisProducer
from salvo.messaging.registry import (
    get_producer,
    install_sigterm_handler,
    start_all_producers,
    stop_all_producers,
)
from salvo.messaging.retry import RetryPolicy
from salvo.messaging.schema_registry import SchemaRegistry
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
from salvo.messaging.topics_admin import (
    Ensured,
    Lag,
    TopicInfo,
    create_topic,
    delete_topic,
    describe_topic,
    ensure_topics,
    group_lag,
    list_topics,
)
from salvo.messaging.workers import (
    Worker,
    WorkerRun,
    get_all_workers,
    get_worker,
    run_all_workers,
    run_worker,
    worker,
)

__all__ = [
    "AuthenticationError", "AvroModel", "AvroType", "BadMessage", "BrokerError", "BufferFull",
    "CommandTopic", "ConfigurationError", "ConfluentProducer", "Consumer", "Delivery",
    "DeliveryError", "Dropped", "Ensured", "Event", "EventPublisher", "EventTopic", "Expired",
    "FatalError", "Forked", "IncompatibleSchema", "InvalidMessage", "InvalidSchema",
    "KafkaConsumer", "KafkaProducer", "KeyTypeError", "Lag", "LimitReached", "MaybeDelivered",
    "MessageTooLarge", "MessagingError", "NoSuchPartition", "OutOfMemory", "Producer",
    "ProducerClosed", "RabbitMQQueue", "Received", "RedisConsumer", "RedisProducer",
    "RegistryError", "Rejected", "RetryPolicy", "SchemaError", "SchemaRegistry", "SendTimeout",
    "SerializationError", "Settings", "StateTopic", "SyncProducer", "TaskWorker", "Topic",
    "TopicInfo", "TransientError", "UnknownTopic", "Unreachable", "Unsupported", "Worker",
    "WorkerRun", "avro_schema", "configure", "configure_messaging", "consumer", "consumers_for",
    "create_consumer", "create_topic", "decode_confluent", "decode_confluent_soon",
    "delete_topic", "describe_topic", "ensure_topics", "event", "event_failures",
    "get_all_consumers", "get_all_event_handlers", "get_all_message_handlers", "get_all_topics",
    "get_all_workers", "get_kafka_consumer_class", "get_producer", "get_topic", "get_worker",
    "group_lag", "install_sigterm_handler", "lifespan", "list_topics", "message_handler",
    "on_event", "producer", "publish", "publish_event", "run_all_workers", "run_worker",
    "set_db_provider", "start_all_consumers", "start_all_producers", "stop_all_consumers",
    "stop_all_producers", "with_producers", "worker",
]

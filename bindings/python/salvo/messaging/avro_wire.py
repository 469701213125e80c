# SPDX-License-Identifier: Apache-2.0
"""Confluent's wire format: a zero byte, the schema's id in four bytes, the value in Avro.

Guarantees: the first message of a schema waits for its id (never blocking an event loop), all
later ones need no registry; a registry that is away is an error of that message, and the next one
tries again; nothing is sent for a message that does not fit its schema.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from salvo.messaging import avro, settings, topics
from salvo.messaging.avro_compile import AvroError, Compiled, compiled
from salvo.messaging.avro_types import is_record
from salvo.messaging.errors import (
    ConfigurationError,
    InvalidMessage,
    MessagingError,
    SchemaError,
    SerializationError,
)
from salvo.messaging.schema_registry import SchemaRegistry

if TYPE_CHECKING:
    from salvo import _engine

_AVRO_ITSELF: Any = object()  # the topic's schema is Avro: there is nothing to validate with

logger = logging.getLogger("salvo.messaging")

_PRELOAD_S = 2.0  # what start() waits at most; the rest goes on in the background
KEYS = ("kafka_schema_registry_url", "kafka_schema_registry_user",
         "kafka_schema_registry_password", "kafka_schema_registry_cafile",
         "kafka_schema_registry_certfile", "kafka_schema_registry_keyfile",
         "kafka_schema_registry_timeout_ms", "kafka_schema_auto_register",
         "kafka_subject_strategy")


class Wire:
    """Schemas and ids as one configuration has them."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        url, user, password, cafile, certfile, keyfile, timeout_ms, register, strategy = values
        self._client = SchemaRegistry(
            url, user=user, password=password, cafile=cafile, certfile=certfile, keyfile=keyfile,
            timeout=timeout_ms / 1000) if url else None
        self._register = register
        self._strategy = strategy
        self._headers: dict[tuple[str, Compiled], bytes] = {}
        # By topic class: encoder, header, the class whose instances need no validation.
        self._ready: dict[Any, tuple[Any, bytes, Any]] = {}

    @property
    def client(self) -> SchemaRegistry:
        """The registry's; ConfigurationError where there is none."""
        if self._client is None:
            raise ConfigurationError("Schema Registry not configured: set "
                                     "kafka_schema_registry_url, e.g. http://localhost:8081")
        return self._client

    @property
    def configured(self) -> bool:
        """Whether there is a registry."""
        return self._client is not None

    def subject(self, topic: str, schema: Compiled) -> str:
        """The subject of a topic's values: kafka_subject_strategy."""
        if self._strategy == "topic":
            return f"{topic}-value"
        if not schema.name:
            raise InvalidMessage(f'topic "{topic}": kafka_subject_strategy={self._strategy} needs '
                                 "a schema with a name: a record, an enum or a fixed")
        return schema.name if self._strategy == "record" else f"{topic}-{schema.name}"

    # --- ids ---

    def known_header(self, topic: str, schema: Compiled) -> bytes | None:
        """The five bytes before the value, if the id is known."""
        return self._headers.get((topic, schema))

    def header(self, topic: str, schema: Compiled) -> bytes:
        """The same; asks the registry, which may block."""
        known = self._headers.get((topic, schema))
        if known is not None:
            return known
        subject, client = self.subject(topic, schema), self.client
        ask = client.register if self._register else client.lookup
        made = struct.pack(">bi", 0, ask(subject, schema.text))
        if len(self._headers) >= 10_000:
            self._headers.clear()
        self._headers[topic, schema] = made
        return made

    async def header_soon(self, topic: str, schema: Compiled) -> bytes:
        """The same, without blocking the event loop."""
        known = self._headers.get((topic, schema))
        if known is not None:
            return known
        return await self.client.wait((topic, schema), lambda: self.header(topic, schema))

    # --- values ---

    def encoded(self, topic: str, schema: Compiled, value: Any, index: int | None = None) -> bytes:
        """A message with its header. SchemaError names topic, field and reason."""
        header = self._headers.get((topic, schema))
        if header is None:
            self.refuse_unfit(topic, schema, value, index)
            header = self.header(topic, schema)
        return self._encoded(topic, schema, value, header, index)

    def refuse_unfit(self, topic: str, schema: Compiled, value: Any,
                     index: int | None = None) -> None:
        """SchemaError for a value that does not fit: asked before the registry is, so that a
        schema whose first message is refused is not registered."""
        self._encoded(topic, schema, value, b"", index)

    @staticmethod
    def _encoded(topic: str, schema: Compiled, value: Any, header: bytes,
                 index: int | None) -> bytes:
        try:
            return schema.encode(value, header)
        except AvroError as error:
            raise SchemaError(topic, error.path, error.reason, index=index) from None

    def for_class(self, topic: type[topics.Topic], value: Any,
                  index: int | None = None) -> bytes | None:
        """A message to a topic class whose serializer is "avro": validated, then encoded. None is
        a null value."""
        if value is None:
            return None
        encode, header, model = self._ready.get(topic) or self._make_ready(topic)
        if type(value) is not model and model is not _AVRO_ITSELF:
            value = topics.validated_object(topic, value, index)
        try:
            return encode(value, header)  # type: ignore[no-any-return]
        except AvroError as error:
            raise SchemaError(topic.name, error.path, error.reason, index=index) from None

    def _make_ready(self, topic: type[topics.Topic]) -> tuple[Any, bytes, Any]:
        known = topic_schema(topic)
        schema: Any = topic.schema
        model = _AVRO_ITSELF if isinstance(schema, (dict, list)) else None
        if (model is None and isinstance(schema, type) and issubclass(schema, BaseModel)
                and schema.model_config.get("revalidate_instances", "never") == "never"):
            model = schema
        made = (known.encode, self.header(topic.name, known), model)
        self._ready[topic] = made
        return made

    async def make_ready(self, topic: type[topics.Topic]) -> None:
        """Have what ``for_class`` needs, so that it asks nobody."""
        if topic not in self._ready:
            await self.header_soon(topic.name, topic_schema(topic))

    def schema_by_id(self, number: int) -> Compiled:
        """The writer's schema; asks the registry, which may block."""
        return compiled(self.client.schema(number))

    def knows(self, data: bytes) -> bool:
        """Whether ``decode`` of this message asks nobody."""
        return (self._client is None or len(data) < 5
                or self._client.known_schema(int.from_bytes(data[1:5], "big")) is not None)

    def decode(self, data: bytes, model: Any = None) -> Any:
        """See ``decode_confluent``."""
        number = confluent_id(data)
        value = avro.decode(self.schema_by_id(number).schema, data[5:])
        return value if model is None else avro.model_from(model, value)

    # --- start ---

    async def preload(self) -> None:
        """Ask for the ids of all topic classes now. What fails is logged and tried again by the
        first message."""
        wanted = [topic for topic in topics.get_all_topics().values()
                  if topic.value_serializer == "avro" and topic.schema is not None]
        if self._client is None or not wanted:
            return
        tasks = {asyncio.ensure_future(self._preload_one(topic)) for topic in wanted}
        await asyncio.wait(tasks, timeout=_PRELOAD_S)

    async def _preload_one(self, topic: type[topics.Topic]) -> None:
        try:
            await self.header_soon(topic.name, topic_schema(topic))
        except MessagingError as error:
            logger.warning('topic "%s": its schema could not be asked for yet: %s', topic.name,
                           error)


def topic_schema(topic: type[topics.Topic]) -> Compiled:
    """The Avro schema of a topic class."""
    if topic.schema is None:
        raise InvalidMessage(f'topic "{topic.name}": value_serializer "avro" needs a schema: a '
                             "pydantic model, a dataclass or an Avro schema")
    if isinstance(topic.schema, (dict, list)):
        return compiled(topic.schema)
    return compiled(avro.schema_of(topic.schema))


def schema_for(topic: type[topics.Topic] | None, message: Any, schema: Any) -> Compiled:
    """The schema of a message: the given one, the topic class's, the message's own."""
    if schema is not None:
        return compiled(avro.schema_of(schema) if isinstance(schema, type) else schema)
    if topic is not None and topic.schema is not None:
        return topic_schema(topic)
    if is_record(type(message)):
        return compiled(avro.schema_of(type(message)))
    raise InvalidMessage("send_avro needs a schema: schema=, a topic class that has one, or a "
                         "message that is an AvroModel; nothing was sent")


def confluent_id(data: bytes) -> int:
    """The schema's id. SerializationError where there is no such header."""
    if len(data) < 5 or data[0] != 0:
        raise SerializationError("it is not in Confluent's wire format (a zero byte and a "
                                 "schema's id come first)")
    return int.from_bytes(data[1:5], "big")


# --- by configuration ---

_wires: dict[tuple[Any, ...], Wire] = {}
_current: tuple[int, Wire] | None = None


def wire_of(config: _engine.Config) -> Wire:
    """One per configuration, so that all producers and consumers share what was learnt."""
    values = tuple(settings.value_of(config, key) for key in KEYS)
    return _wires.get(values) or _wires.setdefault(values, Wire(values))


def current_wire() -> Wire:
    """That of the settings as they are now."""
    global _current
    generation = settings.generation
    if _current is None or _current[0] != generation:
        _current = (generation, wire_of(settings.effective()))
    return _current[1]


def decode_confluent(data: bytes, model: Any = None) -> Any:
    """A value in Confluent's wire format: plain values, or ``model``'s instance.

    The writer's schema comes from the registry the first time: that blocks. RegistryError when
    it cannot be had (a later call may succeed), SerializationError when the bytes are wrong.
    """
    return current_wire().decode(data, model)


async def decode_confluent_soon(data: bytes, model: Any = None) -> Any:
    """The same, without blocking the event loop."""
    wire = current_wire()
    if not wire.knows(data):
        number = confluent_id(data)
        await wire.client.wait(number, lambda: wire.client.schema(number))
    return wire.decode(data, model)

# SPDX-License-Identifier: Apache-2.0
"""Topics as classes, and validation of what is sent to them.

A topic given by its name never validates; a class with a ``schema`` does, by pydantic, before
anything is enqueued, and what is sent is the validated dump.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from salvo.messaging.errors import SchemaError, UnknownTopic

_topics: dict[str, type[Topic]] = {}
_adapters: dict[Any, TypeAdapter[Any]] = {}


class Topic:
    """A topic. Subclasses set ``name`` and register themselves under it.

    ``schema``: a pydantic model (or what pydantic's TypeAdapter takes), or None. ``retention_ms``
    is in milliseconds, None: the broker's. ``value_serializer``: "json" or "avro" (in Confluent's
    wire format; ``schema`` may be an Avro schema then).
    ``full_policy``: "block", "fail" or "drop_newest"; None: the configuration's.
    """

    name: ClassVar[str] = ""
    schema: ClassVar[Any] = None
    partitions: ClassVar[int] = 1
    replication_factor: ClassVar[int] = 1
    retention_ms: ClassVar[int | None] = None
    cleanup_policy: ClassVar[str] = "delete"
    value_serializer: ClassVar[str] = "json"
    full_policy: ClassVar[str | None] = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not cls.name:
            return
        before = _topics.get(cls.name)
        if before is not None:
            warnings.warn(
                f'topic "{cls.name}": {cls.__qualname__} takes the place of '
                f"{before.__module__}.{before.__qualname__}", stacklevel=2)
        _topics[cls.name] = cls


class EventTopic(Topic):
    """Facts that happened; kept for a while."""


class CommandTopic(Topic):
    """Requests for an action."""


class StateTopic(Topic):
    """The latest value per key; compacted."""

    cleanup_policy: ClassVar[str] = "compact"


def get_topic(name: str) -> type[Topic]:
    """The topic class of that name; UnknownTopic if there is none."""
    found = _topics.get(name)
    if found is None:
        known = ", ".join(sorted(_topics)) or "none"
        raise UnknownTopic(f'no topic class is named "{name}"; registered: {known}')
    return found


def get_all_topics() -> dict[str, type[Topic]]:
    """All registered topic classes by name (a copy)."""
    return dict(_topics)


def topic_of(topic: Any) -> tuple[str, type[Topic] | None]:
    """Name and class (None for a mere name) of what a caller gave as topic."""
    if isinstance(topic, str):
        return topic, None
    cls = topic if isinstance(topic, type) else type(topic)
    if not issubclass(cls, Topic):
        raise UnknownTopic(f"{topic!r} is no topic: a name or a Topic class is needed")
    if not cls.name:
        raise UnknownTopic(f"topic class {cls.__qualname__} has no name: set name = \"...\"")
    return cls.name, cls


def _plain(value: Any, schema: Any) -> Any:
    """What pydantic can validate against another schema than the value's own class."""
    if isinstance(schema, type) and isinstance(value, schema):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, msgspec.Struct) or hasattr(type(value), "__dataclass_fields__"):
        return msgspec.to_builtins(value, builtin_types=(bytes,))
    return value


def _adapter(schema: Any) -> TypeAdapter[Any]:
    adapter = _adapters.get(schema)
    if adapter is None:
        adapter = _adapters[schema] = TypeAdapter(schema)
    return adapter


def validated(topic: type[Topic], value: Any, index: int | None = None) -> Any:
    """The JSON bytes of the validated value; the value itself where there is no schema."""
    if topic.schema is None:
        return value
    return _checked(topic, value, index, dump=True)


def validated_object(topic: type[Topic], value: Any, index: int | None = None) -> Any:
    """What the schema makes of a value: a pydantic model's instance, usually."""
    return _checked(topic, value, index, dump=False)


def _checked(topic: type[Topic], value: Any, index: int | None, dump: bool) -> Any:
    adapter = _adapter(topic.schema)
    try:
        if isinstance(value, memoryview):
            value = value.tobytes()
        made = (adapter.validate_json(value) if isinstance(value, (bytes, bytearray, str))
                else adapter.validate_python(_plain(value, topic.schema)))
        return adapter.dump_json(made) if dump else made
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "$"
        raise SchemaError(topic.name, field, first["msg"], index=index) from None
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        # It cannot be looked at, or is valid and cannot be written (a field that takes Any).
        raise SchemaError(topic.name, "$", str(error), index=index) from None

# SPDX-License-Identifier: Apache-2.0
"""Avro: schemas from models, and models as Avro's binary form.

    class UserEvent(AvroModel):
        __avro_namespace__ = "com.myapp.events"
        user_id: int
        email: str

    UserEvent.avro_schema_json()
    data = UserEvent(user_id=1, email="a@b.c").to_avro()
    UserEvent.from_avro(data)

``to_avro()`` is bare Avro; ``producer.send_avro()`` adds Confluent's header, see avro_wire.py.
Reading needs fastavro (``pip install 'salvo-messaging[avro]'``), writing does not.
"""

from __future__ import annotations

import io
import json
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, overload

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError

from salvo.messaging.avro_compile import AvroError, Compiled, Schema, compiled
from salvo.messaging.avro_types import AvroType, Maker, Restore, is_record
from salvo.messaging.errors import InvalidSchema, SerializationError, Unsupported

__all__ = ["AvroError", "AvroModel", "AvroType", "avro_schema", "decode", "schema_of"]

_Model = TypeVar("_Model", bound="AvroModel")
_Class = TypeVar("_Class", bound=type)


class _Made:
    """What is known of a class: its schema, what restores values, what validates them."""

    __slots__ = ("restore", "schema", "validate")

    def __init__(self, model: Any) -> None:
        schema, restore = Maker().record(model, None)
        self.schema = Schema(schema)
        self.schema.compiled = Compiled(self.schema)
        self.restore: Restore | None = restore
        self.validate: Callable[[Any], Any]
        if issubclass(model, msgspec.Struct):
            self.validate = lambda value: msgspec.convert(value, model, strict=False)
        else:
            self.validate = TypeAdapter(model).validate_python


_made: weakref.WeakKeyDictionary[Any, _Made] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def _of(model: Any) -> _Made:
    found = _made.get(model)
    if found is None:
        if not is_record(model):
            raise InvalidSchema(f"{model!r} has no Avro schema: a pydantic model, a dataclass or "
                                "a msgspec struct is needed")
        with _lock:
            found = _made.setdefault(model, _Made(model))
    return found


def schema_of(model: Any) -> dict[str, Any]:
    """The Avro schema of a pydantic model, a dataclass or a msgspec struct: always the same dict,
    compiled once. Copy it before you change it."""
    return _of(model).schema


def encode(model: Any, value: Any) -> bytes:
    """A value by the schema of a class, bare. SerializationError names the field."""
    try:
        return _of(model).schema.compiled.encode(value)
    except AvroError as error:
        raise SerializationError(error.reason, path=error.path) from None


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError:
        raise Unsupported("reading Avro needs fastavro: pip install 'salvo-messaging[avro]'"
                          ) from None
    return fastavro


_parsed: dict[str, Any] = {}


def decode(schema: Any, data: bytes) -> Any:
    """Bare Avro as plain values: logical types as datetime, Decimal, UUID and so on. All of
    ``data`` must be one value. SerializationError tells what is wrong."""
    fastavro = _fastavro()
    text = compiled(schema).text
    parsed = _parsed.get(text)
    if parsed is None:
        if len(_parsed) >= 1024:
            _parsed.clear()
        parsed = _parsed[text] = fastavro.parse_schema(json.loads(text))
    stream = io.BytesIO(data)
    try:
        value = fastavro.schemaless_reader(stream, parsed)
    except Exception as error:  # whatever damaged bytes lead to: it has no class for that
        reason = str(error) or "it ends too early"
        raise SerializationError(f"no Avro of this schema: {reason}") from None
    if stream.tell() != len(data):
        raise SerializationError(f"no Avro of this schema: {len(data) - stream.tell()} bytes "
                                 "follow the value")
    return value


def model_from(model: Any, value: Any) -> Any:
    """A class's instance from what ``decode`` read. SerializationError names the field."""
    made = _of(model)
    try:
        return made.validate(value if made.restore is None else made.restore(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "$"
        raise SerializationError(first["msg"], path=path) from None
    except (msgspec.ValidationError, TypeError, ValueError, LookupError) as error:
        raise SerializationError(str(error)) from None


def from_avro(model: Any, data: bytes) -> Any:
    """A class's instance from bare Avro. SerializationError tells what is wrong."""
    return model_from(model, decode(_of(model).schema, data))


class AvroModel(BaseModel):
    """A pydantic model with an Avro schema. ``__avro_namespace__``: its namespace, None: none."""

    __avro_namespace__: ClassVar[str | None] = None

    @classmethod
    def __avro_schema__(cls) -> dict[str, Any]:
        """The schema, as a dict whose keys stand in the usual order. Copy it to change it."""
        return schema_of(cls)

    @classmethod
    def avro_schema_json(cls, indent: int | None = 2) -> str:
        """The schema as JSON text."""
        return json.dumps(schema_of(cls), indent=indent)

    def to_avro(self) -> bytes:
        """This object in Avro's binary form, without any header."""
        return encode(type(self), self)

    @classmethod
    def from_avro(cls: type[_Model], data: bytes) -> _Model:
        """The object of such bytes, validated."""
        made: _Model = from_avro(cls, data)
        return made


@overload
def avro_schema(cls: _Class, /) -> _Class: ...
@overload
def avro_schema(*, namespace: str | None = None) -> Callable[[_Class], _Class]: ...
def avro_schema(cls: Any = None, /, *, namespace: str | None = None) -> Any:
    """Give a pydantic model, a dataclass or a msgspec struct the methods of ``AvroModel``."""

    def add(model: Any) -> Any:
        if not is_record(model):
            raise InvalidSchema(f"@avro_schema: {model!r} is no pydantic model, dataclass or "
                                "msgspec struct")
        model.__avro_namespace__ = namespace
        model.__avro_schema__ = classmethod(schema_of)
        model.avro_schema_json = classmethod(
            lambda cls, indent=2: json.dumps(schema_of(cls), indent=indent))
        model.to_avro = lambda self: encode(type(self), self)
        model.from_avro = classmethod(from_avro)
        return model

    return add if cls is None else add(cls)

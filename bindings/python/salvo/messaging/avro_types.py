# SPDX-License-Identifier: Apache-2.0
"""Avro schemas from Python's types: pydantic models, dataclasses and msgspec structs.

The keys of a schema stand in the order in which people write them. A nested record is written
where it is met first and named after that; a default that is not null puts its branch first in a
union. What Avro has no type for (``Any``, the values of a bare ``dict``) becomes a string that
holds JSON; the schema says no more than "string" there, so the encoder is told by ``TextOf``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import math
import re
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from pydantic import BaseModel, PydanticUserError, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import PydanticUndefined

from salvo.messaging.errors import InvalidSchema

Restore = Callable[[Any], Any]  # what fastavro read, as pydantic takes it

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN: dict[Any, str] = {bool: "boolean", int: "long", float: "double", str: "string",
                          bytes: "bytes", bytearray: "bytes", type(None): "null"}
_LOGICAL: dict[Any, tuple[str, str]] = {
    datetime.datetime: ("long", "timestamp-millis"),
    datetime.date: ("int", "date"),
    datetime.time: ("long", "time-micros"),
    uuid.UUID: ("string", "uuid"),
}
_ROWS = (list, set, frozenset, tuple, collections.abc.Sequence, collections.abc.MutableSequence,
         collections.abc.Set, collections.abc.Iterable)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_PRECISION, _SCALE = 38, 18  # of a Decimal whose field says nothing
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_NO_DEFAULT: Any = object()


class TextOf(str):
    """The type "string", for a value that is no str: ``json`` tells whether it is written as JSON
    or by ``str``."""

    json: bool

    def __new__(cls, json: bool = True) -> TextOf:
        made = super().__new__(cls, "string")
        made.json = json
        return made


@dataclasses.dataclass(frozen=True)
class AvroType:
    """The Avro type of a field, where another than the usual one is wanted.

        created_at: Annotated[datetime, AvroType({"type": "long",
                                                  "logicalType": "timestamp-micros"})]
    """

    schema: Any


@dataclasses.dataclass
class _Field:
    name: str
    type: Any
    metadata: list[Any]
    default: Any  # _NO_DEFAULT: there is none
    source: str  # the name under which validation takes it


def _names_of(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or repr(annotation)


def _pydantic_fields(model: type[BaseModel]) -> list[_Field]:
    found = []
    for name, info in model.model_fields.items():
        if info.exclude is True:
            continue
        default = info.default
        if info.default_factory in (list, dict, set, tuple, frozenset):
            default = info.default_factory()
        alias = info.validation_alias or info.alias
        found.append(_Field(name, info.annotation, list(info.metadata),
                            _NO_DEFAULT if default is PydanticUndefined else default,
                            alias if isinstance(alias, str) else name))
    return found


def _other_fields(model: Any) -> list[_Field]:
    hints = typing.get_type_hints(model, include_extras=True)
    found = []
    if dataclasses.is_dataclass(model):
        for field in dataclasses.fields(model):
            default = field.default
            if field.default_factory in (list, dict, set, tuple, frozenset):
                default = field.default_factory()
            none = default is dataclasses.MISSING
            found.append((field.name, _NO_DEFAULT if none else default))
    else:
        for each in msgspec.structs.fields(model):
            default = each.default
            if each.default_factory in (list, dict, set, tuple, frozenset):
                default = each.default_factory()
            found.append((each.name, _NO_DEFAULT if default is msgspec.NODEFAULT else default))
    return [_Field(name, hints[name], [], default, name) for name, default in found]


def is_record(model: Any) -> bool:
    """Whether a schema of fields can be made from this class."""
    return isinstance(model, type) and (issubclass(model, (BaseModel, msgspec.Struct))
                                        or dataclasses.is_dataclass(model))


class Maker:
    """Makes one schema; knows the names that it has given so far."""

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}  # full name: the class it stands for
        self._restores: dict[Any, list[Restore | None]] = {}

    # --- records ---

    def record(self, model: Any, namespace: str | None,
               enclosing: str | None = None) -> tuple[Any, Restore | None]:
        """The schema of a class, and what restores its values (None: nothing to do)."""
        name = re.sub(r"\W+", "_", model.__name__).strip("_")
        own = namespace or getattr(model, "__avro_namespace__", None) or enclosing
        known = self._known(name, own, enclosing, model)
        if known is not None:
            box = self._restores[model]
            return known, lambda value: box[0](value) if box[0] is not None else value
        box = self._restores[model] = [None]
        made: dict[str, Any] = {"type": "record", "name": name}
        if own and own != enclosing:
            made["namespace"] = own
        made["fields"] = fields = []
        restores: list[tuple[str, str, Restore | None]] = []
        if issubclass(model, BaseModel):
            model.model_rebuild()  # forward references
        rows = _pydantic_fields(model) if issubclass(model, BaseModel) else _other_fields(model)
        for field in rows:
            where = f"{model.__qualname__}.{field.name}"
            if not _NAME.match(field.name):
                raise InvalidSchema(f"{where}: a name in Avro has letters, digits and _ only")
            node, restore = self.of(field.type, field.metadata, own, where, field.default)
            entry = {"name": field.name, "type": node}
            default = _default(field.default, node)
            if default is not _NO_DEFAULT:
                entry["default"] = default
            fields.append(entry)
            restores.append((field.name, field.source, restore))
        box[0] = _record_restore(restores)
        return made, box[0]

    def _known(self, name: str, namespace: str | None, enclosing: str | None,
               model: Any) -> str | None:
        full = f"{namespace}.{name}" if namespace else name
        before = self._named.setdefault(full, model)
        if before is not model:
            raise InvalidSchema(f'two types are called "{full}": {_names_of(before)} of '
                                f"{before.__module__} and {_names_of(model)} of "
                                f"{model.__module__}; set __avro_namespace__ on one of them")
        if model not in self._restores:
            return None
        return name if namespace == enclosing else full

    # --- types ---

    def of(self, kind: Any, metadata: list[Any], space: str | None, where: str,
           default: Any = _NO_DEFAULT) -> tuple[Any, Restore | None]:
        """The Avro type of a Python type. ``where``: for errors."""
        while True:
            if typing.get_origin(kind) is typing.Annotated:
                kind, *more = typing.get_args(kind)
                metadata = [*metadata, *more]
            elif hasattr(kind, "__supertype__"):  # NewType
                kind = kind.__supertype__
            elif type(kind).__name__ == "TypeAliasType":
                kind = kind.__value__
            else:
                break
        for part in metadata:
            if isinstance(part, AvroType):
                return part.schema, None
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self._union(list(args), metadata, space, where, default)
        if origin is typing.Literal:
            args = tuple(dict.fromkeys(type(value) for value in args))
            return self._union(list(args), [], space, where, default)
        if isinstance(kind, typing.TypeVar):
            kind = kind.__bound__ or Any
        if kind in _MAPS or origin in _MAPS:
            return self._map(args, space, where)
        if kind in _ROWS or origin in _ROWS:
            return self._array(args, space, where)
        return self._single(kind, metadata, space, where)

    def _single(self, kind: Any, metadata: list[Any], space: str | None,
                where: str) -> tuple[Any, Restore | None]:
        if kind is Any or kind is object:
            return TextOf(), json.loads
        if kind in _PLAIN:
            return _PLAIN[kind], None
        if kind in _LOGICAL:
            under, logical = _LOGICAL[kind]
            return {"type": under, "logicalType": logical}, None
        if is_record(kind):
            return self.record(kind, None, space)
        if inspect.isclass(kind):
            if issubclass(kind, enum.Enum):
                return self._enum(kind, space)
            if issubclass(kind, decimal.Decimal):
                return _decimal(metadata), None
            for base, name in _PLAIN.items():
                if issubclass(kind, base):
                    return name, None
            for base, (under, logical) in _LOGICAL.items():
                if issubclass(kind, base):
                    return {"type": under, "logicalType": logical}, None
        return _by_json_schema(kind, where)

    def _union(self, kinds: list[Any], metadata: list[Any], space: str | None, where: str,
               default: Any) -> tuple[Any, Restore | None]:
        made = [self.of(kind, metadata, space, where) for kind in kinds]
        branches: list[Any] = []
        for node, _ in made:
            for branch in node if isinstance(node, list) else [node]:
                if branch not in branches:
                    branches.append(branch)
        branches.sort(key=lambda branch: branch != "null")
        if default is not _NO_DEFAULT and default is not None:
            first = next((b for b in branches if _default(default, b) is not _NO_DEFAULT), None)
            branches.sort(key=lambda branch: branch is not first)
        unnamed = [branch if isinstance(branch, str) else branch["type"] for branch in branches
                   if not (isinstance(branch, dict) and "name" in branch)]
        if len(set(unnamed)) < len(unnamed):
            raise InvalidSchema(f"{where}: an Avro union cannot hold two types that are both "
                                f"{max(unnamed, key=unnamed.count)}")
        restores = [restore for _, restore in made if restore is not None]
        node = branches if len(branches) > 1 else branches[0]
        return node, _tried(restores) if restores else None

    def _map(self, args: tuple[Any, ...], space: str | None,
             where: str) -> tuple[Any, Restore | None]:
        key, kind = args if len(args) == 2 else (str, Any)
        if not (inspect.isclass(key) and issubclass(key, str)):
            raise InvalidSchema(f"{where}: the keys of an Avro map are str, not {_names_of(key)}")
        node, restore = self.of(kind, [], space, where)
        if restore is None:
            return {"type": "map", "values": node}, None
        each = restore
        return ({"type": "map", "values": node},
                lambda value: {name: each(part) for name, part in value.items()})

    def _array(self, args: tuple[Any, ...], space: str | None,
               where: str) -> tuple[Any, Restore | None]:
        kinds = [kind for kind in args if kind is not ...] or [Any]
        node, restore = (self.of(kinds[0], [], space, where) if len(set(kinds)) == 1
                         else self._union(kinds, [], space, where, _NO_DEFAULT))
        if restore is None:
            return {"type": "array", "items": node}, None
        each = restore
        return {"type": "array", "items": node}, lambda value: [each(part) for part in value]

    def _enum(self, kind: type[enum.Enum], space: str | None) -> tuple[Any, Restore | None]:
        known = self._known(kind.__name__, space, space, kind)
        values = [member.value for member in kind]
        by_value = all(isinstance(v, str) and _NAME.match(v) for v in values)
        names: dict[str, Any] = {} if by_value else {m.name: m.value for m in kind}
        restore: Restore | None = None if by_value else lambda value: names.get(value, value)
        self._restores.setdefault(kind, [restore])
        if known is not None:
            return known, restore
        return {"type": "enum", "name": kind.__name__,
                "symbols": values if by_value else list(names)}, restore


def _record_restore(rows: list[tuple[str, str, Restore | None]]) -> Restore | None:
    if all(name == source and restore is None for name, source, restore in rows):
        return None

    def restore_all(value: Any) -> Any:
        return {source: restore(value[name]) if restore is not None else value[name]
                for name, source, restore in rows}

    return restore_all


def _tried(restores: list[Restore]) -> Restore:
    """In a union a value may be of another branch: then it stays as it is."""

    def restore(value: Any) -> Any:
        for each in restores:
            try:
                return each(value) if value is not None else None
            except (TypeError, ValueError, LookupError, AttributeError):
                continue
        return value

    return restore


def _decimal(metadata: list[Any]) -> Any:
    precision, scale = _PRECISION, _SCALE
    digits = next((d for m in metadata if (d := getattr(m, "max_digits", None))), None)
    places = next((p for m in metadata if (p := getattr(m, "decimal_places", None)) is not None),
                  None)
    if digits is not None:
        precision = digits
    if places is not None or digits is not None:
        scale = min(places if places is not None else _SCALE, precision)
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def _by_json_schema(kind: Any, where: str) -> tuple[Any, Restore | None]:
    """Types of pydantic's own (EmailStr, AnyUrl): by what they are in JSON."""
    shown = None
    if kind not in (SecretStr, SecretBytes, datetime.timedelta, re.Pattern):
        try:
            shown = TypeAdapter(kind).json_schema(mode="serialization").get("type")
        except (PydanticUserError, TypeError, ValueError):
            pass
    plain: Any = {"string": TextOf(json=False), "integer": "long", "number": "double",
                  "boolean": "boolean"}.get(shown) if isinstance(shown, str) else None
    if plain is None:
        raise InvalidSchema(f"{where}: Avro has no type for {_names_of(kind)}; say which one with "
                            "Annotated[..., AvroType(...)]")
    return plain, None


# --- defaults ---


def _number_of_time(value: Any, logical: str) -> int:
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo is not None else value.astimezone()
        us = (aware - _EPOCH) // datetime.timedelta(microseconds=1)
        return us // 1000 if logical.endswith("millis") else us
    if isinstance(value, datetime.date):
        return value.toordinal() - 719163
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    us = seconds * 1_000_000 + value.microsecond
    return int(us // 1000 if logical.endswith("millis") else us)


def _default(value: Any, node: Any) -> Any:
    """A default as the schema writes it; _NO_DEFAULT: it cannot."""
    if isinstance(node, list):
        return _default(value, node[0]) if node else _NO_DEFAULT
    kind = node["type"] if isinstance(node, dict) else node
    logical = node.get("logicalType", "") if isinstance(node, dict) else ""
    if isinstance(node, TextOf):
        return _json_default(value) if node.json else _NO_DEFAULT
    if value is None:
        return None if kind == "null" else _NO_DEFAULT
    if isinstance(value, enum.Enum) and kind == "enum":
        return value.value if value.value in node["symbols"] else value.name
    if isinstance(value, enum.Enum):
        value = value.value
    if logical == "uuid" and isinstance(value, uuid.UUID):
        return str(value)
    if logical and isinstance(value, (datetime.date, datetime.time)):
        return _number_of_time(value, logical)
    if kind == "boolean":
        return value if isinstance(value, bool) else _NO_DEFAULT
    if kind in ("int", "long"):
        whole = isinstance(value, int) and not isinstance(value, bool) and not logical
        return int(value) if whole else _NO_DEFAULT
    if kind in ("float", "double"):
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if real and math.isfinite(value) else _NO_DEFAULT
    if kind == "string":
        return str(value) if isinstance(value, str) else _NO_DEFAULT
    if kind == "bytes" and not logical:
        return value.decode("latin-1") if isinstance(value, bytes) else _NO_DEFAULT
    return _default_of_many(value, node, kind)


def _json_default(value: Any) -> Any:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return _NO_DEFAULT


def _default_of_many(value: Any, node: Any, kind: Any) -> Any:
    if kind == "array" and isinstance(value, (list, tuple, set, frozenset)):
        made = [_default(part, node["items"]) for part in value]
        return _NO_DEFAULT if _NO_DEFAULT in made else made
    if kind == "map" and isinstance(value, dict):
        pairs = {name: _default(part, node["values"]) for name, part in value.items()}
        return _NO_DEFAULT if _NO_DEFAULT in pairs.values() else pairs
    if kind == "record":
        pairs = {field["name"]: _default(getattr(value, field["name"], _NO_DEFAULT),
                                         field["type"]) for field in node["fields"]}
        return _NO_DEFAULT if _NO_DEFAULT in pairs.values() else pairs
    return _NO_DEFAULT

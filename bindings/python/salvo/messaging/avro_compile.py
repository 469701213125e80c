# SPDX-License-Identifier: Apache-2.0
"""Avro schemas compiled into the extension's flat encoders, once each.

Guarantees: a schema is checked as far as writing needs it (types, names, references, sizes) and
what is wrong with it is said; the binary form is byte for byte what fastavro writes for the same
values. Decimals with more digits after the point than the scale are taken where these are zeros.
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
import threading
import uuid
from typing import Any

import msgspec
from pydantic import BaseModel

from salvo import _engine
from salvo.messaging.avro_types import TextOf
from salvo.messaging.encoding import encode as encode_json
from salvo.messaging.errors import InvalidSchema

# The extension's numbers of kinds (src/avro.h).
_KINDS = ("null", "boolean", "int", "long", "float", "double", "bytes", "string", "fixed", "enum",
          "array", "map", "union", "record", "decimal", "uuid", "date", "time-millis",
          "time-micros", "timestamp-millis", "timestamp-micros", "local-timestamp-millis",
          "local-timestamp-micros", "json")
_NUMBER = {name: number for number, name in enumerate(_KINDS)}
_UNDER = {"date": "int", "time-millis": "int", "time-micros": "long", "timestamp-millis": "long",
          "timestamp-micros": "long", "local-timestamp-millis": "long",
          "local-timestamp-micros": "long", "uuid": "string"}
_PRIMITIVES = frozenset(_KINDS[:8])
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_DEPTH_MAX = 100
_CACHE_MAX = 1024


class AvroError(ValueError):
    """A value that does not fit its schema: ``path`` says where (``$``: the whole), ``reason``
    why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


def _unscaled(value: Any, precision: int, scale: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = decimal.Decimal(value)
    if not isinstance(value, decimal.Decimal):
        raise ValueError(f"a Decimal is needed, not {type(value).__name__}")
    if not value.is_finite():
        raise ValueError(f"{value} is no number that a decimal can hold")
    sign, digits, exponent = value.as_tuple()
    shift = int(exponent) + scale
    if shift > 2 * precision + 1000:  # not worked out: it could have a billion digits
        raise ValueError(f"{value} has more than the {precision} digits of the schema's precision")
    number = int("".join(map(str, digits)))
    if shift >= 0:
        number *= 10**shift
    else:
        number, rest = divmod(number, 10**-shift) if -shift <= len(digits) else (0, number)
        if rest:
            raise ValueError(f"{value} has more than {scale} digits after the point, the "
                             "schema's scale")
    if number >= 10**precision:
        raise ValueError(f"{value} has more than the {precision} digits of the schema's precision")
    return -number if sign else number


def _adapt(kind: int, value: Any, size: int, precision: int, scale: int) -> Any:
    """What the extension does not encode by itself, as something that it does."""
    name = _KINDS[kind]
    if name == "decimal":
        if isinstance(value, (bytes, bytearray)):
            return value  # ready made
        number = _unscaled(value, precision, scale)
        length = size or (number.bit_length() + 8) // 8
        try:
            return number.to_bytes(length, "big", signed=True)
        except OverflowError:
            raise ValueError(f"{value} does not fit into {size} bytes") from None
    if name == "json":
        return encode_json(_boxed(value)) if precision else str(value).encode()
    if name == "date":
        return datetime.date.fromisoformat(value)
    if name.startswith("time-"):
        return datetime.time.fromisoformat(value)
    return datetime.datetime.fromisoformat(value)


def _boxed(value: Any) -> Any:
    """A text is written as JSON here, not as it is; None too."""
    if value is None or isinstance(value, (str, bytes, bytearray, memoryview)):
        return msgspec.Raw(msgspec.json.encode(value))
    return value


class _Compiler:
    """Nodes and fields of one schema."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.fields: list[tuple[str | None, int]] = []
        self.defaults: list[tuple[int, int, Any, Any]] = []  # field, node, schema, value
        self.named: dict[str, int] = {}
        self.schemas: dict[str, Any] = {}

    def _node(self, kind: str, a: int = 0, b: int = 0, c: int = 0, names: Any = None) -> int:
        self.nodes.append((_NUMBER[kind], a, b, c, names))
        return len(self.nodes) - 1

    def add(self, schema: Any, space: str, depth: int = 0) -> int:
        """The node of a schema."""
        if depth > _DEPTH_MAX:
            raise InvalidSchema(f"schema: nested more than {_DEPTH_MAX} levels deep")
        if isinstance(schema, TextOf):
            return self._node("json", 0, int(schema.json))
        if isinstance(schema, str):
            return self._by_name(schema, space)
        if isinstance(schema, list):
            return self._union(schema, space, depth)
        if not isinstance(schema, dict) or "type" not in schema:
            raise InvalidSchema(f"schema: {_shown(schema)} is no type: a name, a list or an "
                                'object with "type" is needed')
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.add(kind, space, depth + 1)
        if kind in ("record", "error"):
            return self._record(schema, space, depth)
        if kind == "enum":
            return self._enum(schema, space)
        if kind == "fixed":
            return self._fixed(schema, space)
        if kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            if part not in schema:
                raise InvalidSchema(f'schema: {_shown(schema)} lacks "{part}"')
            at = self._node(kind)
            row = self.nodes[at]
            self.nodes[at] = (row[0], self.add(schema[part], space, depth + 1), 0, 0, None)
            return at
        return self._logical(schema, kind, space)

    def _by_name(self, name: str, space: str) -> int:
        if name in _PRIMITIVES:
            return self._node(name)
        full = name if "." in name or not space else f"{space}.{name}"
        found = self.named.get(full, self.named.get(name))
        if found is None:
            raise InvalidSchema(f'schema: there is no type "{name}" before its first use')
        return found

    def _logical(self, schema: dict[str, Any], kind: str, space: str) -> int:
        logical = schema.get("logicalType")
        if isinstance(logical, str) and _UNDER.get(logical) == kind:
            return self._node(logical)
        if logical == "decimal" and kind == "bytes" and _is_decimal(schema):
            return self._node("decimal", 0, schema["precision"], schema.get("scale", 0))
        if isinstance(schema["type"], TextOf):
            return self.add(schema["type"], space)
        return self._by_name(kind, space)

    def _name(self, schema: dict[str, Any], space: str) -> tuple[str, str]:
        """Full name and namespace of a named type."""
        name, given = schema.get("name"), schema.get("namespace", space) or ""
        if not isinstance(name, str) or not _NAME.match(name) or not isinstance(given, str):
            raise InvalidSchema(f"schema: {_shown(schema)} needs a name of letters, digits and _")
        full = name if "." in name or not given else f"{given}.{name}"
        if full in self.named:
            raise InvalidSchema(f'schema: "{full}" is defined twice')
        self.schemas[full] = schema
        return full, full.rpartition(".")[0]

    def _enum(self, schema: dict[str, Any], space: str) -> int:
        full, _ = self._name(schema, space)
        symbols = schema.get("symbols")
        if not isinstance(symbols, list) or len(set(map(str, symbols))) < len(symbols) or not all(
                isinstance(symbol, str) for symbol in symbols):
            raise InvalidSchema(f'schema: the symbols of enum "{full}" must be a list of texts, '
                                "none of them twice")
        at = self._node("enum", names={symbol: i for i, symbol in enumerate(symbols)})
        self.named[full] = at
        return at

    def _fixed(self, schema: dict[str, Any], space: str) -> int:
        full, _ = self._name(schema, space)
        size = schema.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
            raise InvalidSchema(f'schema: the size of fixed "{full}" must be 0 or more')
        if schema.get("logicalType") == "decimal" and _is_decimal(schema) and size:
            at = self._node("decimal", size, schema["precision"], schema.get("scale", 0))
        else:
            at = self._node("fixed", size)
        self.named[full] = at
        return at

    def _union(self, branches: list[Any], space: str, depth: int) -> int:
        if not branches:
            raise InvalidSchema("schema: a union needs a branch")
        at = self._node("union")
        nodes = [self.add(branch, space, depth + 1) for branch in branches]
        names: dict[str, int] = {}
        for i, branch in enumerate(branches):
            if isinstance(branch, list):
                raise InvalidSchema("schema: a union cannot hold a union directly")
            name = self._branch_name(branch, space)
            if names.setdefault(name, i) != i:
                raise InvalidSchema(f"schema: a union cannot hold {name} twice")
        first = len(self.fields)
        self.fields.extend((None, node) for node in nodes)
        self.nodes[at] = (_NUMBER["union"], first, len(nodes), names.get("null", -1), names)
        return at

    def _branch_name(self, branch: Any, space: str) -> str:
        kind = branch["type"] if isinstance(branch, dict) else branch
        if isinstance(branch, dict) and "name" in branch:
            given = branch.get("namespace", space) or ""
            name = branch["name"]
            return name if "." in name or not given else f"{given}.{name}"
        if isinstance(kind, str) and kind not in _PRIMITIVES and kind not in ("array", "map"):
            return kind if "." in kind or not space else f"{space}.{kind}"
        return str(kind)

    def _record(self, schema: dict[str, Any], space: str, depth: int) -> int:
        full, inner = self._name(schema, space)
        rows = schema.get("fields")
        if not isinstance(rows, list):
            raise InvalidSchema(f'schema: record "{full}" lacks its list of fields')
        at = self.named[full] = self._node("record")
        found: list[tuple[str, int]] = []
        for row in rows:
            name = row.get("name") if isinstance(row, dict) else None
            if not isinstance(name, str) or "type" not in row:
                raise InvalidSchema(f'schema: a field of "{full}" lacks its name or its type')
            if any(name == before for before, _ in found):
                raise InvalidSchema(f'schema: record "{full}" has the field "{name}" twice')
            found.append((name, self.add(row["type"], inner, depth + 1)))
        first = len(self.fields)
        self.fields.extend(found)
        self.nodes[at] = (_NUMBER["record"], first, len(found), 0, None)
        for i, row in enumerate(rows):
            if "default" in row:
                self.defaults.append((first + i, found[i][1], row["type"], row["default"]))
        return at

    # --- defaults ---

    def datum(self, node: int, value: Any) -> Any:
        """A default of the schema's JSON as a value to encode."""
        kind, a, b, _, _ = self.nodes[node]
        name = _KINDS[kind]
        if name == "union":
            branch = self.fields[a][1]
            names = self.nodes[node][4]
            first = next(key for key, at in names.items() if at == 0)
            return None if first == "null" and value is None else (first,
                                                                   self.datum(branch, value))
        if name in ("bytes", "fixed", "decimal") and isinstance(value, str):
            return value.encode("latin-1")
        if name == "array" and isinstance(value, list):
            return [self.datum(a, part) for part in value]
        if name == "map" and isinstance(value, dict):
            return {key: self.datum(a, part) for key, part in value.items()}
        if name == "record" and isinstance(value, dict):
            nodes = dict(self.fields[a : a + b])
            return {key: self.datum(nodes[key], part) for key, part in value.items()
                    if key in nodes}
        if name == "json" and isinstance(value, str) and b:
            return json.loads(value)
        return value


def _is_decimal(schema: dict[str, Any]) -> bool:
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    return (isinstance(precision, int) and isinstance(scale, int)
            and 0 < precision <= 10_000 and 0 <= scale <= precision)


def _shown(schema: Any) -> str:
    text = repr(schema)
    return text if len(text) <= 80 else text[:77] + "..."


class Compiled:
    """A schema with its encoder, its text and its full name."""

    __slots__ = ("encode", "name", "schema", "text")

    def __init__(self, schema: Any) -> None:
        compiler = _Compiler()
        try:
            compiler.add(schema, "")  # node 0
            self.text = json.dumps(schema, separators=(",", ":"))
        except (RecursionError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InvalidSchema):
                raise
            raise InvalidSchema(f"schema: {error}") from None
        encoder = _engine.AvroEncoder(compiler.nodes, compiler.fields, _adapt, AvroError,
                                      BaseModel, uuid.UUID)
        for field, node, _, value in compiler.defaults:
            try:
                encoder.set_default(field, encoder.encode(compiler.datum(node, value), b"", node))
            except (AvroError, ValueError, LookupError) as error:
                name = compiler.fields[field][0]
                raise InvalidSchema(f'schema: the default of field "{name}" does not fit its '
                                    f"type: {error}") from None
        self.schema = schema
        self.encode = encoder.encode
        named = isinstance(schema, dict) and "name" in schema and bool(compiler.schemas)
        self.name = next(iter(compiler.schemas)) if named else ""


class Schema(dict[str, Any]):
    """The schema of a class: a dict, made and compiled once. Copy it before you change it."""

    __slots__ = ("compiled",)
    compiled: Compiled


_cache: dict[Any, Compiled] = {}
_lock = threading.Lock()


def compiled(schema: Any) -> Compiled:
    """The compiled form of a schema: a dict, a list (a union), or its text."""
    if type(schema) is Schema:
        return schema.compiled
    try:
        mark = schema if isinstance(schema, (str, bytes)) else msgspec.json.encode(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSchema(f"schema: {error}") from None
    found = _cache.get(mark)
    if found is None:
        found = _made(schema)
        with _lock:
            if len(_cache) >= _CACHE_MAX:
                _cache.clear()
            _cache[mark] = found
    return found


def _made(schema: Any) -> Compiled:
    if isinstance(schema, (str, bytes)) and schema not in _PRIMITIVES:
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise InvalidSchema(f"schema: {error}") from None
    return Compiled(schema)

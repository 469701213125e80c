# SPDX-License-Identifier: Apache-2.0
"""Whether a text is an Avro schema, and whether a reader's schema can read a writer's: the rules of
the Avro specification's schema resolution, as far as a registry needs them."""

from __future__ import annotations

import json
from typing import Any

PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
PROMOTIONS = {"int": {"long", "float", "double"}, "long": {"float", "double"},
              "float": {"double"}, "string": {"bytes"}, "bytes": {"string"}}


class Schema:
    """A parsed schema with its names."""

    def __init__(self, text: str) -> None:
        self.named: dict[str, Any] = {}
        self.root = self._parse(json.loads(text), "")

    def _parse(self, schema: Any, space: str) -> Any:
        """A type with its references as full names."""
        if isinstance(schema, list):
            return [self._parse(branch, space) for branch in schema]
        if isinstance(schema, str):
            if schema in PRIMITIVES:
                return {"type": schema}
            full = schema if "." in schema or not space else f"{space}.{schema}"
            if full not in self.named:
                raise ValueError(f'Undefined name: "{schema}"')
            return {"type": "ref", "name": full}
        if not isinstance(schema, dict):
            raise ValueError(f"No type: {schema!r}")
        kind = schema.get("type")
        if not isinstance(kind, str):
            return self._parse(kind, space)
        if kind in PRIMITIVES:
            return {"type": kind}
        if kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            return {"type": kind, "of": self._parse(schema[part], space)}
        if kind in ("record", "enum", "fixed"):
            return self._named(schema, kind, schema.get("namespace", space))
        return self._parse(kind, space)

    def _named(self, schema: dict[str, Any], kind: str, space: str) -> Any:
        name = schema["name"]
        full = name if "." in name or not space else f"{space}.{name}"
        if full in self.named:
            raise ValueError(f"Can't redefine: {full}")
        made = self.named[full] = {"type": kind, "name": full}
        if kind == "enum":
            made.update(symbols=schema["symbols"], default=schema.get("default"))
        elif kind == "fixed":
            made["size"] = int(schema["size"])
        else:
            made["fields"] = [(field["name"], self._parse(field["type"], full.rpartition(".")[0]),
                               "default" in field, field.get("aliases", []))
                              for field in schema["fields"]]
        return made

    def of(self, node: Any) -> Any:
        """What a reference means."""
        if isinstance(node, dict) and node["type"] == "ref":
            return self.named[node["name"]]
        return node


def parse(text: str) -> Schema:
    """ValueError for what is no schema."""
    try:
        return Schema(text)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"Invalid schema: {error!r}") from None


class _Comparison:
    def __init__(self, reader: Schema, writer: Schema) -> None:
        self.reader, self.writer = reader, writer
        self.seen: set[tuple[str, str]] = set()

    def problems(self, reader: Any, writer: Any, path: str) -> list[str]:
        reader, writer = self.reader.of(reader), self.writer.of(writer)
        if isinstance(writer, list):
            found = [self.problems(reader, branch, path) for branch in writer]
            return [text for each in found for text in each]
        if isinstance(reader, list):
            if any(not self.problems(branch, writer, path) for branch in reader):
                return []
            return [f"TYPE_MISMATCH at {path}: the reader's union lacks {writer['type']}"]
        wants, has = reader["type"], writer["type"]
        if wants != has:
            fits = wants in PROMOTIONS.get(has, ())
            return [] if fits else [f"TYPE_MISMATCH at {path}: reader type {wants} not compatible "
                                    f"with writer type {has}"]
        if wants in ("array", "map"):
            return self.problems(reader["of"], writer["of"], f"{path}/{wants}")
        return self._same_named(reader, writer, path) if "name" in reader else []

    def _same_named(self, reader: Any, writer: Any, path: str) -> list[str]:
        if reader["name"].rpartition(".")[2] != writer["name"].rpartition(".")[2]:
            return [f"NAME_MISMATCH at {path}: {reader['name']} is not {writer['name']}"]
        if reader["type"] == "fixed" and reader["size"] != writer["size"]:
            return [f"FIXED_SIZE_MISMATCH at {path}"]
        if reader["type"] == "enum":
            lost = set(writer["symbols"]) - set(reader["symbols"])
            return [f"MISSING_ENUM_SYMBOLS at {path}: {', '.join(sorted(lost))}"
                    ] if lost and reader["default"] is None else []
        pair = (reader["name"], writer["name"])
        if reader["type"] != "record" or pair in self.seen:
            return []
        self.seen.add(pair)
        fields = {name: node for name, node, _, _ in writer["fields"]}
        found = []
        for name, node, has_default, aliases in reader["fields"]:
            known = next((n for n in [name, *aliases] if n in fields), None)
            if known is not None:
                found += self.problems(node, fields[known], f"{path}/{name}")
            elif not has_default:
                found.append(f"READER_FIELD_MISSING_DEFAULT_VALUE at {path}: the field '{name}' "
                             "has no default value and is missing in the old schema")
        return found


def problems(reader: Schema, writer: Schema) -> list[str]:
    """Why the reader's schema cannot read what the writer's wrote; empty: it can."""
    return _Comparison(reader, writer).problems(reader.root, writer.root, "")

# SPDX-License-Identifier: Apache-2.0
"""What the commands print: tables for people, JSON for programs.

Guarantees: nothing that came from a message or a server can write control characters to a
terminal; a table that is not for a terminal is never cut to a width.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

Row = Mapping[str, Any]


def note(text: str) -> None:
    """A line of progress, or of what went wrong."""
    sys.stderr.write(f"core: {clean(text)}\n")
    sys.stderr.flush()


def clean(text: str) -> str:
    """The text with control characters written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
                   for c in text)


def cell(value: Any) -> str:
    """A value in a table; what is not known is "-"."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(part) for part in value) or "-"
    if isinstance(value, bytes):
        return clean(value.decode("utf-8", "backslashreplace"))
    return clean(str(value))


def as_json(data: Any) -> str:
    """On one line; bytes as text, with escapes where they are none."""
    return msgspec.json.encode(_jsonable(data)).decode()


def _jsonable(data: Any) -> Any:
    if isinstance(data, bytes):
        return data.decode("utf-8", "backslashreplace")
    if isinstance(data, Mapping):
        return {str(key): _jsonable(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_jsonable(part) for part in data]
    return data


def write(text: str) -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def rows_as(rows: Sequence[Row], columns: Mapping[str, str], json: bool) -> None:
    """Print rows: ``columns`` is from a row's key to its heading. JSON: a list of objects with all
    that the rows have. A table that is too wide for its terminal becomes a block for each row."""
    if json:
        write(as_json(list(rows)))
        return
    lines = _table(rows, columns)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if width is not None and rows and max(map(len, lines)) > width:
        lines = _blocks(rows, columns)
    write("\n".join(lines))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _table(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    lines = [list(columns.values()), *([cell(row.get(key)) for key in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [any(_is_number(row.get(key)) for row in rows) for key in columns]
    return ["  ".join(part.rjust(width) if to_right else part.ljust(width) for part, width, to_right
                      in zip(line, widths, right, strict=True)).rstrip() for line in lines]


def _blocks(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    width = max(map(len, columns.values()))
    blocks = ["\n".join(f"{heading.ljust(width)}  {cell(row.get(key))}"
                        for key, heading in columns.items()) for row in rows]
    return ["\n\n".join(blocks)]


def time_text(timestamp_ms: int) -> str:
    """Milliseconds since 1970 as UTC; "" where there are none."""
    if timestamp_ms <= 0:
        return ""
    try:
        when = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

# SPDX-License-Identifier: Apache-2.0
"""What handlers get: ``Received``, a message as a dict; ``Event``, its envelope read.

The envelope is written in one form and read from any of the documented ones."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from salvo._engine import Message
from salvo.messaging.errors import BadMessage
from salvo.messaging.settings import source_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_000  # of the year 9999


def envelope(name: str, data: Any, source: str | None = None) -> dict[str, Any]:
    """``{"id", "name", "data", "timestamp", "source"}``; timestamp in UTC, RFC 3339 with Z."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"id": str(uuid.uuid4()), "name": name, "data": data, "timestamp": now,
            "source": source if source is not None else source_name()}


class Received(dict[str, Any]):
    """A message's JSON object, which knows where it was read: ``topic``, ``partition``,
    ``offset``, ``key``, ``headers``, ``timestamp`` (milliseconds since 1970), ``value`` (the bytes;
    None with an empty dict: a null value, as compacted topics have them)."""

    __slots__ = ("message",)

    message: Message

    @classmethod
    def of(cls, message: Any) -> Received:
        """BadMessage: the value is no JSON, or no object."""
        data = message.json()
        if type(data) is not dict:
            if data is not None or message.value is not None:
                raise no_object(message, data)
            data = {}
        received = cls(data)
        received.message = message
        return received

    @property
    def topic(self) -> str:
        """Its topic."""
        return self.message.topic

    @property
    def partition(self) -> int:
        """Its partition; 0 where there are none."""
        return self.message.partition

    @property
    def offset(self) -> int:
        """Its place in the partition."""
        return self.message.offset

    @property
    def key(self) -> bytes | None:
        """Its key."""
        return self.message.key

    @property
    def headers(self) -> dict[str, bytes | None]:
        """Its headers, a new dict each time."""
        return self.message.headers

    @property
    def timestamp(self) -> int:
        """When it was sent, in milliseconds since 1970."""
        return self.message.timestamp

    @property
    def value(self) -> bytes | None:
        """Its bytes."""
        return self.message.value


def no_object(message: Any, data: Any) -> BadMessage:
    """What is wrong with JSON that is a list or a number."""
    return BadMessage(message.topic, message.partition, message.offset, "$",
                      f"a JSON object is needed, not a {type(data).__name__}")


def event_name(data: Mapping[str, Any]) -> str:
    """The name in an envelope of any form; empty: it has none."""
    name = data.get("name") or data.get("event_type") or data.get("event")
    return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was read; ``timestamp`` is aware, None where the message has none."""

    name: str
    data: Any
    id: str | None = None
    timestamp: datetime | None = None
    source: str | None = None
    topic: str | None = None
    partition: int = -1
    offset: int = -1
    key: bytes | None = None
    headers: Mapping[str, bytes | None] = field(default_factory=dict)

    @classmethod
    def from_message(cls, message: Mapping[str, Any], **place: Any) -> Event:
        """From any form of envelope: name from ``name``, ``event_type`` or ``event``; id from
        ``id`` or ``event_id``; time from ``timestamp`` or ``occurred_at``."""
        number = message.get("id") or message.get("event_id")
        return cls(name=event_name(message), data=message.get("data"),
                   id=str(number) if number is not None else None,
                   timestamp=_time(message.get("timestamp") or message.get("occurred_at")),
                   source=message.get("source"), **place)

    @classmethod
    def of(cls, message: Any, data: Mapping[str, Any]) -> Event:
        """What was read, with where; without a time of its own it has the message's."""
        found = cls.from_message(
            data, topic=message.topic, partition=message.partition, offset=message.offset,
            key=message.key, headers=message.headers)
        if found.timestamp is None:
            object.__setattr__(found, "timestamp", _EPOCH + timedelta(
                milliseconds=max(0, min(message.timestamp, _LAST_MS))))
        return found


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)

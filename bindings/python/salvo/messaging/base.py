# SPDX-License-Identifier: Apache-2.0
"""The event envelope: written in one form, read from any of the documented ones."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from salvo.messaging.settings import source_name


def envelope(name: str, data: Any, source: str | None = None) -> dict[str, Any]:
    """``{"id", "name", "data", "timestamp", "source"}``; timestamp in UTC, RFC 3339 with Z."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"id": str(uuid.uuid4()), "name": name, "data": data, "timestamp": now,
            "source": source if source is not None else source_name()}


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
        name = message.get("name") or message.get("event_type") or message.get("event") or ""
        number = message.get("id") or message.get("event_id")
        return cls(name=str(name), data=message.get("data"),
                   id=str(number) if number is not None else None,
                   timestamp=_time(message.get("timestamp") or message.get("occurred_at")),
                   source=message.get("source"), **place)


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)

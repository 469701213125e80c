# SPDX-License-Identifier: Apache-2.0
"""For tests: what arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from salvo import _engine
from salvo.messaging.errors import MessagingError
from salvo.messaging.producers import Producer
from salvo.messaging.registry import get_producer
from salvo.messaging.topics import topic_of

_NO_SUCH_TOPIC = -8


@dataclass(frozen=True, slots=True)
class Record:
    """A message as the broker holds it. ``timestamp`` in milliseconds since 1970."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    def json(self) -> Any:
        """The value, decoded."""
        return msgspec.json.decode(self.value if self.value is not None else b"null")


def records(topic: Any, producer: Producer | None = None, timeout: float = 10.0) -> list[Record]:
    """All that the broker holds of a topic now, from its first message on, after a flush.

    Blocks. With the ``memory`` broker it reads this process's own; a topic that nothing was sent
    to is empty.
    """
    name, _ = topic_of(topic)
    facade = producer if producer is not None else get_producer()
    native = facade._ready()
    native.flush(timeout)
    of = native if native.broker == "memory" else None
    place = native.places.get(name)
    if of is not None and (place is None or native.ledger(place.id)["accepted"] == 0):
        return []
    try:
        rows = _engine.read(native.config, of, name, int(timeout * 1000))
    except MessagingError as error:
        if error.code == _NO_SUCH_TOPIC:
            return []
        raise
    return [Record(*row) for row in rows]

# SPDX-License-Identifier: Apache-2.0
"""Dead letters: messages that were given up, with the facts of their failure.

Guarantees: value and key are the original's, byte for byte; its headers are kept beside the
``salvo-*`` ones, which are those of the last failure only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from salvo._engine import Message
from salvo.messaging.retry import cause_of
from salvo.messaging.topics import topic_of

PREFIX = "salvo-"
ERROR, ERROR_TYPE = "salvo-error", "salvo-error-type"
ATTEMPTS, FAILED_AT = "salvo-attempts", "salvo-failed-at"
TOPIC, PARTITION = "salvo-original-topic", "salvo-original-partition"
OFFSET, TIMESTAMP = "salvo-original-offset", "salvo-original-timestamp"
_ERROR_BYTES_MAX = 1024
_HEADERS_MAX, _OWN_HEADERS = 64, 8


class Write(NamedTuple):
    """Something to be sent before a message is acknowledged."""

    topic: str
    value: Any
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def error_text(error: BaseException) -> str:
    """An exception's own words, at most 1 KB of UTF-8; its class where it has none."""
    try:
        text = str(error) or type(error).__name__
    except Exception:  # a bad exception
        text = type(error).__name__
    short = text.encode("utf-8", "replace")[:_ERROR_BYTES_MAX]
    return short.decode("utf-8", "ignore")


class DeadLetter:
    """Where messages go that were given up: the name of a topic, or its class."""

    def __init__(self, topic: Any) -> None:
        self.topic, _ = topic_of(topic)

    def write(self, message: Message, error: Exception, attempts: int) -> Write:
        """The dead letter of a message that failed ``attempts`` times, lastly with ``error``."""
        cause = cause_of(error)
        facts = {
            ERROR: error_text(cause),
            ERROR_TYPE: type(cause).__name__,
            ATTEMPTS: str(attempts),
            TOPIC: message.topic,
            PARTITION: str(message.partition),
            OFFSET: str(message.offset),
            TIMESTAMP: str(message.timestamp),
            FAILED_AT: f"{datetime.now(UTC).replace(tzinfo=None).isoformat('T', 'milliseconds')}Z",
        }
        kept = [(name, value) for name, value in message.headers.items()
                if not name.startswith(PREFIX)][:_HEADERS_MAX - _OWN_HEADERS]
        headers = [*kept, *((name, text.encode()) for name, text in facts.items())]
        return Write(self.topic, message.value, message.key, tuple(headers))

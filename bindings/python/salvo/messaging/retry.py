# SPDX-License-Identifier: Apache-2.0
"""When a message whose handler failed is tried again, and which failures never are.

Guarantees: a delay is at least 0 and at most ``max_delay``, for any number of retries; a message
that no retry can mend (no JSON, against its schema, too large) is not tried again at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from salvo.messaging.errors import (
    BadMessage,
    ConfigurationError,
    InvalidMessage,
    KeyTypeError,
    MessageTooLarge,
    NoSuchPartition,
    Rejected,
    SchemaError,
    SerializationError,
)

BACKOFFS = ("fixed", "linear", "exponential")
_REJECTED = -17  # for good; -8, which is Rejected too, is a topic that may be made yet


class Poison(Exception):
    """A failure of the message itself: it goes to the dead letter topic without retries."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when a failed message is tried again.

    ``max_retries``: after the first attempt. ``backoff``: "fixed" (d, d, d), "linear" (d, 2d, 3d)
    or "exponential" (d, 2d, 4d), d being ``initial_delay`` seconds; no delay is longer than
    ``max_delay``. ``retry_on``: the exceptions that are worth it.
    """

    max_retries: int = 3
    backoff: str = "exponential"
    initial_delay: float = 1.0
    max_delay: float = 60.0
    retry_on: Any = (Exception,)

    def __post_init__(self) -> None:
        if not _is_number(self.max_retries, int) or self.max_retries < 0:
            raise ConfigurationError(f"max_retries {self.max_retries!r}: 0 or more is allowed")
        if self.backoff not in BACKOFFS:
            raise ConfigurationError(f"retry backoff {self.backoff!r}: allowed: "
                                     + ", ".join(BACKOFFS))
        for name in ("initial_delay", "max_delay"):
            value = getattr(self, name)
            if not _is_number(value, (int, float)) or not 0 <= value < float("inf"):
                raise ConfigurationError(f"{name} {value!r}: seconds, 0 or more, are allowed")
        kinds = self.retry_on if isinstance(self.retry_on, (tuple, list)) else (self.retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise ConfigurationError(f"retry_on {self.retry_on!r}: exception classes are allowed")
        object.__setattr__(self, "retry_on", tuple(kinds))

    def delay(self, retry: int) -> float:
        """Seconds to wait before retry 1, 2, ..."""
        if self.backoff == "fixed":
            delay = self.initial_delay
        elif self.backoff == "linear":
            delay = self.initial_delay * retry
        else:
            delay = self.initial_delay * 2.0 ** min(retry - 1, 1000)
        return min(delay, self.max_delay)

    def again(self, attempts: int, error: Exception) -> bool:
        """Whether a message that failed ``attempts`` times, lastly so, is tried once more."""
        return attempts <= self.max_retries and isinstance(error, self.retry_on)


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def is_poison(error: Exception) -> bool:
    """Whether no retry of its handler can mend this failure."""
    return isinstance(error, (Poison, BadMessage))


def is_refused(error: Exception) -> bool:
    """Whether what was to be sent can never be sent, whatever the state of the broker."""
    if isinstance(error, Rejected):
        return error.code == _REJECTED
    return isinstance(error, (MessageTooLarge, InvalidMessage, KeyTypeError, NoSuchPartition,
                              SchemaError, SerializationError))


def cause_of(error: Exception) -> Exception:
    """What hooks and dead letters are told of."""
    return error.error if isinstance(error, Poison) else error

# SPDX-License-Identifier: Apache-2.0
"""Deliveries: the outcome of a message, awaitable.

Guarantees: nothing but the delivery itself is allocated until somebody awaits it; it may be
awaited by several tasks, on several loops, early, late or never; cancelling a wait harms nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

from salvo import _engine
from salvo.messaging.errors import MessagingError, SendTimeout, delivery_error

if TYPE_CHECKING:
    from salvo.messaging.native import Native

_PENDING = 1


class Delivery(_engine.Delivery):
    """The outcome of one message: ``topic``, ``partition``, ``offset``, ``timestamp`` (ms).

    Await it, ``wait()`` for it, or ignore it. ``partition`` and ``offset`` are -1 until the
    broker has told them, and for brokers that number nothing.
    """

    __slots__ = ()

    def result(self) -> Delivery:
        """Itself, once it is acknowledged; raises its DeliveryError, or SendTimeout if pending."""
        if self.status == 0:
            return self
        if self.status == _PENDING:
            raise SendTimeout(f'message to "{self.topic}": no outcome yet')
        raise delivery_error(self)

    def exception(self) -> MessagingError | None:
        """The DeliveryError of a message that failed; None if acknowledged or pending."""
        return delivery_error(self) if self.status not in (0, _PENDING) else None

    def __await__(self) -> Generator[Any, None, Delivery]:
        if self.status == _PENDING:
            native = cast("Native | None", self.producer)
            loop = asyncio.get_running_loop()
            if native is not None:
                native.attach(loop)
                future = native.await_outcome(self, loop)
                if future is not None:
                    yield from future
        return self.result()

    def wait(self, timeout: float | None = None) -> Delivery:
        """As awaiting it, for code without an event loop. ``timeout`` in seconds; SendTimeout.

        Never call it in an event loop's thread: it blocks.
        """
        native = self.producer
        if self.status == _PENDING and native is not None:
            native.kick()
            native.wait(self, timeout if timeout is not None else 1e9)
        return self.result()

    def __repr__(self) -> str:
        state = {0: "acknowledged", _PENDING: "pending"}.get(self.status, f"error {self.status}")
        return (f"<Delivery {self.topic}[{self.partition}]@{self.offset} "
                f"timestamp={self.timestamp} {state}>")

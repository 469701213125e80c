# SPDX-License-Identifier: Apache-2.0
"""Synchronous twins of the producer's methods, for scripts and code without an event loop.

They wait in the calling thread, without the GIL, and Ctrl-C ends every wait. Never call one that
waits in an event loop's own thread.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from salvo.messaging import registry
from salvo.messaging.avro_wire import schema_for
from salvo.messaging.delivery import Delivery
from salvo.messaging.errors import SendTimeout
from salvo.messaging.producers import MISSING, Attempt, _short, kept, message_of, seconds_of
from salvo.messaging.topics import topic_of

if TYPE_CHECKING:
    from salvo.messaging.native import Native, Place
    from salvo.messaging.producers import Producer


class SyncProducer:
    """``producer.sync``: the same arguments, results and errors as the producer's methods."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def send(
        self, topic: Any, message: Any = MISSING, *, value: Any = MISSING, key: Any = None,
        headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None, wait: bool | None = None,
        timeout: float | None = None,
    ) -> Delivery:
        """As ``Producer.send``."""
        if timeout is not None:
            timeout = seconds_of(timeout)
        native = self._producer._ready()
        place, arguments = self._producer._prepared(
            native, topic, message_of(message, value), key, headers, partition, timestamp)
        delivery: Delivery | None = native.send(*arguments, True)
        if delivery is None:
            delivery = cast(Delivery, self._late(native, place, arguments, True))
        if wait if wait is not None else native.waits:
            _wait(delivery, timeout)
        return delivery

    def _late(self, native: Native, place: Place, arguments: Any, report: bool) -> Any:
        attempt, arguments = Attempt(native, place), kept(arguments)
        while attempt.again():
            time.sleep(attempt.pause())
            outcome = native.send(*arguments, report)
            if outcome:
                return outcome
        if report or not place.drops:
            raise attempt.error()
        return None

    def send_avro(
        self, topic: Any, message: Any = MISSING, schema: Any = None, *, value: Any = MISSING,
        key: Any = None, headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None, wait: bool | None = None,
        timeout: float | None = None,
    ) -> Delivery:
        """As ``Producer.send_avro``."""
        name, cls = topic_of(topic)
        message, wire = message_of(message, value), self._producer._avro()
        data = wire.encoded(name, schema_for(cls, message, schema), message)
        return self.send(name, data, key=key, headers=headers, partition=partition,
                         timestamp=timestamp, wait=wait, timeout=timeout)

    def send_fire_and_forget(
        self, topic: Any, message: Any = MISSING, *, value: Any = MISSING, key: Any = None,
        headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None,
    ) -> None:
        """As ``Producer.send_fire_and_forget``."""
        native = self._producer._ready()
        place, arguments = self._producer._prepared(
            native, topic, message_of(message, value), key, headers, partition, timestamp)
        if not native.send(*arguments, False):
            self._late(native, place, arguments, False)

    def send_batch(
        self, topic: Any, messages: Any, *, key: Any = None, key_field: str | None = None,
        wait: bool | None = None, timeout: float | None = None,
    ) -> list[Delivery]:
        """As ``Producer.send_batch``."""
        if timeout is not None:
            timeout = seconds_of(timeout)
        native = self._producer._ready()
        place, batch = self._producer._batch(native, topic, messages, key, key_field)
        deliveries: list[Delivery] = []
        native.send_batch(place.id, batch, deliveries)
        attempt: Attempt | None = None
        while batch.sent < len(batch):
            attempt = attempt or Attempt(native, place)
            if not attempt.again(1):
                raise _short(attempt, batch)
            time.sleep(attempt.pause())
            native.send_batch(place.id, batch, deliveries)
        if wait if wait is not None else native.waits:
            deadline = None if timeout is None else time.monotonic() + timeout
            for delivery in deliveries:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                _wait(delivery, left)
        return deliveries

    def send_batch_fire_and_forget(
        self, topic: Any, events: Any, *, key: Any = None, key_field: str | None = None
    ) -> int:
        """As ``Producer.send_batch_fire_and_forget``."""
        native = self._producer._ready()
        place, batch = self._producer._batch(native, topic, events, key, key_field)
        native.send_batch(place.id, batch)
        if batch.sent < len(batch):
            attempt = Attempt(native, place)
            while batch.sent < len(batch) and attempt.again(len(batch) - batch.sent):
                time.sleep(attempt.pause())
                native.send_batch(place.id, batch)
        return batch.sent

    def start(self) -> None:
        """As ``Producer.start``."""
        self._producer._ready()

    def flush(self, timeout: float = 30.0) -> int:
        """As ``Producer.flush``."""
        timeout = seconds_of(timeout)
        native = self._producer._native
        if native is None:
            return 0
        done = threading.Event()
        try:
            native.flush_then(timeout, done.set)
            done.wait(timeout)
        except RuntimeError:  # no new threads while the interpreter ends
            native.flush(timeout)
        return native.pending() if self._producer._native is native else 0

    def stop(self, timeout: float | None = None) -> None:
        """As ``Producer.stop``."""
        native = self._producer._native
        if native is None:
            return
        seconds = seconds_of(native.close_timeout if timeout is None else timeout)
        registry.forget(native)
        try:
            registry.shut(native, seconds)
        except BaseException:  # Ctrl-C: it is closed all the same
            registry.retire(native)
            raise


def _wait(delivery: Delivery, timeout: float | None) -> None:
    try:
        delivery.wait(timeout)
    except SendTimeout:
        raise SendTimeout(f'message to "{delivery.topic}": no outcome within {timeout:g} s; it is '
                          "still on its way") from None

# SPDX-License-Identifier: Apache-2.0
"""The producer that people hold: a facade over the engine of its broker.

It opens the engine at first use, follows later ``configure*()`` calls, and works again after
``stop()`` and after a fork. Everything that is wrong with a message is found before anything is
enqueued.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from salvo import _engine
from salvo.messaging import avro_wire, registry, settings
from salvo.messaging.avro_wire import Wire
from salvo.messaging.delivery import Delivery
from salvo.messaging.encoding import (
    encode,
    encode_batch,
    encode_headers,
    encode_key,
    items_of,
)
from salvo.messaging.errors import BufferFull, InvalidMessage, MessagingError, SendTimeout
from salvo.messaging.native import Native, Place, _wake
from salvo.messaging.topics import topic_of, validated

if TYPE_CHECKING:
    from salvo.messaging.sync import SyncProducer

MISSING: Any = object()
_T = TypeVar("_T")
_YIELD_EVERY = 256  # fire-and-forget sends between two turns of the event loop
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01  # seconds between two looks at a full buffer


class Attempt:
    """When a send that finds no room tries again, and when it gives up."""

    __slots__ = ("_deadline", "_place", "_pause", "_timeout")

    def __init__(self, native: Native, place: Place) -> None:
        self._place = place
        self._timeout = native.send_timeout
        self._deadline = time.monotonic() + self._timeout
        self._pause = _FIRST_PAUSE

    def again(self, refused: int = 1) -> bool:
        """Whether to try once more, and count what was refused as not yet refused."""
        if not self._place.blocks:
            return False
        if time.monotonic() >= self._deadline:
            self._place.timed_out += refused
            return False
        self._place.repeated += refused
        return True

    def pause(self) -> float:
        """Seconds until then."""
        pause = self._pause
        self._pause = min(pause * 2, _LONGEST_PAUSE)
        return pause

    def error(self) -> BufferFull:
        """Why it gave up."""
        place = self._place
        how = f"no room within {self._timeout:g} s (send_timeout_ms)" if place.blocks else "no room"
        return BufferFull(f'topic "{place.name}": {how}: the buffer (buffer_bytes) is full')


def _awaitable(function: _T) -> _T:
    """Have iscoroutinefunction() tell what is true of its results: frameworks ask it."""
    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(function)
    else:  # before 3.12
        vars(function)["_is_coroutine"] = getattr(asyncio.coroutines, "_is_coroutine", None)
    return function


def message_of(message: Any, value: Any) -> Any:
    """``message=`` and ``value=`` are the same argument."""
    if (message is MISSING) == (value is MISSING):
        raise InvalidMessage("give the message once: as message or as value")
    return value if message is MISSING else message


def _milliseconds(timestamp: int | float | datetime | None) -> int:
    if timestamp is None:
        return 0
    if isinstance(timestamp, datetime):
        timestamp = timestamp.timestamp() * 1000
    if (isinstance(timestamp, (int, float)) and not isinstance(timestamp, bool)
            and 0 <= timestamp < 2**63):
        return int(timestamp)
    raise InvalidMessage(f"timestamp {timestamp!r}: milliseconds since 1970 or a datetime")


def _partition(partition: int | None) -> int:
    if partition is None:
        return -1
    if (not isinstance(partition, int) or isinstance(partition, bool)
            or not 0 <= partition < 2**31 - 1):
        raise InvalidMessage(f"partition {partition!r}: 0 to 2147483646, or None")
    return partition


def seconds_of(timeout: float) -> float:
    """A time to wait, looked at before anything is sent: less than 0 is 0, at most 3 years."""
    if (not isinstance(timeout, (int, float)) or isinstance(timeout, bool)
            or timeout != timeout):
        raise InvalidMessage(f"timeout {timeout!r}: a number of seconds is needed")
    return max(0.0, min(timeout, 1e8))


def kept(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The extension's arguments with a value that stays as it is while a send waits for room."""
    if isinstance(arguments[1], (bytearray, memoryview)):
        return (arguments[0], bytes(arguments[1]), *arguments[2:])
    return arguments


class Producer:
    """Sends messages to one broker. ``get_producer()`` makes it; see there.

    Topics are names or Topic classes. A message is a dict, list, str, bytes, bytearray,
    memoryview, dataclass, pydantic model, msgspec struct, or None (a null value). Errors are
    subclasses of MessagingError.
    """

    def __init__(self, broker: str | None = None, **overrides: Any) -> None:
        self._broker = broker
        self._overrides = overrides
        self._native: Native | None = None  # the engine in use ...
        self._current: Native | None = None  # ... if it is known to be the settings' own
        self._unyielded = 0
        self._sync: SyncProducer | None = None
        self._wire: Wire | None = None
        registry.add_facade(self)

    # --- the engine behind it ---

    def _drop(self) -> None:
        self._native = self._current = None

    def _stale(self) -> None:
        """Settings have changed: look again before the next send."""
        self._current = None
        self._wire = None

    def _ready(self) -> Native:
        """The engine for the settings as they are now."""
        if self._current is not None:
            return self._current
        generation = settings.generation
        with registry._lock:  # in one step: whoever forgets this engine must find it here
            before = self._native
            fresh = registry.acquire(self._broker, self._overrides, type(self).__name__)
            self._native = self._current = fresh
        if settings.generation != generation:
            self._current = None  # they changed meanwhile
        if before is not None and before is not fresh:
            registry.release(before)
        return fresh

    @property
    def sync(self) -> SyncProducer:
        """The same producer for code without an event loop: the same methods, blocking."""
        if self._sync is None:
            from salvo.messaging.sync import SyncProducer

            self._sync = SyncProducer(self)
        return self._sync

    # --- preparing ---

    def _place(self, native: Native, topic: Any) -> tuple[Place, Any]:
        name, cls = topic_of(topic)
        place = native.places.get(name)
        if place is None:
            place = native.place(name, cls.full_policy if cls is not None else None)
        return place, cls

    def _prepared(
        self, native: Native, topic: Any, message: Any, key: Any, headers: Any,
        partition: int | None, timestamp: int | float | datetime | None,
    ) -> tuple[Place, tuple[Any, ...]]:
        """The place, and the extension's arguments up to the report."""
        key_bytes, header_pairs = encode_key(key), encode_headers(headers)
        number, stamp = _partition(partition), _milliseconds(timestamp)
        name, cls = topic_of(topic)
        if cls is not None and cls.value_serializer == "avro":
            data = self._avro().for_class(cls, message)
        else:
            data = encode(message if cls is None else validated(cls, message))
        place, _ = self._place(native, topic)
        return place, (place.id, data, key_bytes, header_pairs, number, stamp)

    def _batch(
        self, native: Native, topic: Any, messages: Any, key: Any, key_field: str | None
    ) -> tuple[Place, _engine.Batch]:
        _, cls = topic_of(topic)
        if key is not None and key_field is not None:
            raise InvalidMessage("give key or key_field, not both")
        keys: Any = encode_key(key)
        messages = items_of(messages)
        if key_field is not None:
            messages = list(messages)
            keys = [_key_in(item, key_field, i) for i, item in enumerate(messages)]
        if cls is not None and cls.value_serializer == "avro":
            wire = self._avro()
            messages = [wire.for_class(cls, item, i) for i, item in enumerate(messages)]
        elif cls is not None and cls.schema is not None:
            messages = [validated(cls, item, i) for i, item in enumerate(messages)]
        batch = encode_batch(messages)
        if keys is not None:
            batch.set_keys(keys)
        place, _ = self._place(native, topic)
        return place, batch

    # --- Avro ---

    def _avro(self) -> Wire:
        """Schemas and ids as this producer's settings have them."""
        if self._wire is None:
            self._wire = avro_wire.wire_of(
                settings.effective(self._broker, self._overrides, type(self).__name__))
        return self._wire

    async def _schema_ready(self, topic: Any) -> None:
        """Have the id of a topic class's schema, so that encoding need not ask for it."""
        _, cls = topic_of(topic)
        if cls is not None and cls.value_serializer == "avro":
            await self._avro().make_ready(cls)

    async def send_avro(
        self, topic: Any, message: Any = MISSING, schema: Any = None, *, value: Any = MISSING,
        key: Any = None, headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None, wait: bool | None = None,
        timeout: float | None = None,
    ) -> Delivery:
        """Send one message as Avro, in Confluent's wire format; otherwise as ``send``.

        ``schema``: a dict, its text, or a class that has one; None: the topic class's, or the
        message's own. The Schema Registry (``kafka_schema_registry_url``) is asked for its id
        once. SchemaError names the field that does not fit.
        """
        name, cls = topic_of(topic)
        message, wire = message_of(message, value), self._avro()
        known = avro_wire.schema_for(cls, message, schema)
        if wire.known_header(name, known) is None:
            wire.refuse_unfit(name, known, message)
            await wire.header_soon(name, known)
        data = wire.encoded(name, known, message)
        return await self.send(name, message=data, key=key, headers=headers, partition=partition,
                               timestamp=timestamp, wait=wait, timeout=timeout)

    # --- sending ---

    async def send(
        self, topic: Any, message: Any = MISSING, *, value: Any = MISSING, key: Any = None,
        headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None, wait: bool | None = None,
        timeout: float | None = None,
    ) -> Delivery:
        """Send one message; returns its delivery (topic, partition, offset, timestamp).

        ``wait`` True waits for the broker's answer, False returns at once with a delivery that may
        be awaited later, None does what ``kafka_fire_and_forget`` says (default: waits).
        ``timeout``: seconds to wait for the answer, then SendTimeout; the message goes on.
        ``timestamp``: milliseconds since 1970 or a datetime. A full buffer is waited for
        up to ``send_timeout_ms``, without blocking the loop, then BufferFull.
        """
        if timeout is not None:
            timeout = seconds_of(timeout)
        native = self._current
        if native is None:
            native = self._ready()
        place = native.places.get(topic) if type(topic) is str else None
        arguments: tuple[Any, ...]
        if (place is not None and type(message) is dict and value is MISSING and headers is None
                and partition is None and timestamp is None):  # as below, but quicker
            key_bytes = encode_key(key) if key is not None else None
            arguments = (place.id, encode(message), key_bytes, (), -1, 0)
        else:
            if type(topic) is not str:
                await self._schema_ready(topic)
            place, arguments = self._prepared(
                native, topic, message_of(message, value), key, headers, partition, timestamp)
        loop = asyncio.get_running_loop()
        native.attach(loop)
        delivery: Delivery | None = native.send(*arguments, True)
        if delivery is None:
            delivery = await self._send_late(native, place, arguments)
        if wait if wait is not None else native.waits:
            if timeout is None:
                future = native.await_outcome(delivery, loop)  # as awaiting it, but quicker
                if future is not None:
                    await future
                if delivery.status != 0:
                    delivery.result()
            else:
                await _settled(delivery, timeout)
        else:
            self._unyielded += 1
            if self._unyielded >= _YIELD_EVERY:
                self._unyielded = 0
                await asyncio.sleep(0)
        return delivery

    def post(
        self, topic: str, value: bytes | None, key: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
    ) -> Delivery | None:
        """As ``send(wait=False)``, for what is bytes already; None: there is no room now. For
        this package's own use: a caller that never pauses keeps the loop for itself."""
        native = self._current
        if native is None:
            native = self._ready()
        native.attach(asyncio.get_running_loop())
        place = native.places.get(topic) or native.place(topic)
        delivery: Delivery | None = native.send(place.id, value, key, headers, -1, 0, True)
        return delivery

    async def _send_late(self, native: Native, place: Place, arguments: Any) -> Delivery:
        attempt, arguments = Attempt(native, place), kept(arguments)
        while attempt.again():
            await asyncio.sleep(attempt.pause())
            delivery: Delivery | None = native.send(*arguments, True)
            if delivery is not None:
                return delivery
        raise attempt.error()

    @_awaitable
    def send_fire_and_forget(
        self, topic: Any, message: Any = MISSING, *, value: Any = MISSING, key: Any = None,
        headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Accept one message and return. A full buffer is met by the topic's policy: ``block``
        waits up to ``send_timeout_ms``, then BufferFull; ``fail`` raises it at once;
        ``drop_newest`` drops and counts. Nothing is sent before it is awaited."""
        if value is MISSING and headers is None and partition is None and timestamp is None:
            return _engine.sending(self, topic, message, key)  # it calls _forget() where it must
        return self._forget(topic, message, key, False, value, headers, partition, timestamp)

    async def _forget(
        self, topic: Any, message: Any, key: Any, refused: bool, value: Any = MISSING,
        headers: Any = None, partition: int | None = None,
        timestamp: int | float | datetime | None = None,
    ) -> None:
        """``refused``: there was no room a moment ago."""
        if type(topic) is not str:
            await self._schema_ready(topic)
        native = self._ready()
        place, arguments = self._prepared(
            native, topic, message_of(message, value), key, headers, partition, timestamp)
        if refused or not native.send(*arguments, False):
            await self._forget_late(native, place, arguments)
        self._unyielded += 1
        if self._unyielded >= _YIELD_EVERY:
            self._unyielded = 0
            await asyncio.sleep(0)

    async def _forget_late(self, native: Native, place: Place, arguments: Any) -> None:
        attempt, arguments = Attempt(native, place), kept(arguments)
        while attempt.again():
            await asyncio.sleep(attempt.pause())
            if native.send(*arguments, False):
                return
        if not place.drops:
            raise attempt.error()

    async def send_batch(
        self, topic: Any, messages: Any, *, key: Any = None, key_field: str | None = None,
        wait: bool | None = None, timeout: float | None = None,
    ) -> list[Delivery]:
        """Send a list; returns its deliveries, in order. ``wait`` as in ``send``: the first one
        that failed raises. ``key``: one for all; ``key_field``: taken from each item.
        BufferFull tells in ``accepted`` how many had found room."""
        if timeout is not None:
            timeout = seconds_of(timeout)
        if type(topic) is not str:
            await self._schema_ready(topic)
        native = self._ready()
        place, batch = self._batch(native, topic, messages, key, key_field)
        native.attach(asyncio.get_running_loop())
        deliveries: list[Delivery] = []
        native.send_batch(place.id, batch, deliveries)
        attempt: Attempt | None = None
        while batch.sent < len(batch):
            attempt = attempt or Attempt(native, place)
            if not attempt.again(1):
                raise _short(attempt, batch)
            await asyncio.sleep(attempt.pause())
            native.send_batch(place.id, batch, deliveries)
        if wait if wait is not None else native.waits:
            await _all_settled(deliveries, timeout)
        else:
            self._unyielded += len(batch)
            if self._unyielded >= _YIELD_EVERY:
                self._unyielded = 0
                await asyncio.sleep(0)
        return deliveries

    async def send_batch_fire_and_forget(
        self, topic: Any, events: Any, *, key: Any = None, key_field: str | None = None
    ) -> int:
        """Accept a list; returns how many were accepted. A count that is short means that the
        topic's policy refused the rest, which the ledger counts. A bad item raises before
        anything is sent."""
        if type(topic) is not str:
            await self._schema_ready(topic)
        native = self._ready()
        place, batch = self._batch(native, topic, events, key, key_field)
        native.send_batch(place.id, batch)
        if batch.sent < len(batch):
            attempt = Attempt(native, place)
            while batch.sent < len(batch) and attempt.again(len(batch) - batch.sent):
                await asyncio.sleep(attempt.pause())
                native.send_batch(place.id, batch)
        self._unyielded += len(batch)
        if self._unyielded >= _YIELD_EVERY:
            self._unyielded = 0
            await asyncio.sleep(0)
        return batch.sent

    # --- life ---

    async def start(self) -> None:
        """Open the engine now rather than at the first send, and ask for the schemas of the topic
        classes that are written as Avro. Does not wait for the broker."""
        self._ready()
        await self._avro().preload()

    async def flush(self, timeout: float = 30.0) -> int:
        """Wait until all that was accepted before the call is settled, or ``timeout`` seconds
        have passed. Returns how many messages are still pending."""
        seconds = seconds_of(timeout)
        native = self._native
        if native is None:
            return 0
        await self._settled(native, seconds)
        return native.pending() if self._native is native else 0

    @staticmethod
    async def _settled(native: Native, timeout: float) -> None:
        """Until all that is accepted now is settled, or the time has passed."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_wake, [done])

        native.flush_then(timeout, told)
        await asyncio.wait([done], timeout=timeout)

    async def stop(self, timeout: float | None = None) -> None:
        """Flush, and close the engine. ``timeout`` in seconds, None: ``close_timeout_ms``. The
        next send opens it again. What could not be delivered is logged and counted. Cancelled, it
        goes on in the background."""
        native = self._native
        if native is None:
            return
        seconds = seconds_of(native.close_timeout if timeout is None else timeout)
        until = time.monotonic() + seconds
        registry.forget(native)
        try:
            await self._settled(native, seconds)
            native.detach()
            left = max(0.0, until - time.monotonic())
            await asyncio.to_thread(registry.shut, native, left)
        except BaseException:
            registry.retire(native)
            raise

    async def __aenter__(self) -> Producer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    # --- looking ---

    def ledger(self, topic: Any = None) -> dict[str, int]:
        """Counts of one topic or (None) of all: offered = accepted + refused_*; accepted =
        acknowledged + failed + expired + dropped + pending."""
        native = self._ready()
        places = list(native.places.values()) if topic is None else [self._place(native, topic)[0]]
        repeated = sum(place.repeated for place in places)
        late = sum(place.timed_out for place in places)
        counts = native.ledger(None if topic is None else places[0].id)
        # A send that was repeated until it found room was offered once.
        full = max(0, counts["refused_full"] - repeated - late)
        counts["offered"] -= counts["refused_full"] - full - late
        counts["refused_full"] = full
        counts["refused_timeout"] += late
        return counts

    def stats(self) -> dict[str, Any]:
        """What the engine knows of itself; latencies in nanoseconds, sizes in bytes."""
        return self._ready().stats()

    def __repr__(self) -> str:
        state = "open" if self._native is not None else "not open"
        return f"<{type(self).__name__} {self._broker or 'configured broker'}, {state}>"


def _short(attempt: Attempt, batch: _engine.Batch) -> BufferFull:
    error = attempt.error()
    error.accepted = batch.sent
    return error


def _key_in(item: Any, field: str, index: int) -> bytes | None:
    try:
        found = item[field] if isinstance(item, Mapping) else getattr(item, field)
    except (KeyError, AttributeError):
        raise InvalidMessage(f'item {index} has no "{field}" (key_field); nothing was sent'
                             ) from None
    return encode_key(found)


async def _settled(delivery: Delivery, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await delivery
    except SendTimeout:
        raise
    except TimeoutError:
        raise SendTimeout(f'message to "{delivery.topic}": no outcome within {timeout:g} s; it is '
                          "still on its way") from None


async def _all_settled(deliveries: Sequence[Delivery], timeout: float | None) -> None:
    """The last one first: it is usually settled last, and the others then cost no wait."""

    async def each() -> None:
        for delivery in reversed(deliveries):
            if not delivery.done:
                await _outcome(delivery)

    try:
        async with asyncio.timeout(timeout):
            await each()
    except TimeoutError:
        left = sum(not delivery.done for delivery in deliveries)
        raise SendTimeout(f"{left} of {len(deliveries)} messages have no outcome within "
                          f"{timeout:g} s; they are still on their way") from None
    for delivery in deliveries:
        delivery.result()


async def _outcome(delivery: Delivery) -> None:
    try:
        await delivery
    except Exception:
        if not delivery.done:
            raise

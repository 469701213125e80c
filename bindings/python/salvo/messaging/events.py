# SPDX-License-Identifier: Apache-2.0
"""``publish``, ``publish_event``, and the decorators that publish what a function returns."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from pydantic import BaseModel

from salvo.messaging import settings
from salvo.messaging.base import envelope
from salvo.messaging.delivery import Delivery
from salvo.messaging.encoding import encode_key
from salvo.messaging.errors import InvalidMessage, MessagingError, SerializationError
from salvo.messaging.producers import MISSING, Producer
from salvo.messaging.registry import get_producer
from salvo.messaging.topics import topic_of, validated

logger = logging.getLogger("salvo.messaging")
Function = TypeVar("Function", bound=Callable[..., Any])
_failures: dict[str, int] = {}


async def publish(
    topic: Any, message: Any = MISSING, *, value: Any = MISSING, key: Any = None,
    headers: Any = None, partition: int | None = None, timestamp: Any = None,
    wait: bool | None = None, timeout: float | None = None,
) -> Delivery:
    """Send one message with the configured broker's producer; see ``Producer.send``."""
    return await get_producer().send(
        topic, message, value=value, key=key, headers=headers, partition=partition,
        timestamp=timestamp, wait=wait, timeout=timeout)


def _topic_and_envelope(
    topic: Any, name: str, data: Any, source: str | None
) -> tuple[str, dict[str, Any]]:
    """A topic class with a schema validates the event's data, not its envelope."""
    topic_name, cls = topic_of(topic if topic is not None else settings.setting("default_topic"))
    if cls is not None and cls.schema is not None:
        data = msgspec.Raw(validated(cls, data))
    return topic_name, envelope(name, data, source)


async def publish_event(
    event_name: str, data: Any, topic: Any = None, *, key: Any = None, source: str | None = None,
    headers: Any = None, wait: bool | None = None, timeout: float | None = None,
) -> Delivery:
    """Publish an event in its envelope (id, name, data, timestamp, source).

    ``topic`` None: the setting ``default_topic``; ``source`` None: the setting ``source``, else
    the application's name. Otherwise as ``publish``.
    """
    name, message = _topic_and_envelope(topic, event_name, data, source)
    return await get_producer().send(
        name, message, key=key, headers=headers, wait=wait, timeout=timeout)


def event_failures() -> dict[str, int]:
    """How many events of each name were not published because publishing failed."""
    return dict(_failures)


class _NoEvent(SerializationError):
    """The function returns what can never be an event: a mistake in the program."""


def _fields(result: Any, event_name: str, left_out: frozenset[str]) -> dict[str, Any]:
    """What an action returned, as a dict of its public data; never ``__dict__``. A SQLAlchemy
    model's columns that are left out are not even read: reading could load them."""
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, BaseModel):
        return result.model_dump()
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    if isinstance(result, msgspec.Struct):
        return msgspec.structs.asdict(result)
    to_dict = getattr(type(result), "to_dict", None)
    if callable(to_dict):
        return dict(result.to_dict())
    mapper = getattr(type(result), "__mapper__", None)
    if mapper is not None:
        return {each.key: getattr(result, each.key) for each in mapper.column_attrs
                if each.key not in left_out}
    raise _NoEvent(
        f'@event("{event_name}"): a {type(result).__name__} cannot become an event: return a '
        "mapping, a pydantic model, a dataclass, a msgspec struct, an object with to_dict() or a "
        "SQLAlchemy model")


class _Emitter:
    """What ``@event`` knows: from a result to an event that was sent."""

    def __init__(self, name: str, topic: Any, key_field: str | None, include_result: bool,
                 exclude: str | Iterable[str], on_error: str, source: str | None) -> None:
        if on_error not in ("log", "raise"):
            raise ValueError(f'on_error="{on_error}": "log" or "raise"')
        if not include_result and key_field is None:
            raise ValueError("include_result=False sends the key field alone: name key_field")
        self.name, self.topic, self.key_field = name, topic, key_field
        self.include_result = include_result
        self.exclude = frozenset([exclude] if isinstance(exclude, str) else exclude)
        self.on_error, self.source = on_error, source

    def prepared(self, result: Any) -> tuple[str, dict[str, Any], Any]:
        fields = _fields(result, self.name, self.exclude - {self.key_field or ""})
        if self.key_field is not None and self.key_field not in fields:
            raise InvalidMessage(f'the result has no field "{self.key_field}" (key_field)')
        key = fields[self.key_field] if self.key_field is not None else None
        encode_key(key)
        if self.include_result:
            data = {k: v for k, v in fields.items() if k not in self.exclude}
        else:
            data = {cast(str, self.key_field): key}
        topic, message = _topic_and_envelope(self.topic, self.name, data, self.source)
        return topic, message, key

    def failed(self, error: Exception) -> None:
        """The action's result stands: it happened."""
        _failures[self.name] = _failures.get(self.name, 0) + 1
        if self.on_error == "raise":
            raise error
        logger.error("event %s was not published: %s", self.name, error)

    async def emit(self, result: Any) -> None:
        prepared = self.prepared_or_failed(result)
        if prepared is None:
            return
        topic, message, key = prepared
        try:
            await get_producer().send(topic, message, key=key)
        except MessagingError as error:
            self.failed(error)

    def emit_now(self, result: Any) -> None:
        prepared = self.prepared_or_failed(result)
        if prepared is None:
            return
        topic, message, key = prepared
        try:
            _send_from_sync(get_producer(), topic, message, key)
        except MessagingError as error:
            self.failed(error)

    def prepared_or_failed(self, result: Any) -> tuple[str, dict[str, Any], Any] | None:
        try:
            return self.prepared(result)
        except _NoEvent:
            raise
        except Exception as error:  # a to_dict() or a column that cannot be read, a bad key
            self.failed(error)
            return None


def _send_from_sync(producer: Producer, topic: Any, message: Any, key: Any) -> None:
    """Waits for the broker, as configured; in an event loop's thread it must not, and does not."""
    inside_loop = asyncio._get_running_loop() is not None
    producer.sync.send(topic, message, key=key, wait=False if inside_loop else None)


def event(
    event_name: str, topic: Any = None, key_field: str | None = None,
    include_result: bool = True, *, exclude: str | Iterable[str] = (), on_error: str = "log",
    source: str | None = None,
) -> Callable[[Function], Function]:
    """Publish an event with what the decorated function or method returns, after it succeeded.

    ``topic`` None: the setting ``default_topic``. ``key_field`` names the field of the result that
    becomes the message key. ``include_result`` False sends the key field alone. ``exclude`` names
    fields that are left out, or one. A result that can be no event is a TypeError; when publishing
    fails the function's result stands, and the failure is logged and counted
    (``event_failures``), or raised with ``on_error="raise"``.
    """
    emitter = _Emitter(event_name, topic, key_field, include_result, exclude, on_error, source)

    def decorate(function: Function) -> Function:
        return _wrapped(function, emitter.emit, emitter.emit_now)

    return decorate


def producer(
    topic: Any, *, key: Any = None, key_field: str | None = None, headers: Any = None,
    wait: bool | None = None,
) -> Callable[[Function], Function]:
    """Publish what the decorated function returns, and return it; None publishes nothing.

    ``key``: the message key for all; ``key_field``: the field of the result that becomes it.
    Errors are raised: publishing is what the function is for.
    """

    def key_for(result: Any) -> Any:
        if key_field is None:
            return key
        try:
            return result[key_field] if isinstance(result, Mapping) else getattr(result, key_field)
        except (KeyError, AttributeError):
            raise InvalidMessage(f'@producer: the result has no "{key_field}" (key_field); '
                                 "nothing was sent") from None

    async def send(result: Any) -> None:
        if result is not None:
            await publish(topic, result, key=key_for(result), headers=headers, wait=wait)

    def send_now(result: Any) -> None:
        if result is not None:
            inside_loop = asyncio._get_running_loop() is not None
            get_producer().sync.send(topic, result, key=key_for(result), headers=headers,
                                     wait=False if inside_loop else wait)

    def decorate(function: Function) -> Function:
        return _wrapped(function, send, send_now)

    return decorate


def _wrapped(function: Function, after: Callable[[Any], Any],
             after_now: Callable[[Any], None]) -> Function:
    """The function, followed by ``after`` with its result."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = await function(*args, **kwargs)
            await after(result)
            return result

        return cast(Function, wrapper)

    @functools.wraps(function)
    def plain_wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        after_now(result)
        return result

    return cast(Function, plain_wrapper)

# SPDX-License-Identifier: Apache-2.0
"""From a message to its handlers.

Guarantees: each handler of a message runs, one after the other, in the order of registration,
whether or not another one fails; when this process tries the message again, those that succeeded do
not run again. Attempts are counted by message, not by handler.
What nobody handles is counted, and logged once per name. Handlers that are no coroutines run in
threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from salvo._engine import Message
from salvo.messaging import handlers as registered
from salvo.messaging.base import Event, Received, event_name, no_object
from salvo.messaging.deadletter import DeadLetter, error_text
from salvo.messaging.decoding import Decoded, avro_topics, decoded
from salvo.messaging.errors import BadMessage, MessagingError
from salvo.messaging.handlers import ConsumerSpec, Handler
from salvo.messaging.retry import Poison, RetryPolicy
from salvo.messaging.threads import NoThread, in_thread

logger = logging.getLogger("salvo.messaging")

_NAMES_MAX = 1000  # names of unknown events that are counted one by one
_OTHERS = "(others)"
_PARTLY_MAX = 10_000  # messages of which some handlers are done
_FAILED_BY = "_salvo_failed_by"  # on an exception: the handler it came from

Call = Callable[..., Awaitable[Any]]


class UnknownEvent(MessagingError, LookupError):
    """An event that no handler of its group takes, under ``unknown_event="error"`` or "dlq"."""


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None))


class Route:
    """One handler, ready to be called with a message."""

    __slots__ = ("_adapter", "_call", "event", "handler")

    def __init__(self, handler: Handler, function: Callable[..., Any]) -> None:
        self.handler = handler
        self.event = handler.event
        self._adapter = TypeAdapter(handler.schema) if handler.schema is not None else None
        self._call: Call = function if is_async(function) else _in_thread(function)
        if handler.wants_db:
            self._call = _with_db(self._call)
        if handler.timeout is not None:
            self._call = _timed(self._call, handler.timeout)

    def __call__(self, message: Message | Decoded) -> Awaitable[Any]:
        """Handle a message that is no event."""
        if self._adapter is None:
            return self._call(Received.of(message))
        return self._call(_validated(self._adapter, message))

    def take(self, event: Event) -> Awaitable[Any]:
        """Handle an event."""
        return self._call(event)


def _in_thread(function: Callable[..., Any]) -> Call:
    async def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords:
            result = await in_thread(lambda: function(*arguments, **keywords))
        else:
            result = await in_thread(function, *arguments)
        return await result if inspect.isawaitable(result) else result

    return call


def _with_db(call: Call) -> Call:
    async def with_db(argument: Any) -> Any:
        provider = registered.get_db_provider()
        if provider is None:
            return await call(argument, db=None)
        async with provider() as db:
            return await call(argument, db=db)

    return with_db


def _timed(call: Call, seconds: float) -> Call:
    async def timed(argument: Any) -> Any:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await call(argument)
        except TimeoutError as error:
            if limit.expired():
                error.args = (f"the handler did not end within {seconds:g} s (timeout)",)
            raise

    return timed


def _validated(adapter: TypeAdapter[Any], message: Message | Decoded) -> Any:
    value = message.value
    try:
        if isinstance(message, Decoded):
            return adapter.validate_python(message.json())
        return adapter.validate_json(b"null" if value is None else value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "$"
        raise BadMessage(message.topic, message.partition, message.offset, field,
                         first["msg"]) from None


class _Events:
    """The event handlers of one class."""

    def __init__(self, spec: ConsumerSpec) -> None:
        self.spec = spec
        self.routes: dict[str, list[Route]] = {}
        made = spec.instance()
        for handler in spec.handlers:
            if handler.event is not None and handler.method is not None:
                route = Route(handler, getattr(made, handler.method))
                self.routes.setdefault(handler.event, []).append(route)


class Router:
    """The handlers of one consumer: a function of its own, or what its group has registered."""

    def __init__(self, group: str, topics: Sequence[str], specs: Sequence[ConsumerSpec],
                 unknown_event: str = "ignore", dlq_topic: str | None = None) -> None:
        self.unknown: dict[str, int] = {}
        self._group = group
        self._policy = unknown_event
        self._dlq_topic = dlq_topic
        plain = [(spec, Route(handler, handler.function)) for spec in specs if not spec.is_class
                 for handler in spec.handlers]
        self._plain = {topic: [route for spec, route in plain if topic in spec.topics]
                       for topic in topics}
        classes = [_Events(spec) for spec in specs if spec.is_class]
        # A topic that no class names is read by all of them: the group was asked for.
        self._events = {topic: [c for c in classes if topic in c.spec.topics] or classes
                        for topic in topics}
        self._avro = avro_topics(topics)
        self._partly: dict[int, set[Route]] = {}

    def only_route(self) -> Route | None:
        """The one handler of all messages, where there is but one: it needs no router."""
        routes = {route for each in self._plain.values() for route in each}
        alone = all(len(each) == 1 for each in self._plain.values())
        alone = alone and not self._avro and not any(self._events.values())
        return routes.pop() if len(routes) == 1 and alone else None

    async def process(self, read: Message) -> None:
        """Run its handlers. Raises the first failure."""
        topic = read.topic
        message = read if topic not in self._avro else await decoded(read)
        routes = self._plain.get(topic, ())
        if not self._events.get(topic):
            if len(routes) == 1:
                await self._attempt(routes[0], routes[0], message)
            elif routes:
                await self._all(message, [(route, route, message) for route in routes])
            else:
                self._count(f"topic {topic}")
            return
        await self._process_event(message, topic, routes)

    async def _process_event(self, message: Message | Decoded, topic: str,
                             routes: Sequence[Route]) -> None:
        data = message.json()
        calls: list[tuple[Route, Callable[[Any], Awaitable[Any]], Any]]
        calls = [(route, route, message) for route in routes]
        if not isinstance(data, dict):
            if not calls and data is not None:
                raise no_object(message, data)
            data = {}
        name = event_name(data)
        taking = [r for each in self._events[topic] for r in each.routes.get(name, ())]
        if taking:
            event = Event.of(message, data)
            calls += [(route, route.take, event) for route in taking]
        if calls:
            await self._all(message, calls)
        else:
            self._unknown(topic, name)

    async def _all(self, message: Message | Decoded,
                   calls: Sequence[tuple[Route, Any, Any]]) -> None:
        done = self._partly.pop(message.id, None) or set()
        failures: list[tuple[Route, Exception]] = []
        for route, call, argument in calls:
            if route in done:
                continue
            try:
                await self._attempt(route, call, argument)
            except Exception as error:
                failures.append((route, error))
            else:
                done.add(route)
        if failures:
            if done:
                self._keep(message.id, done)
            raise self._worst(failures)

    def _worst(self, failures: list[tuple[Route, Exception]]) -> Exception:
        """The failure that decides: of the handler with most retries. The others are logged."""
        failures.sort(key=lambda each: each[0].handler.retry.max_retries, reverse=True)
        for route, error in failures[1:]:
            logger.error("group %s: %s failed, too: %s: %s", self._group, route.handler.name,
                         type(error).__name__, error_text(error))
        return failures[0][1]

    def _keep(self, number: int, done: set[Route]) -> None:
        if len(self._partly) >= _PARTLY_MAX:  # its handlers run again: at least once
            del self._partly[next(iter(self._partly))]
        self._partly[number] = done

    async def _attempt(self, route: Route, call: Any, argument: Any) -> None:
        try:
            await call(argument)
        except NoThread:
            raise
        except Exception as error:
            with contextlib.suppress(AttributeError, TypeError):
                setattr(error, _FAILED_BY, route.handler)
            raise

    # --- what nobody handles ---

    def _count(self, name: str) -> None:
        if name not in self.unknown:
            if len(self.unknown) >= _NAMES_MAX:
                name = _OTHERS
            if name not in self.unknown:
                logger.warning("group %s: nobody handles %s; such messages are counted, and "
                               "nothing else is done with them", self._group, name[:250])
        self.unknown[name] = self.unknown.get(name, 0) + 1

    def _unknown(self, topic: str, name: str) -> None:
        specs = [each.spec for each in self._events[topic]]
        policies = {self._policy, *(spec.unknown_event for spec in specs)}
        self._count(f'event "{name}"' if name else f"messages of {topic} without an event's name")
        if policies == {"ignore"}:
            return
        letters = [spec.dlq_topic for spec in specs if spec.unknown_event == "dlq"]
        error = UnknownEvent(f'group {self._group}: nobody handles event "{name}"')
        if "error" not in policies:
            setattr(error, _FAILED_BY, next((t for t in letters if t), self._dlq_topic))
            raise Poison(error)
        raise error

    # --- what the runner asks ---

    def retry_of(self, message: Message, error: Exception) -> RetryPolicy | None:
        """The policy of the handler that failed."""
        failed = getattr(error, _FAILED_BY, None)
        return failed.retry if isinstance(failed, Handler) else None

    def dead_letter_of(self, message: Message, error: Exception) -> DeadLetter | None:
        """Where a message goes that a handler was given up on; or one that none could be given."""
        self._partly.pop(message.id, None)
        failed = getattr(error, _FAILED_BY, None)
        if isinstance(failed, Handler):
            topic = failed.dlq_topic or self._dlq_topic
        else:
            topic = failed or self._first_dlq(message.topic)
        return DeadLetter(topic) if topic is not None else None

    def _first_dlq(self, topic: str) -> str | None:
        """For what failed before any handler began, a value that is no JSON."""
        of_routes = [route.handler.dlq_topic for route in self._plain.get(topic, ())]
        of_events = [each.spec.dlq_topic for each in self._events.get(topic, ())]
        return next((t for t in [*of_routes, *of_events, self._dlq_topic] if t), None)

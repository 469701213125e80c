# SPDX-License-Identifier: Apache-2.0
"""Handlers: what ``@consumer``, ``@on_event`` and ``@message_handler`` register.

Guarantees: registering runs nothing, opens nothing, and leaves a function what it was; a second
registration of the same name in the same module (a reload) takes the place of the first.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from salvo.messaging import settings
from salvo.messaging.errors import ConfigurationError
from salvo.messaging.retry import RetryPolicy
from salvo.messaging.topics import topic_of

logger = logging.getLogger("salvo.messaging")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

UNKNOWN_EVENT = ("ignore", "dlq", "error")
_MARK = "__salvo_on_event__"  # on a function: the names of the events that it handles


@dataclass(frozen=True, eq=False)
class Handler:
    """One function, and what is done with messages that it fails on.

    ``event`` None: it gets each message of its topics. ``method``: the name of a class' method,
    whose function is not bound yet.
    """

    name: str
    function: Callable[..., Any]
    event: str | None
    schema: Any
    retry: RetryPolicy
    dlq_topic: str | None
    timeout: float | None
    wants_db: bool
    method: str | None = None


@dataclass(frozen=True, eq=False)
class ConsumerSpec:
    """What one decorator has registered."""

    name: str
    group: str | None  # None: the setting default_group, as it is when it is asked for
    topics: list[str]
    handlers: list[Handler]
    target: Any  # the class or function
    dlq_topic: str | None = None
    auto_start: bool = False
    unknown_event: str = "ignore"
    concurrency: int = 1
    _made: list[Any] = field(default_factory=list)

    @property
    def group_id(self) -> str:
        """The group that it reads in."""
        return self.group if self.group is not None else default_group()

    @property
    def is_class(self) -> bool:
        """Whether it is a class of event handlers."""
        return isinstance(self.target, type)

    def instance(self) -> Any:
        """The class' one object, made when its first consumer starts."""
        if not self._made:
            try:
                self._made.append(self.target())
            except TypeError as error:
                raise ConfigurationError(f"@consumer class {self.name}: it must be possible to "
                                         f"make it without arguments: {error}") from error
        return self._made[0]


_consumers: dict[str, ConsumerSpec] = {}
_db_provider: Callable[[], Any] | None = None


def default_group() -> str:
    """The setting ``default_group``, else the application's name."""
    return settings.setting("default_group") or settings.application_name()


def _register(spec: ConsumerSpec) -> None:
    name, module = spec.name, spec.target.__module__
    before = _consumers.get(name)
    if before is not None and before.target.__module__ != module:
        name = f"{module}.{name}"
    _consumers[name] = spec if name == spec.name else _renamed(spec, name)


def _renamed(spec: ConsumerSpec, name: str) -> ConsumerSpec:
    return ConsumerSpec(name, spec.group, spec.topics, spec.handlers, spec.target, spec.dlq_topic,
                        spec.auto_start, spec.unknown_event, spec.concurrency)


def topic_names(topics: Any, what: str) -> list[str]:
    """The names of one topic or several, given as names or Topic classes."""
    if topics is None:
        return []
    given = [topics] if isinstance(topics, (str, type)) else list(topics)
    names = [topic_of(each)[0] for each in given]
    if not all(names):
        raise ConfigurationError(f"{what}: a topic without a name")
    return list(dict.fromkeys(names))


def takes_db(function: Callable[..., Any]) -> bool:
    """Whether a handler names a parameter ``db``."""
    try:
        return "db" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def handler_of(
    function: Callable[..., Any], *, event: str | None = None, method: str | None = None,
    schema: Any = None, max_retries: int = 0, retry_delay: float = 1.0,
    retry_max_delay: float | None = None, dlq_topic: Any = None, timeout: float | None = None,
) -> Handler:
    """A handler, its options checked."""
    if not callable(function):
        raise ConfigurationError(f"a handler is a function, not a {type(function).__name__}")
    policy = RetryPolicy(max_retries=max_retries, backoff="fixed", initial_delay=retry_delay,
                         max_delay=60.0 if retry_max_delay is None else retry_max_delay)
    dead_letters = topic_names(dlq_topic, "dlq_topic")
    if timeout is not None and not timeout > 0:
        raise ConfigurationError(f"timeout {timeout!r}: more than 0 seconds, or None")
    return Handler(_name_of(function), function, event, schema, policy,
                   dead_letters[0] if dead_letters else None, timeout, takes_db(function),
                   method)


# --- decorators ---


def on_event(*names: str) -> Callable[[Decorated], Decorated]:
    """In a class with ``@consumer``: this method handles events of that name (or of several)."""
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError('@on_event("name") needs the name of an event')

    def mark(function: Decorated) -> Decorated:
        setattr(function, _MARK, (*getattr(function, _MARK, ()), *names))
        return function

    return mark


def _class_handlers(cls: type, options: dict[str, Any]) -> list[Handler]:
    found: dict[str, tuple[str, ...]] = {}
    for name in dir(cls):
        function = inspect.getattr_static(cls, name)
        names = getattr(getattr(function, "__func__", function), _MARK, None)
        if names:
            found[name] = names
    made = [handler_of(getattr(cls, name), event=event, method=name, **options)
            for name, events in found.items() for event in events]
    if not made:
        raise ConfigurationError(f"@consumer class {cls.__qualname__} has no method with "
                                 '@on_event("name")')
    return made


def consumer(
    group_id: str | None = None, topics: Any = None, *, topic: Any = None,
    auto_start: bool = False, unknown_event: str = "ignore", dlq_topic: Any = None,
    concurrency: int = 1, **options: Any,
) -> Callable[[Decorated], Decorated]:
    """Register a class of ``@on_event`` methods, or a function that gets each message.

    ``topic`` and ``topics`` are the same argument; ``group_id`` None: the setting
    ``default_group``. ``auto_start``: it starts with the application. ``unknown_event``: what
    becomes of events that no method handles: "ignore" (counted and committed), "dlq" (the dead
    letter topic), "error" (a failure, retried like one). ``options``: those of
    ``@message_handler``.
    """
    names = [*topic_names(topics, "@consumer"), *topic_names(topic, "@consumer")]
    if not names:
        raise ConfigurationError("@consumer needs topics=[...] or topic=")
    check_unknown_event(unknown_event, dlq_topic)
    dead_letters = topic_names(dlq_topic, "dlq_topic")

    def register(target: Decorated) -> Decorated:
        given = {**options, "dlq_topic": dlq_topic}
        if isinstance(target, type):
            if "schema" in options:
                raise ConfigurationError("@consumer: schema= is for functions")
            handlers = _class_handlers(target, given)
        else:
            handlers = [handler_of(target, **given)]
        _register(ConsumerSpec(_name_of(target), group_id, list(dict.fromkeys(names)), handlers,
                               target, dead_letters[0] if dead_letters else None, auto_start,
                               unknown_event, concurrency))
        return target

    return register


def message_handler(
    topic: Any = None, *, topics: Any = None, schema: Any = None, group_id: str | None = None,
    max_retries: int = 0, retry_delay: float = 1.0, retry_max_delay: float | None = None,
    dlq_topic: Any = None, timeout: float | None = None, auto_start: bool = False,
    concurrency: int = 1,
) -> Callable[[Decorated], Decorated]:
    """Register a function for each message of one topic, or of several.

    ``schema``: a pydantic model; the function gets one instead of a dict. A message that it raises
    on is tried again ``max_retries`` times, ``retry_delay`` seconds apart (at most
    ``retry_max_delay``, 60), and then goes to ``dlq_topic``; without one it is logged and counted
    as failed. ``timeout``: seconds for one attempt. A function without ``async`` runs in a thread.
    Where it names a parameter ``db`` it gets what ``set_db_provider`` provides.
    """
    return consumer(
        group_id, topics, topic=topic, auto_start=auto_start, dlq_topic=dlq_topic,
        concurrency=concurrency, schema=schema, max_retries=max_retries, retry_delay=retry_delay,
        retry_max_delay=retry_max_delay, timeout=timeout)


def check_unknown_event(policy: str, dlq_topic: Any) -> None:
    """ConfigurationError for what is no policy, or one that lacks its topic."""
    if policy not in UNKNOWN_EVENT:
        raise ConfigurationError(f"unknown_event={policy!r}: allowed: {', '.join(UNKNOWN_EVENT)}")
    if policy == "dlq" and dlq_topic is None:
        raise ConfigurationError('unknown_event="dlq" needs a dlq_topic')


# --- what is registered ---


def get_all_consumers() -> dict[str, ConsumerSpec]:
    """All that ``@consumer`` and ``@message_handler`` have registered, by name (a copy)."""
    return dict(_consumers)


def get_consumer(name: str) -> ConsumerSpec:
    """What is registered under that name; ConfigurationError if there is none."""
    found = _consumers.get(name)
    if found is None:
        known = ", ".join(sorted(_consumers)) or "none"
        raise ConfigurationError(f'no consumer is named "{name}"; registered: {known}')
    return found


def get_all_event_handlers() -> dict[str, list[Handler]]:
    """The handlers of each event, by its name."""
    found: dict[str, list[Handler]] = {}
    for spec in _consumers.values():
        for handler in spec.handlers:
            if handler.event is not None:
                found.setdefault(handler.event, []).append(handler)
    return found


def get_all_message_handlers() -> dict[str, list[Handler]]:
    """The handlers that get each message of a topic, by its name."""
    found: dict[str, list[Handler]] = {}
    for spec in _consumers.values():
        for handler in spec.handlers:
            if handler.event is None:
                for topic in spec.topics:
                    found.setdefault(topic, []).append(handler)
    return found


def specs_of(group: str, topics: Sequence[str] = ()) -> list[ConsumerSpec]:
    """What is registered for a group; for topics that it names, only what reads one of them."""
    of_group = [spec for spec in _consumers.values() if spec.group_id == group]
    return [spec for spec in of_group
            if spec.is_class or not topics or set(topics) & set(spec.topics)]


def unregister_all() -> None:
    """Forget all handlers and the db provider. For tests and reloads."""
    _consumers.clear()
    set_db_provider(None)


# --- db ---


def set_db_provider(provider: Callable[[], Any] | None) -> None:
    """What handlers with a parameter ``db`` get: ``provider()`` is entered for each message.

    It returns an async context manager (SQLAlchemy's ``async_sessionmaker`` is one such), or is an
    async generator function that yields once. None: they get None.
    """
    global _db_provider
    if provider is not None and not callable(provider):
        raise ConfigurationError("set_db_provider() needs a function that returns an async "
                                 f"context manager, not a {type(provider).__name__}")
    if inspect.isasyncgenfunction(provider):
        provider = contextlib.asynccontextmanager(provider)
    _db_provider = provider


def get_db_provider() -> Callable[[], Any] | None:
    """What ``set_db_provider`` was given, or None."""
    return _db_provider

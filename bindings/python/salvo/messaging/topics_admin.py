# SPDX-License-Identifier: Apache-2.0
"""Topics at the broker: create, list, describe, ensure, delete, and how far groups are behind.

Guarantees: nothing blocks the event loop (every call runs in a thread, on a connection of its
own); ``ensure_topics`` creates what is not there and never changes what is: differences are told.
With ``memory`` the topics are those of this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from salvo import _engine
from salvo.messaging import registry, settings
from salvo.messaging.errors import Unsupported
from salvo.messaging.native import Native
from salvo.messaging.topics import get_all_topics, topic_of

_T = TypeVar("_T")
_OUTCOMES = {1: "created", 0: "as wanted", 2: "different"}


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the broker has it; None: the broker has no such thing, or was not asked.

    ``retention_ms`` -1: for ever. ``messages``: held now (in Kafka an upper bound where a topic is
    compacted); a list does not count them.
    """

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    retention_ms: int | None = None
    cleanup_policy: str | None = None
    messages: int | None = None
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Ensured:
    """What became of one topic: ``outcome`` is "created", "as wanted", "different" (then
    ``differences`` says in what) or "unsupported" (the broker cannot fulfil the wishes)."""

    name: str
    outcome: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one partition. ``committed`` is the next offset of the group,
    ``end`` one past the last; None: not known."""

    topic: str
    partition: int
    committed: int | None
    end: int | None
    lag: int | None


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a topic should be like."""

    name: str
    partitions: int = 1
    replication_factor: int = 1
    retention_ms: int | None = None
    cleanup_policy: str | None = None

    @classmethod
    def of(cls, topic: Any, changes: Mapping[str, Any]) -> _Wish:
        """A topic class's attributes, or the defaults of a name; ``changes`` (not None) win."""
        name, kind = topic_of(topic)
        wish: dict[str, Any] = {} if kind is None else {
            "partitions": kind.partitions, "replication_factor": kind.replication_factor,
            "retention_ms": kind.retention_ms, "cleanup_policy": kind.cleanup_policy}
        wish.update({key: value for key, value in changes.items() if value is not None})
        return cls(name, **wish)


class _Connection:
    """The configuration, and the producer whose ``memory`` it is."""

    def __init__(self, broker: str | None) -> None:
        self.config = settings.effective(broker, source="a topic call")
        self.native: Native | None = None
        if self.config.get("message_broker") == "memory":
            self.native = registry.acquire("memory", {}, "a topic call")

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.to_thread(function, self.config, self.native, *arguments)


async def create_topic(
    topic: Any, *, partitions: int | None = None, replication_factor: int | None = None,
    retention_ms: int | None = None, cleanup_policy: str | None = None, timeout: float = 10.0,
    broker: str | None = None,
) -> None:
    """Create a topic: a name, or a ``Topic`` class whose attributes count where no argument is
    given. Rejected where it exists, Unsupported where the broker cannot have it so."""
    wish = _Wish.of(topic, {
        "partitions": partitions, "replication_factor": replication_factor,
        "retention_ms": retention_ms, "cleanup_policy": cleanup_policy})
    await _Connection(broker).call(
        _engine.topics_create, wish.name, wish.partitions, wish.replication_factor,
        wish.retention_ms, wish.cleanup_policy, timeout)


async def list_topics(*, internal: bool = False, timeout: float = 10.0,
                      broker: str | None = None) -> list[TopicInfo]:
    """The broker's topics by name; its own ones with ``internal=True``."""
    rows = await _Connection(broker).call(_engine.topics_list, timeout)
    found = [TopicInfo(**row) for row in rows]
    return [info for info in found if internal or not info.internal]


async def describe_topic(topic: Any, *, timeout: float = 10.0,
                         broker: str | None = None) -> TopicInfo:
    """One topic; UnknownTopic where it is not there."""
    name, _ = topic_of(topic)
    row = await _Connection(broker).call(_engine.topics_describe, name, timeout)
    return TopicInfo(**row)


async def delete_topic(topic: Any, *, timeout: float = 10.0, broker: str | None = None) -> None:
    """Delete a topic and all it holds; UnknownTopic where it is not there."""
    name, _ = topic_of(topic)
    connection = _Connection(broker)
    await connection.call(_engine.topics_describe, name, timeout)
    await connection.call(_engine.topics_delete, name, timeout)


async def ensure_topics(topics: Iterable[Any] | None = None, *, timeout: float = 10.0,
                        broker: str | None = None) -> list[Ensured]:
    """Create the topics that are not there (None: every registered ``Topic`` class), and tell how
    those that are there differ. Nothing that exists is changed."""
    connection = _Connection(broker)
    wanted: Iterable[Any] = get_all_topics().values() if topics is None else topics
    done = []
    for wish in [_Wish.of(topic, {}) for topic in wanted]:
        done.append(await _ensure(connection, wish, timeout))
    return done


async def _ensure(connection: _Connection, wish: _Wish, timeout: float) -> Ensured:
    try:
        outcome, text = await connection.call(
            _engine.topics_ensure, wish.name, wish.partitions, wish.replication_factor,
            wish.retention_ms, wish.cleanup_policy, timeout)
    except Unsupported as error:
        return Ensured(wish.name, "unsupported", (str(error),))
    return Ensured(wish.name, _OUTCOMES[outcome], tuple(text.splitlines()))


async def group_lag(group: str, topic: Any, *, timeout: float = 10.0,
                    broker: str | None = None) -> list[Lag]:
    """How far a group is behind on a topic, by partition, without joining it."""
    name, _ = topic_of(topic)
    rows = await _Connection(broker).call(_engine.group_lag, group, name, timeout)
    return [Lag(place, partition, *(_known(number) for number in numbers))
            for place, partition, *numbers in rows]


def _known(number: int) -> int | None:
    return number if number >= 0 else None

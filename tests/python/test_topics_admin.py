# SPDX-License-Identifier: Apache-2.0
"""Topics from Python: created, listed, described, compared, deleted; the page's snippet."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pages
import pytest
from salvo import _engine
from salvo.messaging import (
    EventTopic,
    Lag,
    Rejected,
    StateTopic,
    TopicInfo,
    UnknownTopic,
    Unsupported,
    configure_messaging,
    create_topic,
    delete_topic,
    describe_topic,
    ensure_topics,
    group_lag,
    list_topics,
    publish,
    stop_all_producers,
    topics_admin,
)

BROKERS = {"memory": "", "kafka": "kafka_bootstrap_servers", "redis": "redis_url",
           "rabbitmq": "rabbitmq_url"}
Run = Callable[[Any], Any]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "memory":
        address = os.environ.get(f"SALVO_TEST_{name.upper()}")
        if not address:
            pytest.skip(f"SALVO_TEST_{name.upper()} names none")
        configure_messaging(message_broker=name, **{BROKERS[name]: address})
    return name


def fresh() -> str:
    return f"admin-{uuid.uuid4().hex[:12]}"


def test_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = pages.blocks_of(pages.REPOSITORY / "docs" / "topics.md", "topics")
    blocks = [b for b in page if b.heading == "In Python"]
    assert [b.language for b in blocks] == ["python", "text"]
    asyncio.run(pages.run(blocks[0], {}))
    assert capsys.readouterr().out == blocks[1].text


def test_from_creation_to_deletion(broker: str, run: Run) -> None:
    async def go() -> None:
        name = fresh()
        with pytest.raises(UnknownTopic, match=name):
            await describe_topic(name)
        await create_topic(name)
        with pytest.raises(Rejected, match=name):
            await create_topic(name)
        await publish(name, {"n": 1})
        info = await describe_topic(name)
        assert (info.name, info.partitions, info.messages) == (name, 1, 1)
        if broker == "rabbitmq":
            with pytest.raises(Unsupported, match="rabbitmqctl"):
                await list_topics()
        else:
            listed = {each.name: each for each in await list_topics()}
            assert listed[name].partitions == 1 and not listed[name].internal
        (lag,) = await group_lag("nobody", name)
        assert (lag.topic, lag.partition, lag.lag) == (name, 0, 1)
        await stop_all_producers()
        if broker == "memory":
            return
        await delete_topic(name)
        with pytest.raises(UnknownTopic, match=name):
            await describe_topic(name)
        with pytest.raises(UnknownTopic, match=name):
            await delete_topic(name)

    run(go())


def test_differences_are_told_and_nothing_is_changed(broker: str, run: Run) -> None:
    if broker not in ("memory", "kafka"):
        pytest.skip(f"{broker} has one partition")

    class Changing(EventTopic):
        name = fresh()
        partitions = 3

    async def go() -> None:
        outcomes = [await ensure_topics([Changing]) for _ in range(2)]
        assert [one.outcome for (one,) in outcomes] == ["created", "as wanted"]
        Changing.partitions = 5
        (found,) = await ensure_topics([Changing])
        assert found == topics_admin.Ensured(
            Changing.name, "different", ("partitions: 3, wanted 5",))
        assert (await describe_topic(Changing)).partitions == 3

    run(go())


def test_a_wish_that_the_broker_cannot_fulfil(broker: str, run: Run) -> None:
    if broker not in ("redis", "rabbitmq"):
        pytest.skip(f"{broker} can have it")

    class Wide(EventTopic):
        name = fresh()
        partitions = 3

    async def go() -> None:
        (found,) = await ensure_topics([Wide])
        assert found.outcome == "unsupported" and "partition" in found.differences[0]
        with pytest.raises(Unsupported):
            await create_topic(Wide)
        await create_topic(Wide, partitions=1)  # an argument wins over the class
        await delete_topic(Wide)

    run(go())


def test_a_class_says_what_a_topic_is_like(broker: str, run: Run) -> None:
    if broker != "kafka":
        pytest.skip("Kafka's alone")

    class State(StateTopic):
        name = fresh()
        partitions = 2
        retention_ms = 86_400_000

    async def go() -> None:
        await create_topic(State, partitions=4)
        assert await describe_topic(State) == TopicInfo(
            State.name, 4, 1, 86_400_000, "compact", 0, False)
        await delete_topic(State)

    run(go())


def test_unknown_numbers_are_none(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(_engine, "group_lag", lambda *arguments: [("t", 0, -1, 7, -1)])
    assert run(group_lag("g", "t")) == [Lag("t", 0, None, 7, None)]


def test_the_loop_is_not_blocked(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    asked = threading.Event()

    def slow(*arguments: Any) -> list[Any]:
        assert asked.wait(20)  # the loop must run meanwhile
        return []

    monkeypatch.setattr(_engine, "topics_list", slow)

    async def go() -> None:
        listing = asyncio.create_task(list_topics())
        await asyncio.sleep(0.05)
        asked.set()
        assert await listing == []

    run(go())

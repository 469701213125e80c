# SPDX-License-Identifier: Apache-2.0
"""Workers: every parameter and hook, and poison of every kind, on memory and, where
SALVO_TEST_KAFKA, SALVO_TEST_REDIS and SALVO_TEST_RABBITMQ name them, on real brokers."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel
from salvo.messaging import (
    Producer,
    RetryPolicy,
    Topic,
    Unreachable,
    Worker,
    WorkerRun,
    configure_messaging,
    get_all_workers,
    get_producer,
    run_all_workers,
    run_worker,
    set_db_provider,
    testing,
    worker,
    workers,
)

ADDRESSES = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url", "rabbitmq": "rabbitmq_url"}
BROKERS = ["memory", *(
    pytest.param(name, marks=pytest.mark.skipif(
        not os.environ.get(f"SALVO_TEST_{name.upper()}"),
        reason=f"SALVO_TEST_{name.upper()} names none")) for name in ADDRESSES)]
Topics = Callable[[str], str]


@pytest.fixture(autouse=True)
def no_workers() -> Iterator[None]:
    before = get_all_workers()
    workers.unregister_all()
    yield
    workers._workers.update(before)
    set_db_provider(None)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "memory":
        configure_messaging(message_broker=name,
                            **{ADDRESSES[name]: os.environ[f"SALVO_TEST_{name.upper()}"]})
    return name


@pytest.fixture
def topic() -> Topics:
    """Names of topics that only this test uses."""
    mark = uuid.uuid4().hex[:10]
    return lambda name: f"{name}-{mark}"


@asynccontextmanager
async def running(*names: Any) -> AsyncIterator[list[WorkerRun]]:
    """These workers, or all."""
    runs = [WorkerRun(name) for name in names or get_all_workers()]
    tasks = [asyncio.create_task(run.run()) for run in runs]
    try:
        yield runs
    finally:
        for run in runs:
            await run.stop(10)
        for task in tasks:
            await task


async def within(seconds: float, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        await asyncio.sleep(0.01)


def settled(run: WorkerRun) -> int:
    counts = run.stats()
    return counts.get("succeeded", 0) + counts.get("failed", 0)


async def handle(name: Any, count: int, seconds: float = 60) -> dict[str, int]:
    """Run a worker until it has settled so many messages; its counters."""
    async with running(name) as (run,):
        await within(seconds, lambda: settled(run) >= count)
    return run.stats()


async def send(topic: str, items: Any, **options: Any) -> None:
    await get_producer().send_batch(topic, items, **options)


def values(topic: str) -> list[Any]:
    return [record.json() for record in testing.records(topic)]


# --- the two styles ---


def test_a_function_worker_sends_what_it_returns(run: Any, broker: str, topic: Topics) -> None:
    @worker(topic=topic("raw"), output_topic=topic("rich"), concurrency=5,
            group_id=topic("enrich"))
    async def enrich(event: dict[str, Any]) -> dict[str, Any] | None:
        await asyncio.sleep(0.001)
        return {**event, "rich": True} if event["n"] % 10 else None

    async def main() -> None:
        await send(topic("raw"), [{"n": n, "user": f"u{n % 7}"} for n in range(200)],
                   key_field="user")
        counts = await handle("enrich", 200)
        assert counts["succeeded"] == 200
        assert (await enrich({"n": 1}))["rich"] is True  # type: ignore[index]

    run(main())
    sent = testing.records(topic("rich"))
    assert sorted(r.json()["n"] for r in sent) == [n for n in range(200) if n % 10]
    by_key: dict[bytes | None, list[int]] = defaultdict(list)
    for record in sent:
        assert record.key == record.json()["user"].encode()
        by_key[record.key].append(record.json()["n"])
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


class Raw(BaseModel):
    n: int
    ip: str = "::1"


class Rich(BaseModel):
    n: int
    ip: str
    country: str


def test_a_class_worker_with_schemas_and_hooks(run: Any, broker: str, topic: Topics) -> None:
    seen: list[Any] = []

    class Geolocate(Worker):
        input_topic = topic("raw")
        output_topic = topic("rich")
        group_id = topic("geo")
        input_schema = Raw
        output_schema = Rich
        dlq_topic = topic("dead")
        max_retries = 2
        retry_backoff = "fixed"
        retry_delay = 0.01

        async def process(self, event: dict[str, Any]) -> dict[str, Any]:
            if event["n"] == 3:
                raise LookupError("no such place")
            return {**event, "country": await self.country()}

        async def country(self) -> str:
            return "BR"

        async def on_error(self, event: Any, error: Exception) -> None:
            seen.append(("error", event, type(error).__name__))

        async def on_success(self, event: dict[str, Any], result: dict[str, Any]) -> None:
            seen.append(("success", event["n"], result["country"]))

    async def main() -> None:
        await send(topic("raw"), [{"n": "1"}, {"n": 2}, {"n": 3}, {"n": "x"}], key="k")
        counts = await handle(Geolocate, 4)
        assert (counts["succeeded"], counts["failed"], counts["retried"]) == (2, 2, 2)
        assert counts["dead_lettered"] == 2

    run(main())
    assert values(topic("rich")) == [{"n": n, "ip": "::1", "country": "BR"} for n in (1, 2)]
    letters = testing.records(topic("dead"))
    assert sorted(r.json()["n"] for r in letters if r.json()["n"] != "x") == [3]
    facts = {r.json()["n"]: dict(r.headers) for r in letters}
    assert facts[3]["salvo-attempts"] == b"3" and facts["x"]["salvo-attempts"] == b"1"
    assert facts["x"]["salvo-error-type"] == b"BadMessage"
    assert facts[3]["salvo-original-topic"] == topic("raw").encode()
    assert ("success", 1, "BR") in seen and ("error", {"n": "x"}, "BadMessage") in seen
    assert ("error", {"n": 3, "ip": "::1"}, "LookupError") in seen


def test_a_model_is_passed_where_the_parameter_is_annotated_with_it(run: Any) -> None:
    got: list[Any] = []

    @worker(topic="a", input_schema=Raw)
    async def as_model(event: Raw) -> None:
        got.append(event)

    @worker(topic="a", input_schema=Raw)
    async def as_dict(event: dict[str, Any]) -> None:
        got.append(event)

    @worker(topic="a", batch_size=5)
    async def as_models(events: list[Raw]) -> None:
        got.extend(events)

    async def main() -> None:
        await send("a", [{"n": 1}])
        for name in ("as_model", "as_dict", "as_models"):
            await handle(name, 1)

    run(main())
    assert got == [Raw(n=1), {"n": 1, "ip": "::1"}, Raw(n=1)]


def test_sync_functions_and_hooks_run_in_threads(run: Any) -> None:
    threads_seen: set[str] = set()

    @worker(topic="a", output_topic="b", concurrency=3,
            on_success=lambda event, result: threads_seen.add(threading.current_thread().name))
    def double(event: dict[str, int]) -> int:
        threads_seen.add(threading.current_thread().name)
        return event["n"] * 2

    async def main() -> None:
        await send("a", [{"n": n} for n in range(50)])
        await handle("double", 50)

    run(main())
    assert threads_seen == {"salvo-handler"} and sorted(values("b")) == list(range(0, 100, 2))


def test_batches_keep_their_results_in_order(run: Any, broker: str, topic: Topics) -> None:
    sizes: list[int] = []

    class Tasks(Worker):
        input_topic = topic("tasks")
        output_topic = topic("results")
        group_id = topic("tasks")
        batch_size = 10
        max_retries = 0

        async def process(self, message: dict[str, int]) -> int:
            return -message["n"]

        async def process_batch(self, messages: list[dict[str, int]]) -> list[int | None]:
            sizes.append(len(messages))
            return [m["n"] if m["n"] != 7 else None for m in messages]

    async def main() -> None:
        await send(topic("tasks"), [{"n": n} for n in range(95)], key="k")
        await handle("Tasks", 95)

    run(main())
    assert values(topic("results")) == [n for n in range(95) if n != 7]
    assert max(sizes) <= 10 and sum(sizes) == 95


def test_a_batch_that_fails_goes_message_by_message(run: Any) -> None:
    class Tasks(Worker):
        input_topic = "tasks"
        output_topic = "results"
        dlq_topic = "dead"
        batch_size = 10
        max_retries = 0

        async def process_batch(self, messages: list[dict[str, int]]) -> list[int]:
            return [100 // m["n"] for m in messages]

    async def main() -> None:
        await get_producer().send("tasks", b"no json", key="k")
        await send("tasks", [{"n": n} for n in (1, 0, 2)], key="k")
        counts = await handle("Tasks", 4)
        assert counts["batches_failed"] >= 1 and counts["failed"] == 2

    run(main())
    assert values("results") == [100, 50]
    letters = testing.records("dead")
    assert [r.value for r in letters] == [b"no json", b'{"n":0}']
    assert [dict(r.headers)["salvo-error-type"] for r in letters] == [
        b"BadMessage", b"ZeroDivisionError"]


def test_batches_are_for_workers_that_have_a_size_or_nothing_else(run: Any) -> None:
    got: list[Any] = []

    class Both(Worker):
        topic = "a"

        async def process(self, event: Any) -> None:
            got.append(event)

        async def process_batch(self, events: list[Any]) -> None:
            got.append(events)

    class Only(Worker):
        topic = "a"
        process_batch = Both.process_batch

    async def main() -> None:
        await send("a", [1, 2])
        await handle("Both", 2)
        await handle("Only", 2)

    run(main())
    assert got == [1, 2, [1, 2]]


def test_db_is_passed_where_it_is_named(run: Any) -> None:
    got: list[Any] = []

    @asynccontextmanager
    async def provider() -> AsyncIterator[str]:
        yield "session"
        got.append("closed")

    @worker(topic="a")
    async def with_db(event: dict[str, Any], db: Any) -> None:
        got.append(db)

    async def main() -> None:
        await send("a", [{}])
        await handle("with_db", 1)
        set_db_provider(provider)
        await send("a", [{}])
        await handle("with_db", 1)

    run(main())
    assert got == [None, "session", "closed"]


def test_several_topics_and_topic_classes(run: Any) -> None:
    class Out(Topic):
        name = "checked"
        schema = Rich

    class In(Topic):
        name = "in-class"

    got: list[Any] = []

    @worker(topic=[In, "in-name"], output_topic=Out, dlq_topic="dead", max_retries=0)
    async def both(event: dict[str, Any]) -> dict[str, Any]:
        got.append(event["n"])
        return {"n": event["n"], "ip": "x", **({"country": "BR"} if event["n"] else {})}

    async def main() -> None:
        await send("in-class", [{"n": 1}])
        await send("in-name", [{"n": 0}])
        await handle("both", 2)

    run(main())
    assert sorted(got) == [0, 1]
    assert values("checked") == [{"n": 1, "ip": "x", "country": "BR"}]
    assert dict(testing.records("dead")[0].headers)["salvo-error-type"] == b"SchemaError"


# --- poison ---


async def never(event: dict[str, Any]) -> None:
    await asyncio.Event().wait()


async def fails(event: dict[str, Any]) -> None:
    raise RuntimeError("always")


async def huge(event: dict[str, Any]) -> str:
    return "x" * 3_000_000


async def fine(event: dict[str, Any]) -> None:
    pass


POISON = {
    "no json": (b"\xff{", fine, b"BadMessage"),
    "wrong schema": (b'{"kind": "poison", "n": "x"}', fine, b"BadMessage"),
    "always fails": (b'{"kind": "poison", "n": 1}', fails, b"RuntimeError"),
    "never returns": (b'{"kind": "poison", "n": 1}', never, b"TimeoutError"),
    "too large": (b'{"kind": "poison", "n": 1}', huge, b"MessageTooLarge"),
}


class Kinds(BaseModel):
    kind: str
    n: int


@pytest.mark.parametrize("dead", [True, False], ids=["letters", "counted"])
@pytest.mark.parametrize("kind", POISON)
def test_poison(run: Any, broker: str, topic: Topics, kind: str, dead: bool,
                caplog: pytest.LogCaptureFixture) -> None:
    value, bad, error_type = POISON[kind]
    handled: list[int] = []

    @worker(topic=topic("in"), output_topic=topic("out"), group_id=topic("g"), timeout=0.2,
            retry_policy=RetryPolicy(1, "fixed", 0.01), input_schema=Kinds,
            dlq_topic=topic("dead") if dead else None)
    async def work(event: dict[str, Any]) -> Any:
        if event["kind"] == "poison":
            return await bad(event)
        handled.append(event["n"])

    async def main() -> dict[str, int]:
        good = [{"kind": "good", "n": n} for n in range(10)]
        await send(topic("in"), good[:5], key="k")
        await get_producer().send(topic("in"), value, key="k")
        await send(topic("in"), good[5:], key="k")
        counts = await handle("work", 11)
        # Nothing is left: a second run of the group is given nothing.
        async with running("work") as (again,):
            await asyncio.sleep(0.3)
            assert again.stats().get("received", 0) == 0
        return counts

    counts = run(main())
    assert handled == list(range(10)), "the partition went on, in order"
    assert (counts["succeeded"], counts["failed"]) == (10, 1)
    if not dead:
        assert counts["dead_lettered"] == 0 and "given up" in caplog.text
        return
    (letter,) = testing.records(topic("dead"))
    facts = dict(letter.headers)
    assert (letter.value, letter.key) == (value, b"k") and facts["salvo-error-type"] == error_type
    attempts = 2 if kind in ("always fails", "never returns") else 1
    assert facts["salvo-attempts"] == b"%d" % attempts


def test_a_dead_letter_topic_that_cannot_be_written_stops_commits_not_the_process(
        run: Any, broker: str, topic: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salvo.messaging.outbox._FIRST_PAUSE", 0.05)
    handled: list[int] = []
    is_away = True
    send_it, post_it = Producer.send, Producer.post

    async def send_unless_away(self: Producer, to: Any, *rest: Any, **options: Any) -> Any:
        if is_away and to == topic("dead"):
            raise Unreachable("no broker answered")
        return await send_it(self, to, *rest, **options)

    def post_unless_away(self: Producer, to: str, *rest: Any) -> Any:
        return None if is_away and to == topic("dead") else post_it(self, to, *rest)

    monkeypatch.setattr(Producer, "send", send_unless_away)
    monkeypatch.setattr(Producer, "post", post_unless_away)

    @worker(topic=topic("in"), group_id=topic("g"), dlq_topic=topic("dead"), max_retries=0)
    async def work(event: dict[str, Any]) -> None:
        if event["n"] == 1:
            raise ValueError
        handled.append(event["n"])

    async def main() -> None:
        nonlocal is_away
        await send(topic("in"), [{"n": n} for n in range(4)], key="k")
        async with running("work") as (run_,):
            await within(60, lambda: run_.stats().get("blocked") == 1 and len(handled) == 3)
            await asyncio.sleep(0.3)
            assert run_.stats()["blocked"] == 1
        handled.clear()
        is_away = False
        async with running("work") as (run_,):
            await within(60, lambda: bool(run_.runner and run_.runner.dead_lettered))
            await asyncio.sleep(0.2)
        # It came again; where a group commits offsets, what is behind it did too.
        assert handled == ([2, 3] if broker in ("memory", "kafka") else [])

    run(main())
    assert len(testing.records(topic("dead"))) == 1


def test_a_worker_survives_a_burst_of_concurrent_keys(run: Any) -> None:
    """Many keys, many lanes, failures now and then: nothing lost, order per key."""
    done: dict[str, list[int]] = defaultdict(list)
    failed: set[int] = set()

    @worker(topic="in", concurrency=16, retry_policy=RetryPolicy(5, "fixed", 0.003))
    async def work(event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if event["n"] % 17 == 0 and event["n"] not in failed:
            failed.add(event["n"])
            raise ValueError
        done[event["key"]].append(event["n"])

    async def main() -> None:
        await send("in", [{"n": n, "key": f"k{n % 29}"} for n in range(2000)], key_field="key")
        await handle("work", 2000)

    run(main())
    assert sum(map(len, done.values())) == 2000
    assert all(numbers == sorted(numbers) for numbers in done.values())


# --- starting and stopping ---


def test_stop_returns_what_was_not_handled(run: Any, broker: str, topic: Topics) -> None:
    handled: list[int] = []

    @worker(topic=topic("in"), group_id=topic("g"))
    async def slow(event: dict[str, int]) -> None:
        await asyncio.sleep(0.01)
        handled.append(event["n"])

    async def main() -> None:
        await send(topic("in"), [{"n": n} for n in range(60)], key="k")
        async with running("slow"):
            await within(60, lambda: len(handled) >= 5)
        first = len(handled)
        assert first < 60
        async with running("slow"):
            await within(60, lambda: len(handled) >= 60)
            await asyncio.sleep(0.2)

    run(main())
    assert handled == list(range(60)), "none lost, none twice after an orderly stop"


def test_run_worker_runs_until_it_is_cancelled(run: Any) -> None:
    handled: list[int] = []

    @worker(topic="in")
    async def one(event: dict[str, int]) -> None:
        await asyncio.sleep(0.05)
        handled.append(event["n"])

    @worker(topic="in")
    async def two(event: dict[str, int]) -> None:
        handled.append(-event["n"])

    async def main() -> None:
        await send("in", [{"n": 1}])
        for what in (run_worker("one"), run_all_workers()):
            task = asyncio.create_task(what)
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)

    run(main())
    assert sorted(handled) == [-1, 1]


def test_a_retry_that_waits_does_not_delay_a_stop(run: Any) -> None:
    @worker(topic="in", retry_delay=50, retry_max_delay=50)
    async def waits(event: dict[str, int]) -> None:
        raise ValueError

    async def main() -> None:
        await send("in", [{"n": 1}])
        async with running("waits") as (run_,):
            await within(10, lambda: run_.stats().get("parked") == 1)
            began = time.monotonic()
        assert time.monotonic() - began < 5

    run(main())

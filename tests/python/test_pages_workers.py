# SPDX-License-Identifier: Apache-2.0
"""Every block of the documentation's pages that defines workers runs as printed, on ``memory`` and
on a real Kafka where SALVO_TEST_KAFKA names one, and does what its page says: what is handled, sent
on, tried again at the printed delays, given up, told to hooks."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pages
import pytest
from pages_brokers import delays as delays
from pages_brokers import page_broker as page_broker
from pages_brokers import records, start_anew, values
from pydantic import BaseModel
from reading import until
from salvo import messaging
from salvo.messaging import (
    Worker,
    WorkerRun,
    get_all_workers,
    get_producer,
    get_topic,
    get_worker,
    publish,
    stop_all_producers,
)

BLOCKS = pages.needed()
Names = dict[str, Any]


class Undefined:
    """The names that the pages leave undefined, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.failing: Counter[str] = Counter()  # how many calls of each kind are yet to fail
        self.times: list[float] = []

    def call(self, kind: str, given: Any) -> None:
        self.calls.append((kind, given))
        if self.failing[kind] > 0:
            self.failing[kind] -= 1
            raise LookupError(f"{kind} failed")

    async def geoip_lookup(self, address: str) -> dict[str, str]:
        self.call("geoip", address)
        return {"country": "BR"}

    async def do_work(self, message: dict[str, Any]) -> int:
        self.call("work", message["n"])
        return int(message["n"]) * 10

    async def charge(self, payment: dict[str, Any]) -> Any:
        self.calls.append(("charge", payment["id"]))
        self.times.append(time.monotonic())
        self.failing["charge"] -= 1
        return type("Result", (), {"success": self.failing["charge"] < 0})

    async def upsert(self, event: dict[str, Any]) -> None:
        self.call("upsert", event)

    async def create(self, **command: Any) -> Any:
        self.call("create", command)
        return type("User", (), {"id": 7})

    async def create_welcome_order(self, user: int) -> None:
        self.call("welcome", user)


class CreateOrderInput(BaseModel):
    user_id: int


class OrderCreatedOutput(BaseModel):
    order_id: str
    status: str


def supplied() -> Names:
    """What a block needs beside what it defines; imports that stand in the block before it."""
    undefined = Undefined()
    return {
        "geoip_lookup": undefined.geoip_lookup, "do_work": undefined.do_work,
        "payment_gateway": undefined, "OrderReadModel": undefined, "User": undefined,
        "create_welcome_order": undefined.create_welcome_order, "uuid": uuid,
        "CreateOrderInput": CreateOrderInput, "OrderCreatedOutput": OrderCreatedOutput,
        "logger": logging.getLogger("page"), "worker": messaging.worker,
        "Topic": messaging.Topic, "undefined": undefined,
    }


class Seen:
    """The delays that the policies gave, and what was logged."""

    def __init__(self, delays: list[float], caplog: pytest.LogCaptureFixture) -> None:
        self.delays = delays
        self._caplog = caplog
        caplog.set_level(logging.INFO, "page")

    def logged(self, logger: str) -> list[str]:
        return [r.getMessage() for r in self._caplog.records if r.name == logger]


def schedule(name: str) -> list[float]:
    """What a worker waits before each of its retries."""
    policy = get_worker(name).policy()
    return [policy.delay(retry) * 100 for retry in range(1, policy.max_retries + 1)]


def is_spaced(times: list[float], delays: list[float]) -> bool:
    """Whether between attempts there was the time that was asked for, at least."""
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    return len(gaps) == len(delays) and all(
        gap >= delay / 100 - 0.002 for gap, delay in zip(gaps, delays, strict=True))


async def handled(settled: dict[str, int], *sent: tuple[Any, Any],
                  send: Callable[[], Awaitable[Any]] | None = None) -> dict[str, dict[str, int]]:
    """Run all registered workers, send, wait until each has settled so many messages and no more;
    what they counted."""
    workers = get_all_workers()
    assert set(workers) == set(settled)
    for each in workers.values():
        outputs = [topic for topic in (each.output_topic, each.dlq_topic) if topic]
        await asyncio.to_thread(start_anew, each.group(), each.topics(), outputs)
    runs = {name: WorkerRun(name) for name in workers}
    tasks = [asyncio.create_task(run.run()) for run in runs.values()]
    for topic, value in sent:
        await publish(topic, value, key="k")
    if send is not None:
        await send()

    def counted(run: WorkerRun) -> int:
        counts = run.stats()
        return counts.get("succeeded", 0) + counts.get("failed", 0)

    await until(lambda: any(task.done() for task in tasks) or all(
        counted(runs[name]) >= count for name, count in settled.items()), 60)
    for run in runs.values():
        await run.stop(20)
    await asyncio.gather(*tasks)
    assert {name: counted(run) for name, run in runs.items()} == settled
    return {name: run.stats() for name, run in runs.items()}


def headers(letter: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers}


# --- one check per block; it gets the names that the block leaves ---


async def enriched(names: Names, seen: Seen) -> None:
    undefined = names["undefined"]
    undefined.failing["geoip"] = 2
    counts = await handled({"enrich_event": 3}, ("events.raw", {"ip_address": "1", "n": 1}),
                           ("events.raw", {"n": 2}), ("events.raw", {"ip_address": "3"}))
    assert values("events.enriched") == [
        {"ip_address": "1", "n": 1, "country": "BR", "enriched": True},
        {"n": 2, "country": "BR", "enriched": True},
        {"ip_address": "3", "country": "BR", "enriched": True}]
    assert {record.key for record in records("events.enriched")} == {b"k"}
    assert undefined.calls == [("geoip", "1")] * 3 + [("geoip", None), ("geoip", "3")]
    assert counts["enrich_event"]["retried"] == 2 and seen.delays == [1, 2]
    worker = get_worker("enrich_event")
    assert (worker.group(), worker.concurrency) == ("enrich_event", 5)
    assert schedule("enrich_event") == [1, 2, 4]
    assert await names["enrich_event"]({}) == {"country": "BR", "enriched": True}


async def located(names: Names, seen: Seen) -> None:
    cls = names["GeolocationWorker"]
    look_up = cls.lookup_geo

    async def lookup_geo(self: Any, address: str) -> Any:
        if address == "nowhere":
            raise LookupError("no such address")
        return await look_up(self, address)

    cls.lookup_geo = lookup_geo
    counts = await handled(
        {"GeolocationWorker": 3}, *[("events.raw", value) for value in (
            {"event_id": "1", "ip_address": "::1", "more": 1}, {"event_id": "2"},
            {"event_id": "3", "ip_address": "nowhere"})])
    assert values("events.enriched") == [
        {"event_id": "1", "ip_address": "::1", "country": "BR", "city": "São Paulo"}]
    wrong, failed = records("events.dlq")
    assert (wrong.json(), headers(wrong)["salvo-attempts"]) == ({"event_id": "2"}, "1")
    assert failed.json() == {"event_id": "3", "ip_address": "nowhere"} and failed.key == b"k"
    assert headers(failed)["salvo-attempts"] == "4" and seen.delays == [1, 2, 4]
    assert headers(failed)["salvo-error"] == "no such address"
    assert counts["GeolocationWorker"]["dead_lettered"] == 2
    told = seen.logged("page")
    assert told[0] == "Processed event: 1" and len(told) == 3
    assert told[1].startswith("Failed to process event: {'event_id': '2'}")
    assert told[2].endswith("error: no such address")
    assert (cls.group(), cls.concurrency) == ("geolocation-service", 10)


async def charged(names: Names, seen: Seen) -> None:
    undefined = names["undefined"]
    undefined.failing["charge"] = 6
    counts = await handled({"process_payment": 2}, ("payments", {"id": 1}), ("payments", {"id": 2}))
    assert seen.delays == [1, 2, 4, 8, 16] and is_spaced(undefined.times[:6], seen.delays)
    assert undefined.calls == [("charge", 1)] * 6 + [("charge", 2)]  # in order: the same key
    found = counts["process_payment"]
    assert (found["succeeded"], found["failed"], found["retried"]) == (1, 1, 5)
    assert any("Payment failed" in line for line in seen.logged("salvo.messaging"))


async def worked(names: Names, seen: Seen) -> None:
    names["undefined"].failing["work"] = 1
    counts = await handled({"process_task": 9}, *[("tasks", {"n": n}) for n in range(9)])
    assert values("results") == [{"status": "completed", "result": 10 * n} for n in range(9)]
    assert counts["process_task"]["retried"] == 1 and seen.delays == [1]
    worker = get_worker("process_task")
    assert (worker.group(), worker.concurrency) == ("task-processor", 4)
    assert schedule("process_task") == [1, 2, 4]


async def batched(names: Names, seen: Seen) -> None:
    cls, undefined = names["TaskWorker"], names["undefined"]
    assert issubclass(cls, Worker) and messaging.TaskWorker is not cls
    sizes: list[int] = []
    process_batch = cls.process_batch

    async def counted(self: Any, messages: list[Any]) -> Any:
        sizes.append(len(messages))
        return await process_batch(self, messages)

    cls.process_batch = counted
    undefined.failing["work"] = 1  # the first batch fails: its messages are handled one by one

    async def send() -> None:
        await get_producer().send_batch("tasks", [{"n": n} for n in range(25)], key="k")

    counts = await handled({"TaskWorker": 25}, send=send)
    assert values("results") == [10 * n for n in range(25)]
    assert 1 < max(sizes) <= 10 and sum(sizes) == 25
    assert undefined.calls == [("work", n) for n in (0, *range(25))]
    found = counts["TaskWorker"]
    assert (found["batches_failed"], found["failed"], seen.delays) == (1, 0, [])
    assert seen.logged("page") == [f"Completed: {10 * n}" for n in range(25)]


async def dead_lettered(names: Names, seen: Seen) -> None:
    assert await names["process_task"]({}) is None
    assert schedule("process_task") == [1, 2, 4, 8, 16]
    seen.delays.clear()

    async def process(message: Any) -> None:
        if "n" in message:  # the printed function does nothing that could fail
            raise LookupError("no")
        await names["process_task"](message)

    get_worker("process_task").process = staticmethod(process)
    counts = await handled({"process_task": 2}, ("tasks", {"n": 1}), ("tasks", {}))
    (letter,) = records("tasks-dlq")
    assert (letter.key, letter.json(), headers(letter)["salvo-attempts"]) == (b"k", {"n": 1}, "6")
    assert seen.delays == [1, 2, 4, 8, 16] and counts["process_task"]["dead_lettered"] == 1


async def projected(names: Names, seen: Seen) -> None:
    made: list[str] = []

    async def send() -> None:
        made.append(await names["create_order"](5, [{"price": 2.5}, {"price": 1}]))

    await handled({"project_order": 1}, send=send)
    (event,) = records("order.events")
    assert event.key == made[0].encode() and event.json()["user_id"] == 5
    assert set(event.json()) == set(names["OrderCreated"].model_fields)
    (projection,) = records("order.projections")
    assert projection.key == event.key
    assert projection.json() == {"order_id": made[0], "status": "created", "total": 3.5}
    assert get_topic("order.events") is names["OrderEventsTopic"]
    assert names["OrderPaid"].__avro_schema__()["name"] == "OrderPaid"


async def commanded(names: Names, seen: Seen) -> None:
    await handled({"handle_create_order": 1, "update_read_model": 1},
                  (names["CreateOrderCommand"], {"user_id": 1}))
    created = {"order_id": "123", "status": "created"}
    assert values("orders.events.created") == [created]
    assert names["undefined"].calls == [("upsert", created)]
    with pytest.raises(messaging.SchemaError):
        await publish(names["CreateOrderCommand"], {"user_id": "x"})


async def welcomed(names: Names, seen: Seen) -> None:
    await handled({"create_user": 1, "handle_user_event": 2},
                  ("user.commands.create", {"email": "a@b.c"}),
                  (names["UserEvents"], {"event": "user.deleted", "user_id": 8}))
    assert {"event": "user.created", "user_id": 7} in values("user.events")
    assert names["undefined"].calls == [("create", {"email": "a@b.c"}), ("welcome", 7)]


CHECKS: dict[str, Callable[[Names, Seen], Awaitable[None]]] = {
    "messaging-guide:Decorator Style:1": enriched,
    "messaging-guide:Class Style:1": located,
    "messaging-guide:Retry Policy:1": charged,
    "messaging-guide:Event Sourcing:1": projected,
    "messaging-guide:CQRS com Kafka:1": commanded,
    "messaging-guide:Microserviços:1": welcomed,
    "messaging-overview:Decorator:3": worked,
    "messaging-overview:Class-Based Worker:1": batched,
    "messaging-overview:Retry Policy:1": dead_lettered,
}
COVERS = set(CHECKS)


@pytest.mark.usefixtures("page_broker")
@pytest.mark.parametrize("name", CHECKS)
def test_block(name: str, delays: list[float], caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen(delays, caplog)

    async def go() -> None:
        names = await pages.run(BLOCKS[name], supplied())
        await CHECKS[name](names, seen)
        await stop_all_producers()

    asyncio.run(go())


def test_the_table_of_parameters() -> None:
    """The page's table of a worker's parameters: names and defaults."""
    text = (pages.FOLDER / "messaging-guide.md").read_text("utf-8")
    section = text.partition("### Parâmetros do Worker")[2].partition("\n### ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) == 9
    for names, _, default, _ in rows:
        for name in names.replace("`", "").split(" / "):
            found = getattr(Worker, name)
            if name != "group_id":  # None: the name of the function or class
                assert str(found) == default.strip('"').replace("-", "None"), name

# SPDX-License-Identifier: Apache-2.0
"""Consumers: create_consumer, iteration, consume(), start and stop, acknowledgements.

On ``memory``, and on the real brokers that SALVO_TEST_KAFKA, SALVO_TEST_REDIS and
SALVO_TEST_RABBITMQ name.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from salvo.messaging import (
    ConfigurationError,
    Consumer,
    KafkaConsumer,
    MessagingError,
    ProducerClosed,
    RedisConsumer,
    configure_messaging,
    create_consumer,
    get_kafka_consumer_class,
    get_producer,
    publish,
    stop_all_consumers,
)
from salvo.messaging.testing import records

from reading import failing_at, filled, fresh, until


def test_each_message_in_order_with_where_it_was_read(broker: str) -> None:
    topic, got = fresh(), []

    async def handle(message: dict[str, Any]) -> None:
        got.append(message)

    async def go() -> None:
        consumer = create_consumer(group_id=fresh("g"), topics=[topic], message_handler=handle)
        await consumer.start()
        for n in range(20):
            await publish(topic, {"n": n, "text": "é"}, key="k", headers={"h": "v"})
        await until(lambda: len(got) >= 20)
        assert [m["n"] for m in got] == list(range(20)) and isinstance(got[0], dict)
        first = got[0]
        assert (first.topic, first.key, first.headers["h"]) == (topic, b"k", b"v")
        assert first == {"n": 0, "text": "é"} and abs(first.timestamp / 1000 - time.time()) < 60
        if broker in ("memory", "kafka"):
            assert [m.offset for m in got] == list(range(20))
        stats = consumer.stats()
        assert (stats["received"], stats["handled"], stats["failed"]) == (20, 20, 0)
        await consumer.stop()
        assert consumer.stats()["handled"] == 20 and not consumer.is_running

    asyncio.run(go())


def test_what_was_handled_is_not_given_again_and_the_rest_is(broker: str) -> None:
    topic, group = fresh(), fresh("g")
    got: list[int] = []

    async def until_five(message: dict[str, Any]) -> None:
        if message["n"] >= 5:
            await asyncio.sleep(3600)
        got.append(message["n"])

    async def go() -> None:
        first = create_consumer(group, [topic], until_five)
        await first.start()
        for n in range(10):
            await publish(topic, {"n": n}, key="k")
        await until(lambda: len(got) == 5)
        await first.stop(0.2)  # message 5 is in its handler, the others wait
        second = create_consumer(group, [topic], lambda m: got.append(m["n"]))
        await second.start()
        await until(lambda: len(got) >= 10, 60)
        await asyncio.sleep(0.3)
        await second.stop()

    asyncio.run(go())
    assert got == list(range(10))


def test_iterating_settles_the_one_before(broker: str) -> None:
    topic, group = fresh(), fresh("g")

    async def read(count: int) -> list[int]:
        got: list[int] = []
        async with Consumer(group, [topic], auto_ack=True) as consumer:
            async for message in consumer:
                got.append(message["n"])
                if len(got) == count:
                    break
        return got

    async def go() -> None:
        await filled(broker, group, topic, 6)
        assert await read(3) == [0, 1, 2]
        assert await read(4) == [2, 3, 4, 5]  # 2 was not done with

    asyncio.run(go())


def test_ack_alone_settles_where_it_is_asked_to() -> None:
    configure_messaging(kafka_enable_auto_commit=False)

    async def read(settled: set[int]) -> list[int]:
        got: list[int] = []
        async with create_consumer("g", ["t"]) as consumer:
            async for message in consumer:
                got.append(message["n"])
                if message["n"] in settled:
                    assert await consumer.ack(message)
                    assert not await consumer.ack(message)
                if message["n"] == 3:
                    lag = await consumer.lag()
                    return [*got, lag[0][4]]
        raise AssertionError

    async def go() -> None:
        for n in range(4):
            await publish("t", {"n": n})
        assert await read(set()) == [0, 1, 2, 3, 4]
        assert await read({0, 2}) == [0, 1, 2, 3, 3]  # up to the lowest that is not settled
        assert await read({1, 2, 3}) == [1, 2, 3, 0]

    asyncio.run(go())


def test_two_members_share_and_one_takes_over(broker: str) -> None:
    topic, group = fresh(), fresh("g")
    got: dict[str, list[int]] = {"a": [], "b": []}

    def member(name: str) -> Consumer:
        return create_consumer(group, [topic], lambda m: got[name].append(m["n"]))

    async def go() -> None:
        first = member("a")
        await first.start()
        second = member("b")
        await second.start()
        for n in range(40):
            await publish(topic, {"n": n}, key=str(n))
        await until(lambda: len(got["a"]) + len(got["b"]) >= 40, 60)
        await second.stop()
        for n in range(40, 60):
            await publish(topic, {"n": n}, key=str(n))
        await until(lambda: set(got["a"]) | set(got["b"]) == set(range(60)), 60)
        await first.stop()

    asyncio.run(go())


def test_several_topics_and_groups() -> None:
    got: list[tuple[str, str, int]] = []

    def into(group: str) -> Callable[[Any], None]:
        return lambda m: got.append((group, m.topic, m["n"]))

    async def go() -> None:
        async with (create_consumer("g", ["a", "b"], into("g")),
                    create_consumer("h", ["b"], into("h"))):
            await publish("a", {"n": 1})
            await publish("b", {"n": 2})
            await publish("c", {"n": 3})
            await until(lambda: len(got) >= 3)
            await asyncio.sleep(0.2)

    asyncio.run(go())
    assert sorted(got) == [("g", "a", 1), ("g", "b", 2), ("h", "b", 2)]


def test_concurrency_keeps_the_order_of_keys() -> None:
    got: dict[str, list[int]] = {}
    running = most = 0

    async def handle(message: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002 * (message["n"] % 3))
        got.setdefault(message["key"], []).append(message["n"])
        running -= 1

    async def go() -> None:
        async with create_consumer("g", ["t"], handle, concurrency=8):
            for n in range(200):
                await publish("t", {"n": n, "key": str(n % 20)}, key=str(n % 20))
            await until(lambda: sum(map(len, got.values())) == 200)

    asyncio.run(go())
    assert most > 1 and all(numbers == sorted(numbers) for numbers in got.values())


def test_what_cannot_be_yielded_is_a_dead_letter_and_does_not_stop_the_loop() -> None:
    async def go() -> None:
        for value in (b"{", b"[1]", b'{"n":1}', None, b"7", b'{"n":2}'):
            await publish("t", value, key="k", headers={"h": "v"})
        got = []
        async with create_consumer("g", ["t"], dlq_topic="t.dlq") as consumer:
            async for message in consumer:
                got.append(dict(message))
                if message.get("n") == 2:
                    break
            assert got == [{"n": 1}, {}, {"n": 2}]
            stats = consumer.stats()
            assert (stats["failed"], stats["dead_lettered"]) == (3, 3)
        letters = records("t.dlq")
        assert [letter.value for letter in letters] == [b"{", b"[1]", b"7"]
        headers = dict(letters[1].headers)
        assert letters[1].key == b"k" and headers["h"] == b"v"
        assert headers["salvo-error-type"] == b"BadMessage"
        assert (headers["salvo-original-topic"], headers["salvo-original-offset"]) == (b"t", b"1")

    asyncio.run(go())


def test_null_values_are_empty_and_known_as_such() -> None:
    async def go() -> None:
        await publish("t", None, key="gone")
        async with create_consumer("g", ["t"]) as consumer:
            message = await anext(consumer)
            assert message == {} and message.value is None and message.key == b"gone"

    asyncio.run(go())


def test_the_classes() -> None:
    assert get_kafka_consumer_class() is Consumer and type(create_consumer("g", ["t"])) is Consumer
    configure_messaging(message_broker="kafka")
    assert get_kafka_consumer_class() is KafkaConsumer
    made = create_consumer("g", ["t"], kafka_auto_offset_reset="latest")
    assert type(made) is KafkaConsumer and made.topics == ["t"] and made.group_id == "g"
    assert type(create_consumer("g", ["t"], broker="redis")) is RedisConsumer
    assert type(create_consumer("g", ["t"], broker="rabbitmq")) is Consumer
    positional = KafkaConsumer("kafka:9092", "g", ["t", "t"])
    assert positional._settings == {"kafka_bootstrap_servers": "kafka:9092"}
    assert positional.topics == ["t"]


@pytest.mark.parametrize(("options", "named"), [
    ({"max_retries": -1}, "max_retries"), ({"unknown_event": "drop"}, "ignore, dlq, error"),
    ({"unknown_event": "dlq"}, "dlq_topic"), ({"concurrency": 0}, "concurrency"),
    ({"timeout": 0}, "timeout"), ({"retry_delay": "1"}, "delay"), ({"message_handler": 7}, "int"),
    ({"topics": None}, "topics"), ({"kafka_auto_ofset_reset": "latest"}, "kafka_auto_offset_reset"),
])
def test_options_are_checked(options: dict[str, Any], named: str) -> None:
    async def go() -> None:
        with pytest.raises(MessagingError) as raised:
            await create_consumer(**{"group_id": "g", "topics": ["t"], **options}).start()
        assert named in str(raised.value)

    asyncio.run(go())


def test_run_without_a_handler_says_what_to_do() -> None:
    async def go() -> None:
        with pytest.raises(ConfigurationError, match="message_handler"):
            await create_consumer("g", ["t"]).run()
        with pytest.raises(ConfigurationError, match="iterate"):
            async with create_consumer("g", ["t"], print) as consumer:
                await anext(consumer)

    asyncio.run(go())


def test_start_stop_and_start_again() -> None:
    got: list[int] = []

    async def go() -> None:
        consumer = create_consumer("g", ["t"], lambda m: got.append(m["n"]))
        for n in range(3):
            await consumer.start()
            await consumer.start()
            await publish("t", {"n": n})
            await until(lambda: len(got) == n + 1)  # noqa: B023
            await consumer.stop()
            await consumer.stop()
        assert got == [0, 1, 2] and consumer.stats()["handled"] == 3

    asyncio.run(go())


def test_consume_runs_a_handler_until_it_is_stopped() -> None:
    got: list[Any] = []

    async def go() -> None:
        consumer = create_consumer("g", ["t"])
        await consumer.start()
        consuming = asyncio.create_task(consumer.consume(failing_at(1, got)))
        for n in range(3):
            await publish("t", {"n": n})
        await until(lambda: len(got) == 2)
        assert consumer.stats()["failed"] == 1
        await consumer.stop()
        await asyncio.wait_for(consuming, 5)

    asyncio.run(go())
    assert got == [0, 2]



def test_run_that_is_cancelled_finishes_what_is_in_its_handler() -> None:
    began, done = [], []

    async def handle(message: Any) -> None:
        began.append(message["n"])
        await asyncio.sleep(0.3)
        done.append(message["n"])

    async def go() -> None:
        for n in range(3):
            await publish("t", {"n": n})
        running = asyncio.create_task(create_consumer("g", ["t"], handle).run())
        await until(lambda: began)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert began == done == [0]
        async with create_consumer("g", ["t"]) as consumer:
            assert (await anext(consumer))["n"] == 1

    asyncio.run(go())


def test_stop_all_consumers() -> None:
    async def go() -> None:
        consumers = [create_consumer(f"g{n}", ["t"], print) for n in range(3)]
        for consumer in consumers:
            await consumer.start()
        await stop_all_consumers()
        assert not any(consumer.is_running for consumer in consumers)

    asyncio.run(go())


def test_a_loop_that_is_blocked_for_a_while_and_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def go() -> None:
        got: list[int] = []
        async with create_consumer("g", ["t"], lambda m: got.append(m["n"])):
            await publish("t", {"n": 1})
            time.sleep(0.5)
            await publish("t", {"n": 2})
            await until(lambda: len(got) == 2)

    uvloop.run(go())


def test_a_waiting_consumer_costs_little() -> None:
    async def go() -> float:
        async with create_consumer("g", ["t"], print):
            await asyncio.sleep(0.2)
            before = time.process_time()
            await asyncio.sleep(1)
            return time.process_time() - before

    assert asyncio.run(go()) < 0.5  # a loop that spins takes all of it


def test_no_descriptors_and_threads_stay() -> None:
    async def go() -> None:
        for n in range(3):
            async with create_consumer("g", ["t"]) as consumer:
                await publish("t", {"n": n})
                await anext(consumer)
                await consumer.lag()

    asyncio.run(go())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    asyncio.run(go())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert threading.active_count() <= threads + 1


def test_the_memory_of_a_producer_that_was_stopped() -> None:
    async def go() -> None:
        consumer = create_consumer("g", ["t"], print)
        await consumer.start()
        await publish("t", {})
        await get_producer().stop()
        with pytest.raises(ProducerClosed, match="memory"):
            await asyncio.wait_for(consumer.run(), 10)
        await consumer.stop()

    asyncio.run(go())


def test_without_automatic_commits_each_settled_message_is_committed_at_once(broker: str) -> None:
    if broker not in ("memory", "kafka"):
        pytest.skip("it has no offsets to commit")
    configure_messaging(kafka_enable_auto_commit=False, kafka_auto_commit_interval_ms=3_600_000)
    topic, got = fresh(), []

    async def committed(consumer: Consumer) -> int:
        return (await consumer.lag())[0][2]

    async def go() -> None:
        async with create_consumer(fresh("g"), [topic], lambda m: got.append(m["n"])) as consumer:
            for n in range(3):
                await publish(topic, {"n": n}, key="k")
            await until(lambda: len(got) == 3)
            end = time.monotonic() + 20
            while await committed(consumer) != 3:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)

    asyncio.run(go())


def test_several_tasks_iterate_where_each_acks() -> None:
    got: list[int] = []

    async def work(consumer: Consumer) -> None:
        async for message in consumer:
            await asyncio.sleep(0.001)
            got.append(message["n"])
            assert await consumer.ack(message)

    async def go() -> None:
        async with create_consumer("g", ["t"], auto_ack=False) as consumer:
            tasks = [asyncio.create_task(work(consumer)) for _ in range(4)]
            for n in range(100):
                await publish("t", {"n": n})
            await until(lambda: len(got) == 100)
            await consumer.stop()
            await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(go())
    assert sorted(got) == list(range(100))


def test_seek_reads_again(broker: str) -> None:
    if broker not in ("memory", "kafka"):
        pytest.skip("it has no offsets")
    topic = fresh()

    async def go() -> None:
        for n in range(5):
            await publish(topic, {"n": n}, key="k")
        async with create_consumer(fresh("g"), [topic]) as consumer:
            first = [await asyncio.wait_for(anext(consumer), 60) for _ in range(3)]
            await consumer.seek(topic, first[0].partition, first[1].offset)
            again = [await asyncio.wait_for(anext(consumer), 60) for _ in range(4)]
            assert [m["n"] for m in [*first, *again]] == [0, 1, 2, 1, 2, 3, 4]

    asyncio.run(go())


def test_a_setting_for_one_consumer_alone(broker: str) -> None:
    if broker not in ("memory", "kafka"):
        pytest.skip("kafka_auto_offset_reset is not for it")
    topic = fresh()

    async def go() -> None:
        await publish(topic, {"n": 1}, key="k")
        latest = create_consumer(fresh("g"), [topic], kafka_auto_offset_reset="latest")
        async with latest, create_consumer(fresh("g"), [topic]) as all_of_it:
            assert (await asyncio.wait_for(anext(all_of_it), 60))["n"] == 1
            end = time.monotonic() + 60
            while not await latest.lag():  # it has its partitions
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            waiting = asyncio.create_task(anext(latest))
            while not waiting.done():  # where Kafka's client has looked up the end by now
                await publish(topic, {"n": 2}, key="k")
                await asyncio.wait([waiting], timeout=0.5)
            assert (await waiting)["n"] == 2

    asyncio.run(go())

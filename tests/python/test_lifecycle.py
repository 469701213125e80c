# SPDX-License-Identifier: Apache-2.0
"""Loops, threads, servers that fork, start and stop, leaks, interpreters that are refused."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from salvo.messaging import (
    RedisProducer,
    configure_messaging,
    get_producer,
    lifespan,
    publish,
    with_producers,
)
from salvo.messaging.registry import start_all_producers, stop_all_producers
from salvo.messaging.testing import records

Child = Callable[..., subprocess.CompletedProcess[str]]
KAFKA = os.environ.get("SALVO_TEST_KAFKA", "")
SOURCES = Path(__file__).resolve().parents[2] / "bindings" / "python" / "src"


def test_a_producer_outlives_loops() -> None:
    for n in range(20):
        assert asyncio.run(publish("t", {"n": n})).offset == n
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    for n in range(20, 40):
        assert asyncio.run(publish("t", {"n": n})).offset == n
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def test_a_loop_that_rests_does_not_take_the_reports_of_another() -> None:
    resting = asyncio.new_event_loop()
    assert resting.run_until_complete(publish("t", {})).offset == 0
    assert asyncio.run(asyncio.wait_for(publish("t", {}), 30)).offset == 1
    assert resting.run_until_complete(asyncio.wait_for(publish("t", {}), 30)).offset == 2
    resting.close()


def test_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def go() -> None:
        sent = [publish("t", {"n": n}, wait=True) for n in range(200)]
        assert [d.offset for d in await asyncio.gather(*sent)] == list(range(200))
        assert await get_producer().flush() == 0
        await get_producer().stop()

    uvloop.run(go())
    uvloop.run(publish("t", {}))


def test_loops_in_threads_at_one_time() -> None:
    failures: list[BaseException] = []

    async def go() -> None:
        for _ in range(20):
            await asyncio.gather(*(publish("t", {"n": n}) for n in range(20)))

    def work() -> None:
        try:
            asyncio.run(asyncio.wait_for(go(), 60), debug=True)  # it tells a wrong thread
        except BaseException as error:
            failures.append(error)

    def work_blocking() -> None:
        try:
            for n in range(200):
                get_producer().sync.send("t", {"n": n}, timeout=30)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    threads += [threading.Thread(target=work_blocking) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(records("t")) == 3 * 400 + 2 * 200


def test_flush_does_not_block_the_loop() -> None:
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                        close_timeout_ms=0)

    async def go() -> None:
        await get_producer().send_fire_and_forget("t", {"n": 1})
        flushing = asyncio.create_task(get_producer().flush(0.5))
        turns = 0
        while not flushing.done():
            turns += 1
            await asyncio.sleep(0.01)
        assert await flushing == 1 and turns > 10
        await get_producer().stop(0)

    asyncio.run(go())


def test_stop_and_start_again() -> None:
    async def go() -> None:
        producer = get_producer()
        async with producer:
            await producer.send("t", {"n": 1})
        delivery = await producer.send("t", {"n": 2}, wait=False)
        await producer.stop()
        assert (await delivery).status == 0  # flushed before it closed

    asyncio.run(go())


def test_start_and_stop_all(caplog: pytest.LogCaptureFixture) -> None:
    configure_messaging(linger_us=30_000_000)
    everyone = [get_producer(), get_producer("null"), RedisProducer("redis://127.0.0.1:1/0")]

    async def go() -> None:
        await start_all_producers()
        # Those that get_producer() gave; one of somebody's own begins with its first send.
        assert [p._native is not None for p in everyone] == [True, True, False]
        deliveries = [await p.send("t", {"n": 1}, wait=False) for p in everyone]
        await stop_all_producers(0.3)
        assert [p._native for p in everyone] == [None] * 3
        assert [d.status == 0 for d in deliveries] == [True, True, False]
        assert deliveries[2].exception() is not None
        await stop_all_producers()
        await start_all_producers()
        await publish("t", {"n": 2})

    asyncio.run(go())
    assert "redis: 1 messages were accepted and not delivered" in caplog.text


def test_a_stop_that_is_cancelled_loses_no_count(child: Child) -> None:
    done = child("""
        import asyncio
        from salvo.messaging import configure_messaging, get_producer
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                            close_timeout_ms=100)
        async def go():
            await get_producer().send_fire_and_forget("t", {})
            try:
                await asyncio.wait_for(get_producer().stop(60), 0.2)
            except TimeoutError:
                print("cancelled")
        asyncio.run(go())
    """)
    assert done.stdout == "cancelled\n"
    assert done.stderr.count("kafka: 1 messages were accepted and not delivered") == 1


SERVED = """
import json
from salvo.messaging import configure_messaging, get_producer
configure_messaging({settings}, linger_us=30_000)
p = get_producer()
p.sync.send_batch_fire_and_forget({topic!r}, [{{"from": "master"}}] * 100)
def app(environ, start_response):
    p.sync.send_batch_fire_and_forget({topic!r}, [{{"from": "worker"}}] * 10)
    if environ["PATH_INFO"] == "/wait":
        p.sync.send({topic!r}, {{"from": "wait"}}, timeout=30)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([environ["SERVER_SOFTWARE"], p.ledger()]).encode()]
"""


@pytest.mark.parametrize("broker", ["memory", "kafka"])
def test_gunicorn_that_forks_after_loading(broker: str, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")
    topic = f"py-{uuid.uuid4().hex[:12]}"
    settings = f'message_broker="{broker}"'
    if broker == "kafka":
        if not KAFKA:
            pytest.skip("SALVO_TEST_KAFKA names no Kafka")
        settings += f', kafka_bootstrap_servers="{KAFKA}"'
    (tmp_path / "served.py").write_text(SERVED.format(settings=settings, topic=topic))
    where = tmp_path / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind",
         f"unix:{where}", "served:app"], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        client = httpx.Client(transport=httpx.HTTPTransport(uds=str(where), retries=20),
                              timeout=60)
        for n in range(20):
            software, ledger = client.get(f"http://x/{'wait' if n % 5 == 0 else ''}").json()
            assert software.startswith("gunicorn")
            assert ledger["accepted"] <= 20 * 11  # a worker's own, without its master's
        server.terminate()
        _, errors = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0 and "not delivered" not in errors, errors
    if broker == "kafka":
        wanted = Counter(master=100, worker=200, wait=4)
        assert Counter(value["from"] for value in read_all(topic, wanted.total())) == wanted


def read_all(topic: str, count: int) -> list[Any]:
    """The JSON of what Kafka has of a topic: ``count`` messages, and what comes a second later."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": topic,
                         "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got = consumer.consume(count, 30)
    got += consumer.consume(1, 1)
    consumer.close()
    return [json.loads(message.value() or b"") for message in got]


def test_lifespan() -> None:
    import contextlib

    events: list[str] = []

    @contextlib.asynccontextmanager
    async def own(app: Any) -> Any:
        events.append("up")
        yield {"state": 1}
        events.append("down")

    async def go() -> None:
        async with with_producers(own)("app") as state:
            assert state == {"state": 1} and get_producer()._native is not None
            await publish("t", {})
        assert get_producer()._native is None and events == ["up", "down"]
        async with lifespan("app"):
            await publish("t", {})

    asyncio.run(go())


IN_A_SUB_INTERPRETER = """
try:
    import salvo.messaging
except ImportError as error:
    assert "sub-interpreters" in str(error), error
else:
    raise SystemExit("it was imported")
"""


def test_sub_interpreters_are_refused(child: Child) -> None:
    done = child(f"""
        import sys
        if sys.version_info >= (3, 13):
            import _interpreters as i
            where = i.create("legacy")
        else:
            import _xxsubinterpreters as i
            where = i.create(isolated=False)
        path = "import sys; sys.path[:] = " + repr(sys.path)
        failed = i.run_string(where, path + {IN_A_SUB_INTERPRETER!r})
        assert failed is None, failed
    """)
    assert done.returncode == 0, done.stderr


def test_a_free_threaded_build_is_refused_when_it_is_compiled() -> None:
    compiler = shutil.which("cc")
    headers = Path(sysconfig.get_path("include"))
    if compiler is None or not (headers / "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")
    for defined, refused in (["-DPy_GIL_DISABLED=1"], True), ([], False):
        done = subprocess.run(
            [compiler, "-std=gnu11", "-fsyntax-only", f"-I{headers}",
             f"-I{SOURCES.parents[2] / 'engine' / 'include'}", *defined,
             str(SOURCES / "module.c")], text=True, capture_output=True, timeout=60)
        assert ("salvo does not support free-threaded CPython yet" in done.stderr) is refused
        assert (done.returncode != 0) is refused, done.stderr


LEAKS = """
import asyncio, gc, resource, sys
from salvo.messaging import (
    EventTopic, MessagingError, configure_messaging, event, get_producer, publish_event)
configure_messaging(message_broker={broker!r})
class Checked(EventTopic):
    name = "checked"
topic, key, value, text = "".join(["a", "b"]), b"k" * 20, b"v" * 50, "x" * 90
headers = [("h", b"1")]
watched = [topic, key, value, text, headers, headers[0], Checked, None, b"", 1]
p = get_producer()
def memory():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()
async def refused(*args, **more):
    try:
        await p.send(*args, **more)
    except (MessagingError, TypeError, ValueError):
        return
    raise SystemExit(f"not refused: {{args}} {{more}}")
async def thousand():
    await p.send_batch_fire_and_forget(topic, [{{"n": i}} for i in range(800)])
    await p.send_batch_fire_and_forget(topic, [value] * 50, key=key)
    await p.send_batch_fire_and_forget(topic, [{{"id": text}}] * 10, key_field="id")
    for d in await p.send_batch(topic, [{{"n": i}} for i in range(20)], key=key):
        assert d.status == 0
    for i in range(20):
        await p.send_fire_and_forget(topic, {{"n": i}}, key=key)
        p.sync.send_fire_and_forget(topic, text, key=text, headers=headers)
    await asyncio.gather(*(p.send(topic, value, key=key, headers=headers) for i in range(30)))
    for i in range(20):
        await p.send(topic, memoryview(value), wait=False)
    for i in range(5):
        p.sync.send(Checked, {{"n": i}}).result()
        await publish_event("name", {{"n": i}}, topic=topic)
        cancelled = asyncio.ensure_future(p.send(topic, value))
        await asyncio.sleep(0)
        cancelled.cancel()
    await refused(topic, {{"bad": object()}})
    await refused(topic, value, key=1.5)
    await refused(topic, value, headers=[(1, 2)])
    await refused(topic, b"x" * 3_000_000)
    await p.flush()
async def go(thousands):
    for _ in range(thousands):
        await thousand()
def look():
    gc.collect()
    sys._clear_type_cache()  # it keeps up to 4096 names alive
    return memory(), sys.getallocatedblocks(), [sys.getrefcount(o) for o in watched]
asyncio.run(go({before}))
look()  # what a first look leaves behind is not a message's
asyncio.run(go(1))
first = look()
asyncio.run(go({after}))
last = look()
drift = [b - a for a, b in zip(first[2], last[2])]
print(last[0] - first[0], last[1] - first[1], *drift)
"""


@pytest.mark.parametrize("broker, before, after", [("null", 150, 1000), ("memory", 60, 60)])
def test_a_million_sends_leak_nothing(broker: str, before: int, after: int, child: Child) -> None:
    done = child(LEAKS.format(broker=broker, before=before, after=after))
    assert done.returncode == 0, done.stderr
    resident_bytes, blocks, *references = map(int, done.stdout.split())
    # The memory broker keeps what it got. Pages of the ring are used for the first time; a leak
    # of 16 bytes a message would be 18 million.
    assert resident_bytes < 12_000_000 or broker == "memory"
    assert blocks < 30 and references == [0] * len(references), done.stdout

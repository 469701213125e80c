# SPDX-License-Identifier: Apache-2.0
"""Loops, threads, exit, signals and forks."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from salvo.messaging import (
    configure_messaging,
    get_producer,
    lifespan,
    publish,
    with_producers,
)
from salvo.messaging.registry import start_all_producers, stop_all_producers
from salvo.messaging.testing import records

Child = Callable[..., subprocess.CompletedProcess[str]]
MANY = int(os.environ.get("SALVO_REPEAT", "3"))  # --long: a thousand


def test_a_producer_outlives_loops() -> None:
    for n in range(20):
        assert asyncio.run(publish("t", {"n": n})).offset == n
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    for n in range(20, 40):
        assert asyncio.run(publish("t", {"n": n})).offset == n
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


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
        await start_all_producers()
        await stop_all_producers()
        await stop_all_producers()

    asyncio.run(go())


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


EXIT = """
    import asyncio, sys
    from salvo.messaging import configure_messaging, get_producer
    configure_messaging({settings})
    asyncio.run(get_producer().send_batch_fire_and_forget("t", [{{"n": n}} for n in range(500)]))
    {end}
"""


def test_exit_flushes_within_the_deadline_and_counts_what_stayed(child: Child) -> None:
    done = child(EXIT.format(settings='message_broker="memory", linger_us=5_000_000', end=""))
    assert (done.returncode, done.stderr) == (0, "")
    began = time.monotonic()
    done = child(EXIT.format(
        settings='message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1", '
                 'close_timeout_ms=300', end=""))
    assert done.returncode == 0 and time.monotonic() - began < 20
    assert "500 messages were accepted and not delivered" in done.stderr


def test_multiprocessing_children_flush_too(child: Child) -> None:
    done = child("""
        import multiprocessing, os
        from salvo.messaging import configure_messaging, get_producer
        def work():
            get_producer().sync.send_fire_and_forget("t", {"n": 1})
        if __name__ == "__main__":
            configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                                close_timeout_ms=200)
            p = multiprocessing.get_context("fork").Process(target=work)
            p.start(); p.join()
            print(p.exitcode)
    """)
    assert done.stdout == "0\n" and "1 messages were accepted and not" in done.stderr


def test_sigterm_handler(child: Child) -> None:
    end = ("import os, signal; from salvo.messaging import install_sigterm_handler as i; i(); "
           "os.kill(os.getpid(), signal.SIGTERM)")
    done = child(EXIT.format(settings='message_broker="kafka", close_timeout_ms=200, '
                             'kafka_bootstrap_servers="127.0.0.1:1"', end=end))
    assert done.returncode == 143 and "500 messages" in done.stderr


WAITS = {
    "flush": "p.sync.send_fire_and_forget('t', {}); started(); p.sync.flush(60)",
    "send": "started(); p.sync.send('t', {})",
    "stop": "p.sync.send_fire_and_forget('t', {}); started(); p.sync.stop(60)",
    "async": "started(); asyncio.run(p.send('t', {}))",
    "full": "started(); p.sync.send_batch_fire_and_forget('t', [b'x' * 9000] * 9000)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_every_wait(wait: str, tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from salvo.messaging import configure_messaging, get_producer
configure_messaging(message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1",
                    close_timeout_ms=0)
p = get_producer()
p.sync.start()
def started():
    print("started", flush=True)
try:
    {WAITS[wait]}
except KeyboardInterrupt:
    print("interrupted")
"""
    for _ in range(MANY):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, cwd=tmp_path)
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert out == "interrupted\n" and time.monotonic() - began < 5


def test_fork_gives_the_child_a_producer_of_its_own(child: Child) -> None:
    for _ in range(MANY):
        done = child("""
            import asyncio, json, os
            from salvo.messaging import Forked, configure_messaging, get_producer
            from salvo.messaging.testing import records
            configure_messaging(message_broker="memory", linger_us=50_000)
            p = get_producer()
            async def parent_part():
                d = await p.send("t", {"from": "parent"}, wait=False)
                await p.send_batch_fire_and_forget("t", [{"n": n} for n in range(100)])
                read, write = os.pipe()
                pid = os.fork()
                return d, pid, read, write
            d, pid, read, write = asyncio.run(parent_part())
            if pid == 0:
                try:
                    d.result()
                except Forked:
                    asyncio.run(p.send("t", {"from": "child"}))
                    assert p.sync.send("t", {"n": 2}).offset == 1
                    os.write(write, json.dumps([r.json() for r in records("t")]).encode())
                os._exit(0)
            os.close(write)
            in_child = json.loads(os.read(read, 65536))
            assert os.waitpid(pid, 0)[1] == 0
            assert d.wait(10).offset == 0
            assert p.sync.flush() == 0
            ledger = p.ledger()
            print(json.dumps([in_child, len(records("t")), ledger["acknowledged"]]))
        """)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [[{"from": "child"}, {"n": 2}], 101, 101]


def test_fork_while_other_threads_send(child: Child) -> None:
    done = child("""
        import os, threading
        from salvo.messaging import configure_messaging, get_producer
        configure_messaging(message_broker="memory", buffer_bytes="128MiB")
        p = get_producer().sync
        stop = threading.Event()
        sent = []
        def work():
            n = 0
            while not stop.is_set():
                p.send_fire_and_forget("t", {"n": n}); n += 1
                if n % 100 == 0: p.flush(5)
            sent.append(n)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads: t.start()
        for i in range(10):
            pid = os.fork()
            if pid == 0:
                ok = p.send("t", {"n": 1}, timeout=20).offset == 0
                os._exit(0 if ok else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for t in threads: t.join()
        assert p.flush() == 0
        ledger = get_producer().ledger()
        assert ledger["acknowledged"] == sum(sent) > 0, (ledger, sent)
    """)
    assert done.returncode == 0, done.stderr


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


def test_a_million_sends_leak_nothing(child: Child) -> None:
    done = child("""
        import asyncio, resource
        from salvo.messaging import configure_messaging, get_producer
        configure_messaging(message_broker="null")
        p = get_producer()
        def memory():
            with open("/proc/self/statm") as f:
                return int(f.read().split()[1]) * resource.getpagesize()
        async def go(n):
            for _ in range(n // 1000):
                await p.send_batch_fire_and_forget("t", [{"n": i} for i in range(900)])
                for i in range(50):
                    await p.send_fire_and_forget("t", {"n": i})
                await asyncio.gather(*(p.send("t", {"n": i}, key="k") for i in range(30)))
                for i in range(20):
                    await p.send("t", {"n": i}, wait=False)
        asyncio.run(go(150_000))
        before = memory()
        asyncio.run(go(1_000_000))
        print(memory() - before)
    """)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4_000_000

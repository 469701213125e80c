# SPDX-License-Identifier: Apache-2.0
"""Consumers of processes that end, fork, or are killed. On ``memory`` and on real brokers, as
test_consume.py."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from salvo.messaging import configure_messaging, create_consumer, stop_all_consumers

from reading import ADDRESSES, KEYS, filled, fresh, until

Child = Callable[..., subprocess.CompletedProcess[str]]


def test_exit_without_stop_commits_what_is_settled(broker: str, child: Child) -> None:
    if broker == "memory":
        pytest.skip("its messages end with the process")
    topic, group = fresh(), fresh("g")
    settings = {"message_broker": broker, KEYS[broker]: ADDRESSES[broker],
                "kafka_auto_commit_interval_ms": 3_600_000}

    asyncio.run(filled(broker, group, topic, 5))
    result = child(f"""
        import asyncio, ctypes
        from salvo.messaging import configure_messaging, create_consumer
        configure_messaging(**{settings!r})
        consumer = create_consumer({group!r}, [{topic!r}], auto_ack=True)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(consumer))  # nobody frees it
        async def go():
            got = []
            async for message in consumer:
                got.append(message["n"])
                if len(got) == 3:
                    return got
        print(asyncio.run(go()))
    """)
    assert result.stdout == "[0, 1, 2]\n" and result.stderr == "" and result.returncode == 0

    async def rest() -> list[int]:
        async with create_consumer(group, [topic], auto_ack=True) as consumer:
            return [(await asyncio.wait_for(anext(consumer), 60))["n"] for _ in range(3)]

    assert asyncio.run(rest()) == [2, 3, 4]


def test_exit_in_the_midst_is_quiet(child: Child) -> None:
    result = child("""
        import asyncio
        from salvo.messaging import configure_messaging, create_consumer, publish
        configure_messaging(message_broker="memory")
        async def go():
            consumer = create_consumer("g", ["t"], print)
            await consumer.start()
            await publish("t", {"n": 1})
            await asyncio.sleep(0.3)
            for _ in range(100):
                await publish("t", {"n": 2})
        asyncio.run(go())
    """)
    assert result.stderr == "" and result.returncode == 0
    assert result.stdout.startswith("{'n': 1}\n")


@pytest.mark.parametrize("when", ["waiting", "handling"])
def test_ctrl_c_ends_it(tmp_path: Path, when: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio
        from salvo.messaging import configure_messaging, create_consumer, publish
        configure_messaging(message_broker="memory")
        async def handle(message):
            print("handling", flush=True)
            await asyncio.sleep(0.5)
            print("handled", flush=True)
        async def go():
            consumer = create_consumer("g", ["t"], handle)
            await consumer.start()
            running = asyncio.ensure_future(consumer.run())
            await asyncio.sleep(0)  # it runs before anything is handled
            if {when == "handling"}:
                sending = asyncio.ensure_future(publish("t", {{}}))
            else:
                print("waiting", flush=True)
            await running
        asyncio.run(go())
    """)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == f"{when}\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == ("handled\n" if when == "handling" else "")
    assert err.rstrip().endswith("KeyboardInterrupt") and process.returncode == -signal.SIGINT


def test_a_child_has_nothing_of_its_parents(child: Child) -> None:
    result = child("""
        import asyncio, os
        from salvo.messaging import configure_messaging, create_consumer, publish
        from salvo.messaging import Forked, ProducerClosed
        from salvo.messaging.consuming import Source
        configure_messaging(message_broker="memory")
        async def go():
            source = Source(group="g", topics=["t"])
            await source.start()
            await publish("t", {"n": 1})
            (message,) = await source.take(1)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    source.consumer.ack(message)
                except Forked:
                    source.consumer.close(1)
                    code = 0
                os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert source.held(message) and source.ack(message) == 1
            await source.close()
        asyncio.run(go())
        if os.fork() == 0:  # and it can have consumers of its own
            async def own():
                async with create_consumer("g", ["t"]) as consumer:
                    await publish("t", {"n": 2})
                    print(await anext(consumer), flush=True)
            asyncio.run(own())
            os._exit(0)
        print(os.wait()[1])
    """)
    assert (result.stdout, result.stderr) == ("{'n': 2}\n0\n", "")


KILLED = """
    import asyncio, os, signal, sys
    from salvo.messaging import configure_messaging, create_consumer
    settings = {settings!r}
    configure_messaging(**settings)
    async def handle(message):
        print(message["n"], flush=True)
        if message["n"] == {kill_at}:
            await asyncio.sleep(0.5)  # time for whatever would acknowledge too early
            os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(create_consumer({group!r}, [{topic!r}], handle).run())
"""


def test_killed_in_its_handler_the_message_is_given_again(broker: str, child: Child) -> None:
    if broker == "memory":
        pytest.skip("its messages end with the process")
    topic, group = fresh(), fresh("g")
    settings = {"message_broker": broker, KEYS[broker]: ADDRESSES[broker],
                "kafka_auto_commit_interval_ms": 50, "kafka_session_timeout_ms": 6000,
                "redis_claim_idle_ms": 2000}
    configure_messaging(kafka_session_timeout_ms=6000, redis_claim_idle_ms=2000)

    asyncio.run(filled(broker, group, topic, 6))
    result = child(KILLED.format(settings=settings, kill_at=3, group=group, topic=topic))
    assert result.returncode == -signal.SIGKILL and result.stdout.split() == ["0", "1", "2", "3"]

    async def rest() -> list[int]:
        got: list[int] = []
        async with create_consumer(group, [topic], lambda m: got.append(m["n"])):
            await until(lambda: {3, 4, 5} <= set(got), 90)
        return got

    got = asyncio.run(rest())
    assert got[-3:] == [3, 4, 5] and set(got) <= set(range(6))


def test_what_an_event_loop_left_is_stopped_in_the_next() -> None:
    consumer = create_consumer("g", ["t"], lambda message: None)

    async def leave() -> None:
        await consumer.start()

    asyncio.run(leave())
    asyncio.run(stop_all_consumers(5))
    assert not consumer.is_running

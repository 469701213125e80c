# SPDX-License-Identifier: Apache-2.0
"""How processes end, are interrupted and fork: every accepted message is delivered exactly once.

Each kind runs SALVO_REPEAT times (``script/test --long``: a thousand), its ways in turn; with
SALVO_TEST_KAFKA on that server too, where a consumer of other people's counts what arrived.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

KAFKA = os.environ.get("SALVO_TEST_KAFKA", "")
REPEAT = int(os.environ.get("SALVO_REPEAT", "0"))
AT_A_TIME = 4  # processes: most of their time is start and waits

BROKERS = {
    "memory": 'message_broker="memory"',
    "kafka": f'message_broker="kafka", kafka_bootstrap_servers="{KAFKA}"',
    "nobody": 'message_broker="kafka", kafka_bootstrap_servers="127.0.0.1:1"',
}
needs_kafka = pytest.mark.skipif(not KAFKA, reason="SALVO_TEST_KAFKA names no Kafka")
either = pytest.mark.parametrize("broker", ["memory", pytest.param("kafka", marks=needs_kafka)])

HEAD = """
import asyncio, itertools, multiprocessing, os, signal, sys, threading, time
from salvo.messaging import (
    Forked, configure_messaging, get_producer, install_sigterm_handler, publish)
TOPIC, RUN = {topic!r}, {run}
def burst(first, count):
    return get_producer().sync.send_batch_fire_and_forget(
        TOPIC, [{{"run": RUN, "n": n}} for n in range(first, first + count)])
def one(n):
    get_producer().sync.send_fire_and_forget(TOPIC, {{"run": RUN, "n": n}}, key=str(n))
"""


class Runs:
    """Programs of one topic, run many times; ``expected`` counts what must arrive."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder, self.broker = folder, broker
        self.topic = f"py-{uuid.uuid4().hex[:12]}"
        self.expected: Counter[tuple[int, int]] = Counter()

    def file(self, run: int, text: str, setting: str = "") -> str:
        """A program in a file of its own, which multiprocessing's spawn can import."""
        path = self.folder / f"run_{run}.py"
        body = textwrap.indent(textwrap.dedent(text).strip(), "    ")
        path.write_text(HEAD.format(topic=self.topic, run=run) +
                        f"configure_messaging({BROKERS[self.broker]}{setting})\n"
                        f"def child():\n    one(900)\n    burst(901, 9)\n"
                        f"if __name__ == '__main__':\n{body}\n")
        return str(path)

    def end(self, run: int, text: str, status: int, setting: str = "") -> None:
        """Run it to its end: its exit status, and nothing said of messages that stayed."""
        done = subprocess.run([sys.executable, self.file(run, text, setting)], text=True,
                              capture_output=True, timeout=120, cwd=self.folder)
        assert done.returncode == status, f"{text}\n{done.stderr}"
        assert "not delivered" not in done.stderr, done.stderr

    def many(self, ways: Sequence[str], work: Callable[[int, str], None]) -> None:
        """Every way at least once, REPEAT runs at least, some at a time."""
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            runs = [pool.submit(work, run, ways[run % len(ways)])
                    for run in range(max(REPEAT, len(ways)))]
            try:
                for done in runs:
                    done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def expect(self, run: int, numbers: Iterable[int]) -> None:
        self.expected.update((run, n) for n in numbers)

    def check(self) -> None:
        """Exactly what was expected is in the topic, each message once."""
        if self.broker != "kafka":
            return
        from confluent_kafka import Consumer

        consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": self.topic,
                             "auto.offset.reset": "earliest"})
        consumer.subscribe([self.topic])
        got: Counter[tuple[int, int]] = Counter()
        quiet_since = time.monotonic()
        wanted = sum(self.expected.values())
        # When all have come, a little longer: one too many would come now.
        while time.monotonic() - quiet_since < (1 if sum(got.values()) >= wanted else 20):
            for message in consumer.consume(1000, 0.5):
                assert message.error() is None
                value = json.loads(message.value() or b"")
                got[value["run"], value["n"]] += 1
                quiet_since = time.monotonic()
        consumer.close()
        assert (self.expected - got, got - self.expected) == (Counter(), Counter())


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[str], Runs]:
    return lambda broker: Runs(tmp_path, broker)


# How a program ends, and its exit status. Each sends 0 to 49 before.
ENDS = {
    "pass": 0,
    "sys.exit(3)": 3,
    "raise RuntimeError('on purpose')": 1,
    "install_sigterm_handler(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)": 143,
    # Tasks that wait are cancelled; their messages go on.
    """
    async def main():
        install_sigterm_handler()
        asyncio.create_task(publish(TOPIC, {"run": RUN, "n": 50}))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    asyncio.run(main())
    """: 143,
    "asyncio.run(publish(TOPIC, {'run': RUN, 'n': 50}, wait=False)); asyncio.run(asyncio.sleep(0))":
        0,
    # It is waited for, and sends when the main thread has ended.
    "threading.Thread(target=lambda: (time.sleep(0.1), one(50))).start()": 0,
    # It is in the middle of a wait.
    "threading.Thread(target=lambda: get_producer().sync.flush(60), daemon=True).start()": 0,
    "multiprocessing.get_context('fork').Process(target=child).start()": 0,
    "multiprocessing.get_context('spawn').Process(target=child).start()": 0,
    """
    with multiprocessing.get_context('fork').Pool(2) as pool:
        pool.starmap(one, [(n,) for n in range(900, 910)])
        pool.close()
        pool.join()
    """: 0,
    # Another engine takes over just before the end: both are flushed.
    "configure_messaging(batch_bytes=65536); one(50)": 0,
}


@either
def test_every_exit_delivers(broker: str, runs: Callable[[str], Runs]) -> None:
    all_runs = runs(broker)

    def work(run: int, end: str) -> None:
        all_runs.end(run, f"burst(0, 49); one(49)\n{textwrap.dedent(end)}", ENDS[end],
                     ", linger_us=20_000")

    all_runs.many(list(ENDS), work)
    for run in range(max(REPEAT, len(ENDS))):
        end = list(ENDS)[run % len(ENDS)]
        all_runs.expect(run, range(51 if "50" in end else 50))
        all_runs.expect(run, range(900, 910) if "multiprocessing" in end else ())
    all_runs.check()


# What a parent of 0 to 99, still on their way, does with a child that sends 900 to 909.
FORKS = (
    """
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)
    """,
    """
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0 if get_producer().sync.flush(60) == 0 else 1)
    one(100)
    """,
    # The child has a child.
    """
    pid = os.fork()
    if pid == 0:
        inner = os.fork()
        if inner == 0:
            burst(910, 90)
            sys.exit(0)
        child()
        sys.exit(os.waitpid(inner, 0)[1])
    """,
    # The parent's delivery is nobody's in the child, which waits for its own.
    """
    delivery = get_producer().sync.send(TOPIC, {"run": RUN, "n": 100}, wait=False)
    pid = os.fork()
    if pid == 0:
        try:
            delivery.wait(0)
        except Forked:
            for n in range(900, 905):
                asyncio.run(publish(TOPIC, {"run": RUN, "n": n}, timeout=60))
            for n in range(905, 910):
                get_producer().sync.send(TOPIC, {"run": RUN, "n": n}, timeout=60)
            os._exit(0)
        os._exit(1)
    assert delivery.wait(60).status == 0
    """,
    # In a coroutine, with a task that awaits and a thread that flushes.
    """
    async def main():
        waiting = asyncio.create_task(publish(TOPIC, {"run": RUN, "n": 100}))
        await asyncio.sleep(0)
        threading.Thread(target=get_producer().sync.flush, daemon=True).start()
        pid = os.fork()
        if pid == 0:
            child()
            os._exit(0 if get_producer().sync.flush(60) == 0 else 1)
        await waiting
        return pid
    pid = asyncio.run(main())
    """,
    """
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    pid = process.pid
    """,
)


@either
def test_every_fork_delivers_both_halves(broker: str, runs: Callable[[str], Runs]) -> None:
    all_runs = runs(broker)

    def work(run: int, fork: str) -> None:
        end = "assert os.waitpid(pid, 0)[1] == 0"
        all_runs.end(run, f"burst(0, 100)\n{textwrap.dedent(fork)}\n{end}", 0,
                     ", linger_us=50_000")

    all_runs.many(FORKS, work)
    for run in range(max(REPEAT, len(FORKS))):
        fork = FORKS[run % len(FORKS)]
        all_runs.expect(run, range(101 if "100" in fork else 100))
        all_runs.expect(run, range(900, 1000 if "burst(910" in fork else 910))
    all_runs.check()


# Waits without end: nobody answers. Each has said "started" before.
WAITS = (
    "p.sync.send_fire_and_forget('t', {}); started(); p.sync.flush(60)",
    "started(); p.sync.send('t', {})",
    "p.sync.send_fire_and_forget('t', {}); started(); p.sync.stop(60)",
    "started(); p.sync.send('t', {}, wait=False).wait()",
    "started(); p.sync.send_batch('t', [{}] * 5)",
    "started(); asyncio.run(p.send('t', {}))",
    "p.sync.send_fire_and_forget('t', {}); started(); asyncio.run(p.flush(60))",
    "p.sync.send_fire_and_forget('t', {}); started(); asyncio.run(p.stop(60))",
    "started(); p.sync.send_batch_fire_and_forget('t', [b'x' * 9000] * 9000)",
    "started(); asyncio.run(p.send_batch_fire_and_forget('t', [b'x' * 9000] * 9000))",
)


def interrupted(program: str, after_s: float, folder: Path) -> tuple[str, str, float]:
    """Ctrl-C, some time after it has said that it started; its output, and seconds until its
    end."""
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        time.sleep(after_s)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        return out, errors, time.monotonic() - began
    finally:
        process.kill()


def test_ctrl_c_ends_every_wait(runs: Callable[[str], Runs]) -> None:
    all_runs = runs("nobody")

    def work(run: int, wait: str) -> None:
        program = all_runs.file(run, f"""
            def started():
                print("started", flush=True)
            p = get_producer()
            p.sync.start()
            try:
                {wait}
            except KeyboardInterrupt:
                print("interrupted")
            """, ", close_timeout_ms=0")
        out, errors, seconds = interrupted(program, 0.1 + random.random() / 5, all_runs.folder)
        assert out == "interrupted\n", f"{wait}\n{errors}"
        # What stayed is counted at exit, even when it was stop() that was interrupted.
        assert " messages were accepted and not delivered" in errors, wait
        assert seconds < 10, wait

    all_runs.many(WAITS, work)


# Sending to a broker that answers, in ways that wait now and then.
SENDING = (
    "for n in numbers: one(n)",
    "for n in numbers: p.sync.send(TOPIC, {'run': RUN, 'n': n})",
    """
    for n in numbers:
        one(n)
        if n % 100 == 0: p.sync.flush()
    """,
    """
    async def main():
        for n in numbers: await publish(TOPIC, {"run": RUN, "n": n})
    asyncio.run(main())
    """,
    """
    async def main():
        for n in numbers: await p.send_fire_and_forget(TOPIC, {"run": RUN, "n": n})
    asyncio.run(main())
    """,
    """
    async def main():
        async with asyncio.TaskGroup() as group:
            for n in numbers:
                group.create_task(publish(TOPIC, {"run": RUN, "n": n}))
                if n % 50 == 0: await asyncio.sleep(0.001)
    asyncio.run(main())
    """,
)


@either
def test_ctrl_c_loses_nothing_that_was_accepted(broker: str, runs: Callable[[str], Runs]) -> None:
    all_runs = runs(broker)
    accepted: dict[int, int] = {}

    def work(run: int, sending: str) -> None:
        program = all_runs.file(run, "p = get_producer()\nnumbers = itertools.count(1)\none(0)\n"
                                "try:\n    print('started', flush=True)\n" +
                                textwrap.indent(textwrap.dedent(sending).strip(), "    ") +
                                "\nexcept KeyboardInterrupt:\n    pass\n"
                                "print(p.ledger()['accepted'])\n")
        out, errors, _ = interrupted(program, random.random() / 10, all_runs.folder)
        assert out.strip().isdigit() and "not delivered" not in errors, f"{sending}\n{errors}"
        accepted[run] = int(out)

    all_runs.many(SENDING, work)
    # They are numbered as they were accepted; tasks of one turn are cancelled before they send.
    for run, count in accepted.items():
        all_runs.expect(run, range(count))
    all_runs.check()


EXIT = f"""
    import asyncio, os, signal, sys
    from salvo.messaging import configure_messaging, get_producer, install_sigterm_handler
    configure_messaging({BROKERS["nobody"]}, close_timeout_ms=300)
    asyncio.run(get_producer().send_batch_fire_and_forget("t", [{{"n": n}} for n in range(500)]))
"""
Child = Callable[..., subprocess.CompletedProcess[str]]


def test_exit_ends_within_the_deadline_and_counts_what_stayed(child: Child) -> None:
    began = time.monotonic()
    done = child(EXIT)
    assert done.returncode == 0 and time.monotonic() - began < 20
    assert "salvo: kafka: 500 messages were accepted and not delivered" in done.stderr


def test_a_default_sigterm_flushes_nothing_and_the_handler_does(child: Child) -> None:
    kill = "\n    os.kill(os.getpid(), signal.SIGTERM)"
    done = child(EXIT + kill)
    assert done.returncode == -signal.SIGTERM and "not delivered" not in done.stderr
    done = child(EXIT + "\n    install_sigterm_handler()" + kill)
    assert done.returncode == 143 and "500 messages" in done.stderr


def test_multiprocessing_children_count_what_stayed(child: Child) -> None:
    for method in ("fork", "spawn", "forkserver"):
        Path("counted.py").write_text(textwrap.dedent(f"""
            import multiprocessing
            from salvo.messaging import configure_messaging, get_producer
            configure_messaging({BROKERS["nobody"]}, close_timeout_ms=200)
            def work():
                get_producer().sync.send_fire_and_forget("t", {{"n": 1}})
            if __name__ == "__main__":
                p = multiprocessing.get_context({method!r}).Process(target=work)
                p.start(); p.join()
                print(p.exitcode)
        """))
        done = subprocess.run([sys.executable, "counted.py"], text=True, capture_output=True,
                              timeout=60)
        assert done.stdout == "0\n", done.stderr
        assert done.stderr.count("1 messages were accepted and not") == 1, done.stderr


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

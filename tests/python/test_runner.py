# SPDX-License-Identifier: Apache-2.0
"""The runner, on a source in memory: order, acknowledgements, retries, handlers that hang, the
end. What it sends is in test_runner_sends.py."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from salvo.messaging import threads
from salvo.messaging.errors import BadMessage, Unreachable
from salvo.messaging.retry import Poison, RetryPolicy
from salvo.messaging.runner import Runner, in_thread
from sources import FakeSource, message, within

Run = Callable[[Any], Any]
SOON = RetryPolicy(max_retries=3, backoff="fixed", initial_delay=0.005)
NEVER = RetryPolicy(max_retries=1, backoff="fixed", initial_delay=1e6, max_delay=1e6)

# --- order and acknowledgements ---


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_order_per_key_holds_under_retries_and_concurrency(run: Run, concurrency: int) -> None:
    rng = random.Random(concurrency)
    keys = [b"k%d" % i for i in range(13)]
    messages = [message(n, rng.choice(keys)) for n in range(400)]
    done: dict[bytes, list[int]] = defaultdict(list)
    working: set[bytes] = set()
    most = 0

    async def process(each: Any) -> None:
        nonlocal most
        assert each.key not in working, "two of a key at the same time"
        working.add(each.key)
        most = max(most, len(working))
        try:
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if rng.random() < 0.15:
                raise ValueError("now and then")
            done[each.key].append(each.offset)
        finally:
            working.discard(each.key)

    async def main() -> Runner:
        source = FakeSource(messages)
        endless = RetryPolicy(max_retries=100, backoff="fixed", initial_delay=0.004)
        runner = Runner(source, process, name="t", concurrency=concurrency, retry=endless)
        await asyncio.wait_for(runner.run(), 60)
        assert sorted(source.acked) == list(range(400))
        return runner

    runner = run(main())
    for key in keys:
        assert done[key] == [each.offset for each in messages if each.key == key]
    assert runner.succeeded == 400 and runner.retried > 10
    assert (most > 1) == (concurrency > 1)


def test_nothing_is_acknowledged_before_its_handler_ended(run: Run) -> None:
    ended: set[int] = set()

    async def process(each: Any) -> None:
        await asyncio.sleep(0.002)
        ended.add(each.offset)

    async def main() -> None:
        source = FakeSource([message(n, b"%d" % (n % 7)) for n in range(100)])

        def check(messages: list[Any]) -> None:
            assert {each.offset for each in messages} <= ended

        source.on_ack = check
        await asyncio.wait_for(Runner(source, process, name="t", concurrency=3).run(), 30)
        assert len(source.acked) == 100

    run(main())


def test_a_long_handler_does_not_hold_back_what_is_settled(run: Run) -> None:
    async def main() -> None:
        never = asyncio.Event()

        async def process(each: Any) -> None:
            if each.offset == 5:
                await never.wait()

        source = FakeSource([message(n) for n in range(10)])
        task = asyncio.create_task(Runner(source, process, name="t").run())
        await within(5, lambda: source.acked == [0, 1, 2, 3, 4])
        never.set()
        await asyncio.wait_for(task, 5)
        assert source.acked == list(range(10))

    run(main())


def test_the_happy_path_makes_no_task_and_no_future_per_message(run: Run) -> None:
    async def process(each: Any) -> None:
        each.json()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = 0
        future, task = loop.create_future, loop.create_task

        def counted(what: Any) -> Any:
            def call(*arguments: Any, **keywords: Any) -> Any:
                nonlocal made
                made += 1
                return what(*arguments, **keywords)

            return call

        loop.create_future, loop.create_task = counted(future), counted(task)  # type: ignore
        source = FakeSource([message(n, b"k") for n in range(20_000)], in_hand=100_000)
        await Runner(source, process, name="t").run()
        assert len(source.acked) == 20_000 and made < 20_000 / 100

    run(main())


def test_a_message_whose_claim_was_lost_is_not_started(run: Run) -> None:
    started: list[int] = []

    async def main() -> Runner:
        source = FakeSource([message(n) for n in range(6)])

        async def process(each: Any) -> None:
            started.append(each.offset)
            if each.offset == 1:
                source.lose(2, 4)

        runner = Runner(source, process, name="t")
        await asyncio.wait_for(runner.run(), 5)
        return runner

    assert run(main()).lost == 2 and started == [0, 1, 3, 5]


def test_a_retry_whose_claim_was_lost_is_not_started(run: Run) -> None:
    attempts: list[int] = []

    async def main() -> Runner:
        source = FakeSource([message(0, b"a"), message(1, b"a"), message(2, b"b")])

        async def process(each: Any) -> None:
            attempts.append(each.offset)
            if each.offset == 0:
                source.lose(0)
                raise ValueError

        runner = Runner(source, process, name="t", retry=SOON)
        await asyncio.wait_for(runner.run(), 5)
        return runner

    assert run(main()).lost == 1 and sorted(attempts) == [0, 1, 2]


# --- retries ---


def test_a_parked_retry_holds_its_key_and_nothing_else(run: Run) -> None:
    done: list[int] = []

    async def process(each: Any) -> None:
        if each.offset == 0:
            raise ValueError
        done.append(each.offset)

    async def main() -> None:
        source = FakeSource([message(0, b"a"), message(1, b"a"), message(2, b"b"), message(3),
                             message(4, b"a"), message(5, b"c")])
        runner = Runner(source, process, name="t", retry=NEVER)
        task = asyncio.create_task(runner.run())
        await within(5, lambda: source.acked == [2, 3, 5])
        assert done == [2, 3, 5] and runner.stats()["parked"] == 3
        await runner.stop(5)
        await task
        assert source.acked == [2, 3, 5]  # the others are returned

    run(main())


def test_parked_messages_are_bounded_by_what_may_be_in_hand(run: Run) -> None:
    async def process(each: Any) -> None:
        raise ValueError

    async def main() -> None:
        source = FakeSource([message(n, b"%d" % n) for n in range(1000)], in_hand=50)
        runner = Runner(source, process, name="t", concurrency=4, retry=NEVER)
        task = asyncio.create_task(runner.run())
        await within(5, lambda: runner.stats()["parked"] == 50)
        await asyncio.sleep(0.05)
        assert runner.received == 50 and source.acked == []
        await runner.stop(5)
        await task

    run(main())


def test_attempts_their_delays_and_what_hooks_see(run: Run) -> None:
    times: list[float] = []
    seen: list[Any] = []

    async def process(each: Any) -> None:
        times.append(time.monotonic())
        raise ValueError("always")

    async def failed(each: Any, error: Exception) -> None:
        seen.append((each.offset, str(error)))

    async def main() -> Runner:
        policy = RetryPolicy(3, "exponential", initial_delay=0.05)
        runner = Runner(FakeSource([message(7)]), process, name="t", retry=policy, on_error=failed)
        await asyncio.wait_for(runner.run(), 10)
        return runner

    runner = run(main())
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert len(times) == 4 and all(g >= d for g, d in zip(gaps, (0.05, 0.1, 0.2), strict=True))
    assert seen == [(7, "always")]
    assert (runner.failed, runner.retried, runner.succeeded) == (1, 3, 0)


@pytest.mark.parametrize("error", [BadMessage("in", 0, 0, "$", "no JSON"), Poison(ValueError())])
def test_poison_is_not_retried(run: Run, error: Exception) -> None:
    attempts = 0

    async def process(each: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise error

    async def main() -> None:
        source = FakeSource([message(0), message(1)])
        await asyncio.wait_for(Runner(source, process, name="t", retry=SOON).run(), 5)
        assert source.acked == [0, 1]

    run(main())
    assert attempts == 2


def test_policies_may_depend_on_the_failure(run: Run) -> None:
    attempts: dict[int, int] = defaultdict(int)

    async def process(each: Any) -> None:
        attempts[each.offset] += 1
        raise KeyError if each.offset == 0 else ValueError

    def policy(each: Any, error: Exception) -> RetryPolicy | None:
        return SOON if isinstance(error, KeyError) else None

    run(Runner(FakeSource([message(0), message(1)]), process, name="t", retry=policy).run())
    assert attempts == {0: 4, 1: 1}


def test_a_handler_that_is_cancelled_by_somebody_else_has_failed(run: Run) -> None:
    async def process(each: Any) -> None:
        if each.offset == 0:
            raise asyncio.CancelledError

    async def main() -> None:
        source = FakeSource([message(0), message(1)])
        runner = Runner(source, process, name="t")
        await asyncio.wait_for(runner.run(), 5)
        assert source.acked == [0, 1] and runner.failed == 1

    run(main())


# --- handlers that hang ---


def test_a_timeout_cancels_an_async_handler_and_counts_as_a_failure(run: Run) -> None:
    cancelled: list[int] = []

    async def process(each: Any) -> None:
        if each.offset == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(each.offset)
                raise

    async def main() -> None:
        source = FakeSource([message(n) for n in range(3)])
        seen: list[Exception] = []

        async def failed(each: Any, error: Exception) -> None:
            seen.append(error)

        runner = Runner(source, process, name="t", timeout=0.03, retry=SOON, on_error=failed)
        await asyncio.wait_for(runner.run(), 10)
        assert sorted(source.acked) == [0, 1, 2]
        assert isinstance(seen[0], TimeoutError) and "0.03 s" in str(seen[0])

    run(main())
    assert cancelled == [1] * 4


def test_a_thread_that_hangs_is_abandoned_counted_and_bounded(
        run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(threads, "MAX_ABANDONED", 2)
    release = threading.Event()
    done: list[int] = []

    def handle(number: int) -> None:
        if number in (0, 1):
            release.wait(30)
        done.append(number)

    async def process(each: Any) -> None:
        await in_thread(handle, each.offset)

    async def main() -> None:
        source = FakeSource([message(n) for n in range(4)])
        runner = Runner(source, process, name="t", timeout=0.1)
        task = asyncio.create_task(runner.run())
        await within(10, lambda: "threads of handlers hang" in caplog.text)
        assert threads.abandoned == 2 and runner.failed == 2 and done == []
        await asyncio.sleep(0.3)
        assert runner.failed == 2  # the next is not tried, so it does not fail
        release.set()
        await asyncio.wait_for(task, 10)
        assert source.acked == [0, 1, 2, 3] and runner.failed == 2 and runner.succeeded == 2
        await within(5, lambda: threads.abandoned == 0)

    run(main())


def test_threads_are_reused(run: Run) -> None:
    names: set[int] = set()

    async def process(each: Any) -> None:
        await in_thread(lambda: names.add(threading.get_ident()))

    run(Runner(FakeSource([message(n) for n in range(200)]), process, name="t").run())
    assert len(names) <= 2


# --- the end ---


def test_stop_finishes_what_is_handled_and_returns_the_rest(run: Run) -> None:
    async def main() -> None:
        began, ended = [], []

        async def process(each: Any) -> None:
            began.append(each.offset)
            await asyncio.sleep(0.1)
            ended.append(each.offset)

        source = FakeSource([message(n) for n in range(100)])
        runner = Runner(source, process, name="t", concurrency=3)
        task = asyncio.create_task(runner.run())
        await within(5, lambda: len(began) == 3)
        await runner.stop(5)
        assert task.done() or await asyncio.wait_for(task, 1) is None
        assert source.closed and sorted(began) == sorted(ended) == sorted(source.acked)
        assert len(ended) == 3

    run(main())


def test_stop_does_not_wait_longer_than_its_deadline(run: Run) -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def process(each: Any) -> None:
            began.set()
            await asyncio.sleep(1000)

        source = FakeSource([message(0), message(1)])
        runner = Runner(source, process, name="t")
        task = asyncio.create_task(runner.run())
        await began.wait()
        await asyncio.wait_for(runner.stop(0.1), 5)
        await task
        assert source.closed and source.acked == []

    run(main())


def test_cancelling_returns_what_is_handled(run: Run) -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def process(each: Any) -> None:
            if each.offset == 1:
                began.set()
                await asyncio.sleep(1000)

        source = FakeSource([message(0), message(1)])
        task = asyncio.create_task(Runner(source, process, name="t").run())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert source.closed and source.acked == [0]

    run(main())


def test_an_error_of_the_source_ends_the_run_and_closes_it(run: Run) -> None:
    async def process(each: Any) -> None:
        pass

    async def main() -> None:
        source = FakeSource([message(0)])

        async def take(max: int) -> list[Any]:
            raise Unreachable("gone")

        source.take = take  # type: ignore[method-assign]
        with pytest.raises(Unreachable):
            await asyncio.wait_for(Runner(source, process, name="t").run(), 5)
        assert source.closed

    run(main())


def test_a_lane_lets_others_run(run: Run) -> None:
    """A handler that never really waits must not keep the loop for itself."""
    handled = 0

    async def process(each: Any) -> None:
        nonlocal handled
        handled += 1
        time.sleep(0.001)

    async def main() -> None:
        source = FakeSource([message(n) for n in range(500)])
        task = asyncio.create_task(Runner(source, process, name="t").run())
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 0 < handled < 500
        assert turns >= 3

    run(main())

# SPDX-License-Identifier: Apache-2.0
"""Runner: from a source of messages through handlers to acknowledgements.

Guarantees:

- Order per key at any concurrency (lanes.py); concurrency is the number of lanes.
- A message is acknowledged once it is settled: handled, its output acknowledged by the broker; or
  given up, its dead letter acknowledged by the broker, or counted where there is no dead letter
  topic. A dead letter that cannot be written holds its message back, not the process.
- What is in hand is bounded by the source (``max_in_hand``).
- ``run()`` ends when ``stop()`` is called, when the source is closed, or with the error of the
  source; whichever it is, the source is closed, what was settled committed and the rest returned.

It does not keep the order between keys, nor that of messages without a key (with one lane it does,
but for retries).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from salvo.messaging import threads
from salvo.messaging.deadletter import DeadLetter, Write, error_text
from salvo.messaging.errors import MessagingError
from salvo.messaging.lanes import Lane
from salvo.messaging.outbox import Outbox
from salvo.messaging.producers import Producer
from salvo.messaging.registry import get_producer
from salvo.messaging.retry import Poison, RetryPolicy, cause_of, is_poison
from salvo.messaging.threads import in_thread

__all__ = ["Runner", "Sink", "in_thread"]

logger = logging.getLogger("salvo.messaging")

_TAKE = 500  # messages at a time, and no more queued while no lane is idle
_FLUSH_EVERY = 0.1  # seconds a settled message waits for its acknowledgement, at most
STOP_TIMEOUT = 30.0  # seconds a stop takes, at most, where nothing else was said


class Source(Protocol):
    """What messages come from (consuming.py)."""

    async def take(self, max: int) -> list[Any]: ...  # [] only once it is closed
    def ack(self, messages: list[Any]) -> Any: ...
    def held(self, message: Any) -> bool: ...
    def all_held(self, messages: list[Any]) -> bool: ...
    async def close(self, timeout: float) -> Any: ...


class Sink(Protocol):
    """Takes the place of acknowledgements and sends, all of them in one step (transactions.py)."""

    def taken(self, messages: list[Any]) -> None: ...
    def settle(self, message: Any) -> None: ...
    async def put(self, message: Any, write: Write, *, is_letter: bool = False) -> None: ...
    def drop(self, message: Any) -> None: ...
    async def run(self) -> None: ...
    def stats(self) -> dict[str, int]: ...
    async def drain(self, until: float) -> None: ...


Process = Callable[[Any], Awaitable[Any]]
ProcessBatch = Callable[[list[Any]], Awaitable[Any]]
Chosen = Callable[[Any, Exception], Any]
Hook = Callable[[Any, Any], Any]


class Runner:
    """Takes from ``source`` and handles.

    ``process(message)`` is async; what it returns goes through ``output(message, result)``, which
    gives the ``Write`` to be sent, or None. ``process_batch(messages)`` is given up to
    ``batch_size`` at a time and returns as many results, or None for nothing to send. ``retry`` and
    ``dead_letter`` may be functions of (message, error). ``timeout``: seconds for one attempt.
    ``on_error(message, error)`` is called before a message is given up, ``on_success(message,
    result)`` after it was handled; they may be async, and run in threads where they are not.
    """

    def __init__(
        self, source: Source, process: Process, *, name: str, concurrency: int = 1,
        retry: RetryPolicy | Chosen | None = None,
        dead_letter: DeadLetter | Chosen | None = None, timeout: float | None = None,
        on_error: Hook | None = None, on_success: Hook | None = None,
        batch_size: int | None = None, process_batch: ProcessBatch | None = None,
        output: Callable[[Any, Any], Write | None] | None = None,
        producer: Producer | None = None, sink: Sink | None = None,
    ) -> None:
        self.name = name
        self.received = self.succeeded = self.failed = self.dead_lettered = 0
        self.retried = self.lost = self.batches_failed = 0
        self.batch_size = batch_size or 1
        self.process_batch = process_batch
        self.sends = output is not None or on_success is not None
        self.held: Callable[[Any], bool] = source.held
        self.all_held: Callable[[list[Any]], bool] = source.all_held
        self.process: Process = process if timeout is None else self._timed
        self._source, self._process, self._timeout = source, process, timeout
        self._retry, self._dead_letter = retry, dead_letter
        self._on_error, self._on_success, self._output = on_error, on_success, output
        self._producer, self._sink = producer, sink
        self._settled: list[Any] = []
        self.settle: Callable[[Any], None] = self._settled.append if sink is None else sink.settle
        self._lanes = [Lane(self) for _ in range(concurrency)]
        self._turn = itertools.cycle(self._lanes)
        self._outputs: Outbox | None = None
        self._letters: Outbox | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._ended: asyncio.Future[None] | None = None
        self._until: float | None = None
        self._idle: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None

    # --- life ---

    async def run(self) -> None:
        """Until it is stopped, or the source ends or fails. Once only. Cancelled, it stops at once:
        what is being handled is returned."""
        self._ended = asyncio.get_running_loop().create_future()
        try:
            lanes = [self._start(lane.run()) for lane in self._lanes]
            reader = self._start(self._take_all())
            if self._sink is not None:
                self._start(self._sink.run())
            await self._stopping.wait()
            reader.cancel()
            await self._wind_up(lanes)
        finally:
            try:
                await self._close()
            finally:
                self._ended.set_result(None)
        if self._failure is not None:
            raise self._failure

    async def stop(self, deadline: float = STOP_TIMEOUT) -> None:
        """Start nothing more, finish what is being handled and sent, return the rest; all within
        ``deadline`` seconds. Returns when ``run()`` has ended."""
        until = time.monotonic() + deadline
        self._until = until if self._until is None else min(until, self._until)
        self._stopping.set()
        if self._ended is not None:
            await asyncio.shield(self._ended)

    def stats(self) -> dict[str, int]:
        """What happened so far, and what waits now, in messages."""
        boxes = [box for box in (self._outputs, self._letters) if box is not None]
        return {
            "received": self.received, "succeeded": self.succeeded, "failed": self.failed,
            "dead_lettered": self.dead_lettered, "retried": self.retried, "lost": self.lost,
            "batches_failed": self.batches_failed, "threads_abandoned": threads.abandoned,
            "parked": sum(lane.parked for lane in self._lanes),
            "blocked": sum(box.blocked for box in boxes),
            **(self._sink.stats() if self._sink is not None else {}),
        }

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"salvo: {self.name}")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
            self._stopping.set()

    async def _wind_up(self, lanes: list[asyncio.Task[None]]) -> None:
        """Let lanes end and what was sent be answered, until the deadline."""
        until = self._deadline()
        for lane in self._lanes:
            lane.end()
        if self._failure is None:
            await asyncio.wait(lanes, timeout=max(0.0, until - time.monotonic()))
        for box in (self._outputs, self._letters, self._sink):
            if box is not None and self._failure is None:
                await box.drain(until)

    def _deadline(self) -> float:
        return time.monotonic() + STOP_TIMEOUT if self._until is None else self._until

    async def _close(self) -> None:
        """Whatever happened: end all tasks, acknowledge what is settled, close the source."""
        until = self._deadline()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(1.0, until - time.monotonic()))
        if self._timer is not None:
            self._timer.cancel()
        try:
            self.flush()
            await self._source.close(max(1.0, until - time.monotonic()))
        except MessagingError as error:
            logger.warning("%s: at its end: %s; what was not committed is given again", self.name,
                           error)

    # --- taking ---

    async def _take_all(self) -> None:
        """Messages to lanes, while one of them has nothing to do."""
        loop = asyncio.get_running_loop()
        while True:
            if not any(lane.is_idle for lane in self._lanes):
                self._idle = loop.create_future()
                await self._idle
                self._idle = None
            queued = sum(len(lane.queue) for lane in self._lanes)
            messages = await self._source.take(max(_TAKE - queued, len(self._lanes)))
            if not messages:
                break
            self._hand_out(messages)
        self._stopping.set()  # the source was closed

    def lane_is_idle(self) -> None:
        """A lane has nothing to do."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _hand_out(self, messages: list[Any]) -> None:
        self.received += len(messages)
        if self._sink is not None:
            self._sink.taken(messages)
        lanes = self._lanes
        if len(lanes) == 1:
            lanes[0].queue.extend(messages)
        else:
            for message in messages:
                key = message.key
                lane = next(self._turn) if key is None else lanes[hash(key) % len(lanes)]
                lane.queue.append(message)
        for lane in lanes:
            if lane.queue:
                lane.wake()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_EVERY, self._tick)

    def _tick(self) -> None:
        """While a handler takes long: acknowledge what is settled meanwhile."""
        self._timer = None
        self.flush()
        if not all(lane.is_idle for lane in self._lanes):
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_EVERY, self._tick)

    def flush(self) -> None:
        """Acknowledge what is settled."""
        if self._settled:
            settled = self._settled[:]
            self._settled.clear()
            self._source.ack(settled)

    def drop(self, message: Any) -> None:
        """Another member has it: it is not handled here."""
        self.lost += 1
        if self._sink is not None:
            self._sink.drop(message)

    # --- handling ---

    async def _timed(self, message: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return await self._process(message)
        except TimeoutError as error:
            if limit.expired():
                error.args = (f"the handler did not end within {self._timeout:g} s (timeout)",)
            raise

    async def handle_batch(self, batch: list[Any]) -> Any:
        """The results of a batch, as many as it has messages; None: nothing is to be sent."""
        assert self.process_batch is not None
        if self._timeout is None:
            results = await self.process_batch(batch)
        else:
            async with asyncio.timeout(self._timeout):
                results = await self.process_batch(batch)
        if results is None:
            return None
        if not isinstance(results, (list, tuple)) or len(results) != len(batch):
            count = len(results) if isinstance(results, (list, tuple)) else 1
            raise ValueError(f"process_batch returned {count} results for {len(batch)} messages")
        return results

    def batch_failed(self, batch: list[Any], error: BaseException) -> None:
        """It is handled message by message."""
        self.batches_failed += 1
        logger.warning("%s: a batch of %d messages failed (%s: %s): they are handled one by one",
                       self.name, len(batch), type(error).__name__, error_text(error))

    async def succeed_all(self, batch: list[Any]) -> None:
        """A batch without outputs."""
        if self._on_success is not None:
            for message in batch:
                await self._call(self._on_success, message, None)
        self.succeeded += len(batch)
        if self._sink is None:
            self._settled.extend(batch)
        else:
            for message in batch:
                self._sink.settle(message)

    async def succeed(self, message: Any, result: Any, attempts: int = 1) -> None:
        """Send what came out, or settle. Poison: it can never be sent."""
        write = None
        if self._output is not None:
            try:
                write = self._output(message, result)
                if write is not None:
                    await self._put_output(message, write, attempts)
            except Exception as error:
                raise Poison(error) from error
        self.succeeded += 1
        if self._on_success is not None:
            await self._call(self._on_success, message, result)
        if write is None:
            self.settle(message)

    def delay(self, message: Any, error: Exception, attempts: int) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if is_poison(error):
            return None
        policy = self._retry(message, error) if callable(self._retry) else self._retry
        if policy is None or not policy.again(attempts, error):
            return None
        delay: float = policy.delay(attempts)
        return delay

    async def give_up(self, message: Any, error: Exception, attempts: int) -> None:
        """To the dead letter topic, or counted and settled."""
        cause = cause_of(error)
        self.failed += 1
        letter = self._dead_letter
        if letter is not None and not isinstance(letter, DeadLetter):
            letter = letter(message, cause)
        logger.error("%s: %s[%d]@%d failed after %d attempts: %s: %s; %s", self.name,
                     message.topic, message.partition, message.offset, attempts,
                     type(cause).__name__, error_text(cause),
                     "given up" if letter is None else f"to {letter.topic}")
        if self._on_error is not None:
            await self._call(self._on_error, message, cause)
        if letter is None:
            self.settle(message)
        else:
            await self._put_letter(message, letter.write(message, cause, attempts))
            self.dead_lettered += 1

    async def _call(self, hook: Hook, message: Any, argument: Any) -> None:
        """A hook that fails or hangs harms nobody."""
        try:
            async with asyncio.timeout(self._timeout):
                if inspect.iscoroutinefunction(hook):
                    await hook(message, argument)
                else:
                    await in_thread(hook, message, argument)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            logger.exception("%s: its %s failed", self.name, getattr(hook, "__name__", "hook"))

    # --- sending ---

    async def _put_output(self, message: Any, write: Write, attempts: int) -> None:
        if self._sink is not None:
            await self._sink.put(message, write)
            return
        if self._outputs is None:
            self._outputs = self._outbox(self._refused)
        await self._outputs.put(message, write, attempts)

    async def _put_letter(self, message: Any, write: Write) -> None:
        if self._sink is not None:
            await self._sink.put(message, write, is_letter=True)
            return
        if self._letters is None:
            self._letters = self._outbox(None)
        await self._letters.put(message, write)

    def _outbox(self, refused: Any) -> Outbox:
        box = Outbox(self.name, self._producer or get_producer(), self, refused)
        self._start(box.settle_all())
        self._start(box.insist())
        return box

    async def _refused(self, message: Any, error: Exception, attempts: int) -> None:
        """The broker will never take its output."""
        self.succeeded -= 1
        await self.give_up(message, error, attempts)

# SPDX-License-Identifier: Apache-2.0
"""Lanes: each a long-lived task that handles the messages of its share of the keys, in order.

Guarantees: messages with the same key are handled one after the other, in the order in which they
came, retries included: what follows a message that waits for its retry waits behind it, and other
keys go on. A message without a key is a key of its own. A message whose claim was lost is not
started. On the happy path of an async handler there is no task and no future per message.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from salvo._engine import Message
from salvo.messaging import threads

if TYPE_CHECKING:
    from salvo.messaging.runner import Runner

_LOOK_EVERY = 64  # messages between two looks at the clock
_TURN = 0.02  # seconds a lane may go on without letting others run


class _Parked:
    """A message that waits for its retry, and those of its key behind it."""

    __slots__ = ("attempts", "behind", "message", "timer")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.attempts = 0
        self.behind: list[Message] = []
        self.timer: asyncio.TimerHandle | None = None


class Lane:
    """One lane of a runner."""

    def __init__(self, runner: Runner) -> None:
        self.queue: deque[Message] = deque()
        self._runner = runner
        self._parked: dict[bytes | int, _Parked] = {}
        self._due: deque[_Parked] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._turn_ends = 0.0

    @property
    def parked(self) -> int:
        """How many messages wait for a retry, those behind them included."""
        return sum(1 + len(parked.behind) for parked in self._parked.values())

    @property
    def is_idle(self) -> bool:
        """Whether it waits for something to do."""
        return self._waiter is not None and not self._waiter.done()

    def wake(self) -> None:
        """Look at the queue."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """Start nothing more: ``run()`` ends after the message that is being handled."""
        self._ended = True
        self.queue.clear()
        self._due.clear()
        for parked in self._parked.values():
            if parked.timer is not None:
                parked.timer.cancel()
        self._parked.clear()
        self.wake()

    async def run(self) -> None:
        """Handle what comes, until ``end()``."""
        runner = self._runner
        work = self._batch if runner.process_batch is not None else self._each
        loop = asyncio.get_running_loop()
        while not self._ended:
            if self._due:
                await self._retry(self._due.popleft())
            elif self.queue:
                self._turn_ends = time.monotonic() + _TURN
                await work()
            else:
                runner.flush()
                self._waiter = loop.create_future()
                runner.lane_is_idle()
                await self._waiter
                self._waiter = None

    async def _each(self) -> None:
        """The queue, message by message. This is the path that must be quick."""
        runner, queue, due, parked = self._runner, self.queue, self._due, self._parked
        held, process, settle = runner.held, runner.process, runner.settle
        sends = runner.sends
        look = _LOOK_EVERY
        while queue and not due:
            message = queue.popleft()
            if parked and self._is_behind(message):
                continue
            if not held(message):
                runner.drop(message)
                continue
            try:
                result = await process(message)
                if sends:
                    await runner.succeed(message, result)
                else:
                    settle(message)
                    runner.succeeded += 1
            except Exception as error:
                await self._failed(message, error, 1)
            except asyncio.CancelledError as error:
                await self._failed(message, _stray(error), 1)
            look -= 1
            if look == 0:
                look = _LOOK_EVERY
                await self._pause()

    async def _pause(self) -> None:
        """Let others run if it is their turn."""
        if time.monotonic() >= self._turn_ends:
            self._runner.flush()
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + _TURN

    async def _batch(self) -> None:
        """The queue, some at a time; a batch that fails, message by message."""
        runner, queue = self._runner, self.queue
        batch = self._next_batch()
        if not batch:
            return
        try:
            results = await runner.handle_batch(batch)
            if results is None or not runner.sends:
                await runner.succeed_all(batch)
                results = ()
        except threads.NoThread:
            queue.extendleft(reversed(batch))
            await threads.room()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                _stray(error)
            runner.batch_failed(batch, error)
            for message in batch:
                await self._once(message)
        else:
            for message, result in zip(batch, results, strict=False):
                if not (self._parked and self._is_behind(message)):
                    await self._succeed(message, result)
        await self._pause()

    def _next_batch(self) -> list[Message]:
        """As many as may be handled now; empty if there are none after all."""
        runner, queue = self._runner, self.queue
        if len(queue) <= runner.batch_size:
            batch = list(queue)
            queue.clear()
        else:
            batch = [queue.popleft() for _ in range(runner.batch_size)]
        if self._parked:
            batch = [message for message in batch if not self._is_behind(message)]
        if runner.all_held(batch):
            return batch
        held = []
        for message in batch:
            if runner.held(message):
                held.append(message)
            else:
                runner.drop(message)
        return held

    async def _succeed(self, message: Message, result: Any) -> None:
        try:
            await self._runner.succeed(message, result)
        except Exception as error:
            await self._failed(message, error, 1)

    async def _once(self, message: Message) -> None:
        """A message of a batch that failed, for its first time by itself."""
        if self._ended or (self._parked and self._is_behind(message)):
            return
        try:
            await self._runner.succeed(message, await self._runner.process(message))
        except Exception as error:
            await self._failed(message, error, 1)
        except asyncio.CancelledError as error:
            await self._failed(message, _stray(error), 1)

    # --- retries ---

    def _is_behind(self, message: Message) -> bool:
        """Whether a message waits behind one of its key; it is put there."""
        if message.key is None:
            return False
        parked = self._parked.get(message.key)
        if parked is None:
            return False
        parked.behind.append(message)
        return True

    async def _failed(self, message: Message, error: Exception, attempts: int,
                      parked: _Parked | None = None) -> None:
        """Park it for a retry, or give it up."""
        if isinstance(error, threads.NoThread):  # it was not even tried
            await threads.room()
            self._park(message, parked, attempts - 1, 0.0)
            return
        delay = self._runner.delay(message, error, attempts)
        if delay is not None and not self._ended:
            self._park(message, parked, attempts, delay)
        elif delay is None:
            await self._runner.give_up(message, error, attempts)
            self._release(parked)

    def _park(self, message: Message, parked: _Parked | None, attempts: int,
              delay: float) -> None:
        if parked is None:
            parked = _Parked(message)
            self._parked[_name(message)] = parked
        parked.attempts = attempts
        if delay > 0:
            parked.timer = asyncio.get_running_loop().call_later(delay, self._is_due, parked)
        else:
            self._due.append(parked)

    def _is_due(self, parked: _Parked) -> None:
        parked.timer = None
        self._due.append(parked)
        self.wake()

    async def _retry(self, parked: _Parked) -> None:
        message, runner = parked.message, self._runner
        if not runner.held(message):
            runner.drop(message)
            self._release(parked)
            return
        attempts = parked.attempts + 1
        runner.retried += attempts > 1
        try:
            await runner.succeed(message, await runner.process(message), attempts)
        except Exception as error:
            await self._failed(message, error, attempts, parked)
        except asyncio.CancelledError as error:
            await self._failed(message, _stray(error), attempts, parked)
        else:
            self._release(parked)

    def _release(self, parked: _Parked | None) -> None:
        """It is done with: those behind it are next."""
        if parked is None or self._ended:
            return
        del self._parked[_name(parked.message)]
        self.queue.extendleft(reversed(parked.behind))


def _name(message: Message) -> bytes | int:
    """What order is kept by: the key, or the message itself."""
    return message.id if message.key is None else message.key


def _stray(error: asyncio.CancelledError) -> Exception:
    """A handler that was cancelled by somebody else has failed; one that we cancel has not."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return RuntimeError("the handler was cancelled")

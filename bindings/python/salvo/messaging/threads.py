# SPDX-License-Identifier: Apache-2.0
"""Handlers that are no coroutines, in threads.

Guarantees: a call that is given up (a timeout cancels it) leaves its thread behind, because a
thread cannot be killed: it is counted while it runs on, and at most ``MAX_ABANDONED`` may be; with
that many nothing new is started until one of them ends. Threads are daemons: a handler that hangs
does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("salvo.messaging")

MAX_ABANDONED = 32
_LOOK_AGAIN = 0.05  # seconds, while too many are abandoned

_lock = threading.Lock()
_idle: list[_Thread] = []
abandoned = 0  # threads that run on without anybody waiting; read freely, written under the lock


class NoThread(Exception):
    """Too many threads are abandoned: nothing was started."""


class _Call:
    """One call: ended or abandoned, whichever comes first."""

    __slots__ = ("arguments", "context", "ended", "function", "future", "given_up", "loop")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...],
                 loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.arguments = arguments
        self.context = contextvars.copy_context()
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.ended = self.given_up = False

    def run(self, thread: _Thread) -> None:
        result, error = None, None
        try:
            result = self.context.run(self.function, *self.arguments)
        except BaseException as raised:
            error = raised
        global abandoned
        with _lock:
            self.ended = True
            abandoned -= self.given_up
            _idle.append(thread)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self.end, result, error)

    def end(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, StopIteration):  # no future takes it
            self.future.set_exception(RuntimeError("the handler raised StopIteration"))
        else:
            self.future.set_exception(error)


class _Thread:
    """Runs one call after the other."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="salvo-handler", daemon=True).start()

    def _run(self) -> None:
        while True:
            call = self.calls.get()
            call.run(self)
            del call  # what it holds is not kept alive until the next one


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread, with this task's context, and wait for its result.

    Cancelled, it abandons the thread. NoThread: nothing was started, ``room()`` is to be awaited.
    """
    global abandoned
    if abandoned >= MAX_ABANDONED:
        raise NoThread
    call = _Call(function, arguments, asyncio.get_running_loop())
    with _lock:
        thread = _idle.pop() if _idle else None
    (thread or _Thread()).calls.put(call)
    try:
        return await call.future
    except asyncio.CancelledError:
        with _lock:
            if not call.ended:
                call.given_up = True
                abandoned += 1
        raise


async def room() -> None:
    """Wait until less than ``MAX_ABANDONED`` threads are abandoned."""
    logger.error("%d threads of handlers hang and were abandoned: handlers that are no coroutines "
                 "are not started until one of them ends", abandoned)
    while abandoned >= MAX_ABANDONED:
        await asyncio.sleep(_LOOK_AGAIN)


def _after_fork_in_child() -> None:
    global _lock, abandoned
    _lock = threading.Lock()
    _idle.clear()
    abandoned = 0


os.register_at_fork(after_in_child=_after_fork_in_child)

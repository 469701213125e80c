# SPDX-License-Identifier: Apache-2.0
"""Workers: a topic in, a handler, perhaps a topic out.

Guarantees: every input is handled at least once, in order per key at any ``concurrency``; an output
is acknowledged by the broker before its input is; a message that failed after its retries goes to
``dlq_topic``, or is logged and counted, and never stops its partition. With ``exactly_once``
(Kafka) outputs, dead letters and offsets are one transaction: readers with ``read_committed`` see
each output once. What a worker does beside its output happens at least once all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from salvo.messaging import settings
from salvo.messaging.consuming import Source
from salvo.messaging.deadletter import DeadLetter
from salvo.messaging.errors import ConfigurationError, FatalError, Unsupported
from salvo.messaging.handling import Handling
from salvo.messaging.registry import get_producer
from salvo.messaging.retry import RetryPolicy
from salvo.messaging.runner import STOP_TIMEOUT, Runner
from salvo.messaging.topics import topic_of
from salvo.messaging.transactions import Transactions

logger = logging.getLogger("salvo.messaging")

_workers: dict[str, type[Worker]] = {}
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a worker is opened again
_LONG_ENOUGH = 60.0  # seconds a worker has run, and its next failure is a first one

Function = TypeVar("Function", bound=Callable[..., Any])


class Worker:
    """A worker as a class: set ``input_topic`` (or ``topic``), write ``process``.

    Defining it registers it under its name (``name``, else the class's). ``input_topic``: a name, a
    Topic class, or a list of them. ``group_id`` None: the worker's name. ``concurrency``: lanes,
    see lanes.py. ``max_retries``, ``retry_backoff``, ``retry_delay``, ``retry_max_delay``,
    ``retry_on``: see RetryPolicy; ``retry_policy`` takes the place of all of them. ``timeout``:
    seconds for one attempt. ``batch_size``: messages for one call of ``process_batch``, at most.
    ``input_schema``, ``output_schema``: pydantic models; ``process`` gets validated data as a dict,
    or the model where its parameter is annotated with one. ``member``: a name in the group that
    is kept over restarts, one for each process; with it, and with ``transactional_id`` where it is
    ``exactly_once``, a restarted process takes over at once from itself.
    """

    name: ClassVar[str] = ""
    topic: ClassVar[Any] = None
    input_topic: ClassVar[Any] = None
    output_topic: ClassVar[Any] = None
    group_id: ClassVar[str | None] = None
    concurrency: ClassVar[int] = 1
    max_retries: ClassVar[int] = 3
    retry_backoff: ClassVar[str] = "exponential"
    retry_delay: ClassVar[float] = 1.0
    retry_max_delay: ClassVar[float] = 60.0
    retry_on: ClassVar[Any] = (Exception,)
    retry_policy: ClassVar[RetryPolicy | None] = None
    timeout: ClassVar[float | None] = None
    batch_size: ClassVar[int | None] = None
    input_schema: ClassVar[Any] = None
    output_schema: ClassVar[Any] = None
    dlq_topic: ClassVar[Any] = None
    exactly_once: ClassVar[bool] = False
    transactional_id: ClassVar[str | None] = None
    member: ClassVar[str | None] = None
    broker: ClassVar[str | None] = None

    process: Callable[..., Any]
    process_batch: Callable[..., Any]
    on_error: Callable[..., Any]
    on_success: Callable[..., Any]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" not in vars(cls):
            cls.name = cls.__name__
        if cls.input_topic is None and cls.topic is None:
            return  # a base of other workers
        _check(cls)
        before = _workers.get(cls.name)
        if before is not None and before.__module__ != cls.__module__:
            warnings.warn(f'worker "{cls.name}": {cls.__module__}.{cls.__qualname__} takes the '
                          f"place of {before.__module__}.{before.__qualname__}", stacklevel=2)
        _workers[cls.name] = cls

    @classmethod
    def topics(cls) -> list[str]:
        """The names of its input topics."""
        given = cls.input_topic if cls.input_topic is not None else cls.topic
        many = given if isinstance(given, (list, tuple)) else [given]
        return [topic_of(each)[0] for each in many]

    @classmethod
    def group(cls) -> str:
        """The consumer group it reads in."""
        return cls.group_id or cls.name

    @classmethod
    def policy(cls) -> RetryPolicy:
        """How its failures are tried again."""
        return cls.retry_policy or RetryPolicy(
            cls.max_retries, cls.retry_backoff, cls.retry_delay, cls.retry_max_delay, cls.retry_on)


def _check(cls: type[Worker]) -> None:
    """What is wrong with a worker is told where it is defined."""

    def wrong(what: str) -> ConfigurationError:
        return ConfigurationError(f'worker "{cls.name}": {what}')

    if cls.input_topic is not None and cls.topic is not None:
        raise wrong("topic and input_topic are the same argument: give one")
    if not cls.topics():
        raise wrong("input_topic is an empty list")
    for name in ("concurrency", "batch_size"):
        value = getattr(cls, name)
        if value is not None and (type(value) is not int or not 1 <= value <= 10_000):
            raise wrong(f"{name} {value!r}: 1 to 10000 is allowed")
    if cls.timeout is not None and not (isinstance(cls.timeout, (int, float)) and cls.timeout > 0):
        raise wrong(f"timeout {cls.timeout!r}: seconds, more than 0, or None")
    try:
        cls.policy()
    except ConfigurationError as error:
        raise wrong(str(error)) from None
    handlers = [getattr(cls, name, None) for name in ("process", "process_batch")]
    if not any(callable(handler) for handler in handlers):
        raise wrong("it has neither process nor process_batch")
    if cls.batch_size is not None and not callable(handlers[1]):
        raise wrong("batch_size is for process_batch, which it does not have")
    for topic in (cls.output_topic, cls.dlq_topic):
        if topic is not None:
            topic_of(topic)


def worker(
    topic: Any = None, *, input_topic: Any = None, name: str | None = None, **options: Any
) -> Callable[[Function], Function]:
    """Register a function as a worker's ``process``; it stays the function that it is.

        @worker(topic="events.raw", output_topic="events.enriched", concurrency=5)
        async def enrich(event: dict) -> dict: ...

    ``options``: the attributes of Worker, and its hooks ``on_error(event, error)`` and
    ``on_success(event, result)`` as functions. With ``batch_size`` the function gets lists, and
    returns as many results.
    """
    allowed = {key for key in Worker.__annotations__ if not key.startswith("process")}
    for key in options:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            raise ConfigurationError(f"@worker: {key} is no option"
                                     + (f"; did you mean {near[0]}?" if near else ""))
    if topic is None and input_topic is None:
        raise ConfigurationError("@worker: topic is missing")

    def register(function: Function) -> Function:
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError("@worker is for functions: a class derives from Worker")
        handler = "process_batch" if options.get("batch_size") is not None else "process"
        hooks = {key: staticmethod(value) for key, value in options.items()
                 if key in ("on_error", "on_success")}
        space = {**options, **hooks, handler: staticmethod(function),
                 "name": name or getattr(function, "__name__", "worker"),
                 "topic": topic, "input_topic": input_topic,
                 "__module__": function.__module__, "__doc__": function.__doc__}
        type(str(space["name"]), (Worker,), space)
        return function

    return register


def get_worker(name: str) -> type[Worker]:
    """The worker of that name; ConfigurationError if there is none."""
    found = _workers.get(name)
    if found is None:
        known = ", ".join(sorted(_workers)) or "none"
        raise ConfigurationError(f'no worker is named "{name}"; registered: {known}')
    return found


def get_all_workers() -> dict[str, type[Worker]]:
    """All registered workers by name (a copy)."""
    return dict(_workers)


def unregister_all() -> None:
    """Forget all workers. For tests and reloads."""
    _workers.clear()


class WorkerRun:
    """A worker that runs: ``await run()``, ``await stop(deadline)``, ``stats()``."""

    def __init__(self, worker: str | type[Worker] | Worker) -> None:
        made = get_worker(worker) if isinstance(worker, str) else worker
        self._worker = made() if isinstance(made, type) else made
        self.name = self._worker.name
        self._runner: Runner | None = None
        self._stopping = asyncio.Event()
        self._ended: asyncio.Future[None] | None = None
        self.reopened = 0

    @property
    def runner(self) -> Runner | None:
        """What runs now."""
        return self._runner

    def stats(self) -> dict[str, int]:
        """The counters of the runner that runs now; see Runner."""
        return {**(self._runner.stats() if self._runner is not None else {}),
                "reopened": self.reopened}

    async def run(self) -> None:
        """Until it is stopped. An exactly-once worker whose transactions are beyond repair is
        opened anew, all of it, after a pause; any other error of the broker's is raised."""
        self._ended = asyncio.get_running_loop().create_future()
        pause = _FIRST_PAUSE
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    await self._run_once()
                    return
                except FatalError as error:
                    if not self._worker.exactly_once:
                        raise
                    pause = _FIRST_PAUSE if time.monotonic() - began > _LONG_ENOUGH else pause
                    logger.error("%s: %s; nothing of its transaction is seen; the worker is opened "
                                 "anew in %g s", self.name, error, pause)
                self.reopened += 1
                await self._wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._ended.set_result(None)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def stop(self, deadline: float = STOP_TIMEOUT) -> None:
        """As Runner.stop."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.stop(deadline)
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def _run_once(self) -> None:
        worker = self._worker
        source = Source(worker.broker, group=worker.group(), topics=worker.topics(),
                        member=worker.member, transactional=worker.exactly_once,
                        manual_commit=False,
                        name=f"worker {self.name}")
        sink = await self._sink(source) if worker.exactly_once else None
        try:
            await source.start()
            producer = get_producer(worker.broker)
            if worker.output_topic is not None:
                await producer._schema_ready(worker.output_topic)
            handling = Handling(worker, producer)
            self._runner = Runner(
                source, handling.process, name=f"worker {self.name}",
                concurrency=worker.concurrency, retry=worker.policy(), timeout=worker.timeout,
                dead_letter=DeadLetter(worker.dlq_topic) if worker.dlq_topic is not None else None,
                on_error=handling.on_error, on_success=handling.on_success,
                batch_size=handling.batch_size, process_batch=handling.process_batch,
                output=handling.output, producer=producer, sink=sink)
            if not self._stopping.is_set():
                await self._runner.run()
        finally:
            await source.close()
            if sink is not None:
                await sink.close()

    async def _sink(self, source: Source) -> Transactions:
        config = settings.effective(self._worker.broker)
        broker = config.get("message_broker")
        if broker != "kafka":
            raise Unsupported(f'worker "{self.name}": exactly_once needs Kafka\'s transactions; '
                              f"the broker is {broker}")
        return await Transactions.open(config, source, name=f"worker {self.name}",
                                       group=self._worker.group(),
                                       id=self._worker.transactional_id)


async def run_worker(
    worker: str | type[Worker] | Worker, *, stop_timeout: float = STOP_TIMEOUT
) -> None:
    """Run a worker until this is cancelled (Ctrl-C does it), then stop it: what is being handled
    ends, or is returned to the broker, within ``stop_timeout`` seconds."""
    await _run_all([WorkerRun(worker)], stop_timeout)


async def run_all_workers(*, stop_timeout: float = STOP_TIMEOUT) -> None:
    """Run all registered workers, as ``run_worker`` does. One that fails stops all."""
    if not _workers:
        raise ConfigurationError("no workers are registered: import the modules that define them")
    await _run_all([WorkerRun(cls) for cls in _workers.values()], stop_timeout)


async def _run_all(runs: list[WorkerRun], stop_timeout: float) -> None:
    tasks = [asyncio.ensure_future(run.run()) for run in runs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping = [asyncio.ensure_future(run.stop(stop_timeout)) for run in runs]
        await asyncio.wait(stopping)
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()

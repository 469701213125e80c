# SPDX-License-Identifier: Apache-2.0
"""``core workers``, ``core runworker``, ``core kafka worker``."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from salvo.messaging import consumers, workers
from salvo.messaging.cli import base, discovery, reload, show
from salvo.messaging.cli.running import Running, run_until_stopped
from salvo.messaging.topics import topic_of

_COLUMNS = {"name": "WORKER", "topics": "TOPIC", "output_topic": "OUTPUT", "group_id": "GROUP",
            "concurrency": "CONCURRENCY", "max_retries": "RETRIES", "dlq_topic": "DEAD LETTERS"}


def row_of(worker: type[workers.Worker]) -> dict[str, Any]:
    """A worker as ``core workers`` shows it."""
    row = {key: getattr(worker, key) for key in ("name", "concurrency")}
    for key in ("output_topic", "dlq_topic"):
        topic = getattr(worker, key)
        row[key] = topic_of(topic)[0] if topic is not None else None
    return {**row, "topics": worker.topics(), "group_id": worker.group(),
            "max_retries": worker.policy().max_retries, "exactly_once": worker.exactly_once}


def _registered() -> list[type[workers.Worker]]:
    found = list(workers.get_all_workers().values())
    if not found:
        base.fail(f"no workers are registered; {discovery.HOW}")
    return found


def run_workers(context: typer.Context, name: str | None, apps: list[str] | None,
                deadline: float, reloading: bool) -> None:
    """Both grammars' way to run one worker, or all with the consumers that start by themselves."""
    if reloading:
        raise typer.Exit(reload.supervise(reload.without_reload(sys.argv[1:]), deadline))
    base.show_logs()
    base.load(context, apps)
    if name is None:
        chosen = _registered()
        automatic = consumers.consumers_for(auto_start_only=True)
    else:
        _registered()
        chosen, automatic = [workers.get_worker(name)], []
    base.warn_of_memory()
    running: list[Running] = [workers.WorkerRun(each) for each in chosen]
    for row in map(row_of, chosen):
        output = f" -> {row['output_topic']}" if row["output_topic"] else ""
        show.note(f"worker {row['name']}: {show.cell(row['topics'])}{output}, "
                  f"group {row['group_id']}, concurrency {row['concurrency']}")
    for consumer in automatic:
        show.note(f"group {consumer.group_id}: {', '.join(consumer.topics)}")
    show.note(f"working on {base.where()}; Ctrl-C stops")
    raise typer.Exit(run_until_stopped([*running, *automatic], deadline))


def _names(incomplete: str) -> list[str]:
    """For the shell's completion: workers of core.toml's modules."""
    with contextlib.suppress(Exception):
        discovery.discover()
    return [name for name in ["all", *workers.get_all_workers()] if name.startswith(incomplete)]


@base.guarded
def list_workers(
    context: typer.Context, app: base.Apps = None, json: base.Json = False
) -> None:
    """List registered workers."""
    base.load(context, app)
    if not workers.get_all_workers():
        show.note(f"no workers are registered; {discovery.HOW}")
    show.rows_as([row_of(each) for each in workers.get_all_workers().values()], _COLUMNS, json)


@base.guarded
def runworker(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(
        metavar="WORKER|all", help="Name of a worker, or all.", autocompletion=_names)],
    stop_timeout: base.Deadline = 30, reload: base.Reload = False, app: base.Apps = None,
) -> None:
    """Run a worker, or all.

    With all, the consumers that are registered with auto_start=True run, too.
    """
    run_workers(context, None if worker == "all" else worker, app, stop_timeout, reload)


@base.guarded
def kafka_worker(
    context: typer.Context,
    worker: Annotated[str | None, typer.Argument(
        metavar="WORKER", help="Name of a worker.", show_default=False,
        autocompletion=_names)] = None,
    every: Annotated[bool, typer.Option("--all", help="Run all registered workers.")] = False,
    stop_timeout: base.Deadline = 30, reload: base.Reload = False, app: base.Apps = None,
) -> None:
    """Run a worker, or all."""
    if every == (worker is not None):
        base.fail("core kafka worker: name a worker, or give --all", 2)
    base.need_kafka()
    run_workers(context, worker, app, stop_timeout, reload)

# SPDX-License-Identifier: Apache-2.0
"""``core topics``, ``core kafka topics``, ``core kafka create-topic``, ``core lag``.

Guarantees: nothing that exists is changed; a deletion is asked for on a terminal, and needs
``--yes`` elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from salvo.messaging import consumers, topics_admin, workers
from salvo.messaging.cli import base, discovery, show
from salvo.messaging.errors import TransientError, UnknownTopic
from salvo.messaging.topics import get_all_topics

_COLUMNS = {"name": "TOPIC", "partitions": "PARTITIONS", "replication_factor": "REPLICAS",
            "retention_ms": "RETENTION MS", "cleanup_policy": "CLEANUP"}
_DESCRIBED = {**_COLUMNS, "messages": "MESSAGES"}
Name = Annotated[str, typer.Argument(metavar="TOPIC", help="Name of the topic.")]
Partitions = Annotated[int | None, typer.Option(
    "--partitions", "-p", min=1, metavar="N", show_default=False, help="How many partitions (1).")]
Replication = Annotated[int | None, typer.Option(
    "--replication-factor", "-r", min=1, metavar="N", show_default=False,
    help="On how many brokers each partition is (1).")]
Retention = Annotated[int | None, typer.Option(
    "--retention-ms", min=-1, metavar="MS", show_default=False,
    help="How long messages are kept; -1: for ever. Without it: as the broker has it.")]
Cleanup = Annotated[str | None, typer.Option(
    "--cleanup-policy", show_default=False, metavar="delete|compact|compact,delete",
    help="What becomes of old messages. Without it: as the broker has it.")]


@base.guarded
def list_topics(
    internal: Annotated[bool, typer.Option(
        "--internal", help="With the broker's own topics.")] = False,
    timeout: base.Timeout = 10, json: base.Json = False,
) -> None:
    """List the broker's topics."""
    base.need_a_server("topics")
    found = asyncio.run(topics_admin.list_topics(internal=internal, timeout=timeout))
    show.rows_as([asdict(info) for info in found], _COLUMNS, json)


@base.guarded
def create_topic(
    context: typer.Context, name: Name, partitions: Partitions = None,
    replication_factor: Replication = None, retention_ms: Retention = None,
    cleanup_policy: Cleanup = None, timeout: base.Timeout = 10, app: base.Apps = None,
    json: base.Json = False,
) -> None:
    """Create a topic.

    Attributes of a registered Topic class of that name count where no option is given.
    """
    base.need_a_server("topics")
    base.load(context, app)
    topic = get_all_topics().get(name, name)
    asyncio.run(topics_admin.create_topic(
        topic, partitions=partitions, replication_factor=replication_factor,
        retention_ms=retention_ms, cleanup_policy=cleanup_policy, timeout=timeout))
    _describe(name, timeout, json, "created")


def _describe(name: str, timeout: float, json: bool, outcome: str | None = None) -> None:
    row: dict[str, Any] = asdict(asyncio.run(_seen(name, timeout)))
    if outcome is not None:
        show.note(f"topic {name}: {outcome}")
    if json:
        show.write(show.as_json(row))
    else:
        show.rows_as([row], _DESCRIBED, json)


async def _seen(name: str, timeout: float) -> topics_admin.TopicInfo:
    """A topic that was made a moment ago may not be known to every broker of a cluster yet."""
    until = asyncio.get_running_loop().time() + timeout
    while True:
        try:
            return await topics_admin.describe_topic(name, timeout=timeout)
        except (UnknownTopic, TransientError):
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(0.1)


@base.guarded
def describe_topic(name: Name, timeout: base.Timeout = 10, json: base.Json = False) -> None:
    """Show a topic and how much it holds."""
    base.need_a_server("topics")
    info = asyncio.run(topics_admin.describe_topic(name, timeout=timeout))
    if json:
        show.write(show.as_json(asdict(info)))
    else:
        show.rows_as([asdict(info)], _DESCRIBED, json)


@base.guarded
def delete_topic(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: base.Timeout = 10,
) -> None:
    """Delete a topic and all it holds."""
    base.need_a_server("topics")
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete topic {name} of {base.where()} and all it holds?", abort=True,
                      err=True)
    asyncio.run(topics_admin.delete_topic(name, timeout=timeout))
    show.note(f"topic {name}: deleted")


@base.guarded
def ensure_topics(
    context: typer.Context, timeout: base.Timeout = 10, app: base.Apps = None,
    json: base.Json = False,
) -> None:
    """Create registered Topic classes.

    Creates those that are not there, and shows how the others differ. Nothing that exists is
    changed. Exit status 1 where something differs or cannot be had.
    """
    base.need_a_server("topics")
    base.load(context, app)
    if not get_all_topics():
        base.fail(f"no topic classes are registered; {discovery.HOW}")
    done = asyncio.run(topics_admin.ensure_topics(timeout=timeout))
    rows = [asdict(each) for each in done]
    show.rows_as(rows, {"name": "TOPIC", "outcome": "OUTCOME", "differences": "DIFFERENCES"}, json)
    if any(each.outcome in ("different", "unsupported") for each in done):
        raise typer.Exit(1)


def _readers() -> list[tuple[str, str]]:
    """Group and topic of every registered handler and worker."""
    pairs = [(each.group_id, topic) for each in consumers.consumers_for() for topic in each.topics]
    pairs += [(worker.group(), topic) for worker in workers.get_all_workers().values()
              for topic in worker.topics()]
    return list(dict.fromkeys(pairs))


def _wanted(group: str | None, topics: list[str]) -> list[tuple[str, str]]:
    if group is not None and topics:
        return [(group, topic) for topic in topics]
    found = [(of, topic) for of, topic in _readers()
             if group in (None, of) and (not topics or topic in topics)]
    if not found:
        base.fail("no registered handler or worker reads that; name both --group and --topic, or "
                  + discovery.HOW)
    return found


async def _lags(pairs: list[tuple[str, str]], timeout: float, must: bool) -> list[dict[str, Any]]:
    """A row for each partition. A topic that is not there is an error only where it was named: a
    handler's may come with its first message."""
    rows: list[dict[str, Any]] = []
    for group, topic in pairs:
        try:
            lags = await topics_admin.group_lag(group, topic, timeout=timeout)
        except UnknownTopic:
            if must:
                raise
            rows.append({"group": group, "topic": topic, "partition": None, "committed": None,
                         "end": None, "lag": 0})
            continue
        rows += [{"group": group, **asdict(each)} for each in lags]
    return rows


@base.guarded
def lag(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(
        "--group", "-g", metavar="GROUP", show_default=False, help="Consumer group.")] = None,
    topic: Annotated[list[str] | None, typer.Option(
        "--topic", "-t", metavar="TOPIC", show_default=False,
        help="Topic; may be repeated.")] = None,
    timeout: base.Timeout = 10, app: base.Apps = None, json: base.Json = False,
) -> None:
    """Show how far groups are behind.

    Without options those of all registered handlers and workers.
    """
    base.need_a_server("the lag")
    base.load(context, app)
    rows = asyncio.run(_lags(_wanted(group, topic or []), timeout, must=bool(topic)))
    show.rows_as(rows, {"group": "GROUP", "topic": "TOPIC", "partition": "PARTITION",
                        "committed": "COMMITTED", "end": "END", "lag": "LAG"}, json)


@base.guarded
def kafka_topics(
    internal: Annotated[bool, typer.Option(
        "--internal", help="With the broker's own topics.")] = False,
    timeout: base.Timeout = 10, json: base.Json = False,
) -> None:
    """List topics: core topics list."""
    base.need_kafka()
    list_topics(internal, timeout, json)


@base.guarded
def kafka_create_topic(
    context: typer.Context, name: Name, partitions: Partitions = None,
    replication_factor: Replication = None, retention_ms: Retention = None,
    cleanup_policy: Cleanup = None, timeout: base.Timeout = 10, app: base.Apps = None,
    json: base.Json = False,
) -> None:
    """Create a topic: core topics create."""
    base.need_kafka()
    create_topic(context, name, partitions, replication_factor, retention_ms, cleanup_policy,
                 timeout, app, json)

# SPDX-License-Identifier: Apache-2.0
"""``core dlq``: dead letter topics, what is in them and why, and the way back."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from salvo import _engine
from salvo._engine import Message
from salvo.messaging import deadletter, handlers, replay, settings, topics_admin, workers
from salvo.messaging.cli import base, discovery, show
from salvo.messaging.cli.consume import fields_of
from salvo.messaging.errors import MessagingError, UnknownTopic
from salvo.messaging.topics import topic_of

_COLUMNS = {"topic": "TOPIC", "messages": "MESSAGES", "waiting": "TO REPLAY", "of": "OF"}
_SHOWN = {"place": "LETTER", "failed_at": "FAILED AT", "origin": "FROM", "attempts": "ATTEMPTS",
          "error_type": "ERROR", "error": "SAID", "key": "KEY", "value": "VALUE"}
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="A dead letter topic.")]


def letter_topics() -> dict[str, list[str]]:
    """Dead letter topics of registered workers and handlers, and whose they are."""
    found: dict[str, list[str]] = {}
    for worker in workers.get_all_workers().values():
        if worker.dlq_topic is not None:
            found.setdefault(topic_of(worker.dlq_topic)[0], []).append(worker.name)
    for spec in handlers.get_all_consumers().values():
        for topic in {spec.dlq_topic, *(each.dlq_topic for each in spec.handlers)} - {None}:
            found.setdefault(str(topic), []).append(spec.name)
    return found


async def _counted(topic: str, of: list[str], timeout: float) -> dict[str, Any]:
    row: dict[str, Any] = {"topic": topic, "messages": 0, "waiting": 0, "of": of}
    try:
        row["messages"] = (await topics_admin.describe_topic(topic, timeout=timeout)).messages
    except UnknownTopic:  # nothing has failed yet
        return row
    lags = [each.lag for each in
            await topics_admin.group_lag(replay.GROUP, topic, timeout=timeout)]
    row["waiting"] = None if None in lags else sum(lag for lag in lags if lag is not None)
    return row


@base.guarded
def list_letters(
    context: typer.Context, timeout: base.Timeout = 10, app: base.Apps = None,
    json: base.Json = False,
) -> None:
    """List dead letter topics.

    Those of registered workers and handlers.
    """
    base.need_a_server("dead letters")
    base.load(context, app)
    topics = letter_topics()
    if not topics:
        show.note("no registered worker or handler has a dead letter topic (dlq_topic); "
                  + discovery.HOW)

    async def count() -> list[dict[str, Any]]:
        return [await _counted(topic, of, timeout) for topic, of in topics.items()]

    show.rows_as(asyncio.run(count()), _COLUMNS, json)


def read(topic: str, limit: int, timeout: float) -> list[Message]:
    """The first messages that a topic holds; nothing is taken out of it."""
    rows = _engine.read(settings.effective(), None, topic, int(timeout * 1000), limit)
    return [Message(topic, partition, offset, timestamp, key, value, dict(headers))
            for partition, offset, timestamp, key, value, headers in rows]


def facts_of(letter: Message) -> dict[str, Any]:
    """Why and whence, from the failure headers."""

    def said(name: str) -> str | None:
        value = letter.headers.get(name)
        return value.decode("utf-8", "replace") if value is not None else None

    origin = said(deadletter.TOPIC)
    if origin is not None:
        origin = f"{origin}[{said(deadletter.PARTITION)}]@{said(deadletter.OFFSET)}"
    return {"place": f"{letter.topic}[{letter.partition}]@{letter.offset}",
            "failed_at": said(deadletter.FAILED_AT), "origin": origin,
            "attempts": said(deadletter.ATTEMPTS), "error_type": said(deadletter.ERROR_TYPE),
            "error": said(deadletter.ERROR), "key": letter.key, "value": letter.value}


@base.guarded
def show_letters(
    topic: Topic,
    limit: Annotated[int, typer.Option(
        "--limit", min=1, metavar="N", help="At most so many.")] = 20,
    timeout: base.Timeout = 10, json: base.Json = False,
) -> None:
    """Show letters, and why they failed.

    The oldest ones first; nothing is taken out.
    """
    base.need_a_server("dead letters")
    letters = read(topic, limit, timeout)
    if json:
        show.write(show.as_json([fields_of(letter) for letter in letters]))
    else:
        show.rows_as([facts_of(letter) for letter in letters], _SHOWN, json)


@base.guarded
def replay_letters(
    topic: Topic,
    limit: Annotated[int | None, typer.Option(
        "--limit", min=1, metavar="N", show_default=False, help="At most so many.")] = None,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", help="Show what would be sent; send and acknowledge nothing.")] = False,
    to: Annotated[str | None, typer.Option(
        "--to", metavar="TOPIC", show_default=False,
        help="Send all of them there instead of to the topics they came from.")] = None,
    group: Annotated[str, typer.Option(
        "--group", metavar="GROUP", help="Consumer group that knows what has been replayed.")]
    = replay.GROUP,
    json: base.Json = False,
) -> None:
    """Send letters back where they came from.

    Key and value are unchanged. What was replayed before is not sent again. Letters that come
    meanwhile wait for the next time.
    """
    base.need_a_server("dead letters")
    done = replay.Replayed()

    def told(letter: Message, target: str) -> None:
        done.topics[target] += 1
        if dry_run and not json:
            show.write(f"{letter.topic}[{letter.partition}]@{letter.offset} -> "
                       f"{show.clean(target)} key={show.cell(letter.key)}")

    try:
        done = asyncio.run(replay.replay(topic, limit=limit, dry_run=dry_run, to=to, group=group,
                                         told=told))
    except MessagingError as error:
        sent = "nothing was sent" if dry_run else f"{done.count} were replayed before"
        base.fail(f"{error}; {sent}")
    if json:
        show.write(show.as_json({"topic": topic, "replayed": done.count, "dry_run": dry_run,
                                 "to": dict(done.topics), "left": done.left}))
    verb = "would be replayed" if dry_run else "replayed"
    show.note(f"{topic}: {done.count} {verb}" + "".join(
        f", {count} to {name}" for name, count in sorted(done.topics.items()))
        + (f"; {done.left} came meanwhile and wait for the next time" if done.left else ""))

# SPDX-License-Identifier: Apache-2.0
"""``core consumer``, ``core kafka consume``: run handlers, or print what arrives.

Guarantees: a printed message is acknowledged after it was written; a reader of the output that
goes away ends the command, and what it did not get is given again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from salvo._engine import Message
from salvo.messaging import consumers, settings
from salvo.messaging.cli import base, discovery, reload, show
from salvo.messaging.cli.running import Running, run_until_stopped
from salvo.messaging.consuming import Source

_CHUNK = 500
Limit = Annotated[int | None, typer.Option(
    "--limit", min=1, metavar="N", help="End after so many printed messages.", show_default=False)]


class Printer:
    """Prints what a group gets of topics, a line each."""

    def __init__(self, group: str, topics: Sequence[str], json: bool, limit: int | None) -> None:
        self._source = Source(group=group, topics=topics, manual_commit=False, name="core consumer")
        self._json, self._left = json, limit
        self.group_id, self._printed = group, 0

    async def run(self) -> None:
        while self._left is None or self._left > 0:
            most = _CHUNK if self._left is None else min(_CHUNK, self._left)
            messages = await self._source.take(most)
            if not messages:
                return
            text = "".join(line_of(message, self._json) + "\n" for message in messages)
            await asyncio.to_thread(_write, text)  # a full pipe must not stop the event loop
            if self._source.closed:  # while it was written: it is given again
                return
            self._source.ack(messages)
            self._printed += len(messages)
            if self._left is not None:
                self._left -= len(messages)

    async def stop(self, timeout: float) -> None:
        await self._source.close(timeout)

    def stats(self) -> dict[str, int]:
        return {"received": self._printed}


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def fields_of(message: Message) -> dict[str, Any]:
    """All of a message, for JSON; a value that is no JSON as text."""
    return {"topic": message.topic, "partition": message.partition, "offset": message.offset,
            "timestamp": message.timestamp, "key": message.key,
            "headers": dict(message.headers), "value": _value(message)}


def _value(message: Message) -> Any:
    if message.value is None:
        return None
    try:
        return msgspec.json.decode(message.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return message.value


def line_of(message: Message, json: bool) -> str:
    """A message on one line."""
    if json:
        return show.as_json(fields_of(message))
    parts = [f"{message.topic}[{message.partition}]@{message.offset}",
             show.time_text(message.timestamp)]
    if message.key is not None:
        parts.append(f"key={show.cell(message.key)}")
    parts += [f"{show.clean(name)}={show.cell(value)}" for name, value in message.headers.items()]
    parts.append(show.cell(message.value) if message.value is not None else "null")
    return " ".join(part for part in parts if part)


def _running(group: str | None, topics: Sequence[str], json: bool,
             limit: int | None) -> list[Running]:
    """The handlers that were asked for; where there are none, a printer."""
    found = consumers.consumers_for(group, topics or None)
    if found:
        for each in found:
            show.note(f"group {each.group_id}: {', '.join(each.topics)}")
        return list(found)
    if not topics:
        whose = f" of group {group}" if group is not None else ""
        base.fail(f"no handlers{whose} are registered; {discovery.HOW}; or name topics to "
                  "print their messages: --topic NAME", 1)
    group = group or settings.setting("default_group") or settings.application_name()
    show.note(f"group {group} has no handlers of {', '.join(topics)}: printing messages")
    return [Printer(group, topics, json, limit)]


def consume(context: typer.Context, group: str | None, topics: Sequence[str],
            apps: list[str] | None, json: bool, limit: int | None, deadline: float,
            reloading: bool) -> None:
    """Both grammars' way to consume."""
    if reloading:
        raise typer.Exit(reload.supervise(reload.without_reload(sys.argv[1:]), deadline))
    base.show_logs()
    base.load(context, apps)
    base.warn_of_memory()
    running = _running(group, topics, json, limit)
    show.note(f"consuming from {base.where()}; Ctrl-C stops")
    raise typer.Exit(run_until_stopped(running, deadline))


@base.guarded
def consumer(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(
        "--group", "-g", metavar="GROUP", show_default=False,
        help="Consumer group. Without it: the groups of all registered handlers of the topics.")]
    = None,
    topic: Annotated[list[str] | None, typer.Option(
        "--topic", "-t", metavar="TOPIC", show_default=False,
        help="Topic; may be repeated. Without it: all topics that the handlers name.")] = None,
    limit: Limit = None, stop_timeout: base.Deadline = 30, reload: base.Reload = False,
    app: base.Apps = None, json: base.Json = False,
) -> None:
    """Run handlers, or print messages.

    Topics that have no registered handlers are printed, a line a message.
    """
    consume(context, group, topic or (), app, json, limit, stop_timeout, reload)


@base.guarded
def kafka_consume(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Topic to consume.")],
    group: Annotated[str | None, typer.Option(
        "--group", "-g", metavar="GROUP", show_default=False, help="Consumer group.")] = None,
    limit: Limit = None, stop_timeout: base.Deadline = 30, reload: base.Reload = False,
    app: base.Apps = None, json: base.Json = False,
) -> None:
    """Consume a topic.

    Runs the group's handlers of it; where there are none, prints its messages.
    """
    base.need_kafka()
    consume(context, group, [topic], app, json, limit, stop_timeout, reload)

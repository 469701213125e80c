# SPDX-License-Identifier: Apache-2.0
"""What all commands share: their common options, errors as one line, which broker they talk to."""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, TypeVar, cast

import typer

from salvo.messaging import settings
from salvo.messaging.cli import discovery, show
from salvo.messaging.errors import MessagingError

Function = TypeVar("Function", bound=Callable[..., Any])

Apps = Annotated[list[str] | None, typer.Option(
    "--app", "-A", metavar="MODULE[:ATTR]", show_default=False,
    help="Module that defines workers, handlers and topics; may be repeated. Without it: modules "
         "of core.toml's [messaging].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Deadline = Annotated[float, typer.Option(
    "--stop-timeout", min=0, metavar="SECONDS",
    help="How long a clean stop may take after Ctrl-C or SIGTERM.")]
Reload = Annotated[bool, typer.Option(
    "--reload", help="For development: start again when a file below this folder changes.")]
Timeout = Annotated[float, typer.Option(
    "--timeout", min=0.1, max=3600, metavar="SECONDS", help="How long the broker may take.")]

_ADDRESSES = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url", "rabbitmq": "rabbitmq_url"}


def fail(text: str, status: int = 1) -> NoReturn:
    """One line on standard error, and the end."""
    show.note(text)
    raise typer.Exit(status)


def guarded(command: Function) -> Function:
    """A command whose errors are one line, not a traceback, with the documented exit status."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MessagingError as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except BrokenPipeError:  # the reader of our output has gone: nothing is left to do
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return cast(Function, run)


def load(context: typer.Context, apps: list[str] | None) -> list[str]:
    """Import what --app names, before or after the command, or what core.toml does."""
    general = context.find_root().params.get("app") or []
    return discovery.discover([*general, *(apps or [])])


class _Lines(logging.Formatter):
    """Log lines; what came with a message writes no control characters to a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(show.clean(line) for line in super().format(record).split("\n"))


def show_logs(level: int = logging.INFO) -> None:
    """Log lines on standard error, and what handlers print line by line, in a pipe or a container
    too. Modules that set up logging of their own take over by ``logging.basicConfig(force=True)``
    or with handlers of their loggers."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[lines])


def broker() -> str:
    """The configured broker's name."""
    return settings.effective().get("message_broker") or ""


def where() -> str:
    """The broker and its address, for people; credentials are masked."""
    rows = {row[0]: row for row in settings.effective().entries()}
    name = rows["message_broker"][1]
    key = _ADDRESSES.get(name, "")
    return f"{name} {rows[key][1]}" if key in rows else name


def need_a_server(what: str) -> None:
    """Refuse what can only be seen in the process whose ``memory`` broker it is."""
    if broker() == "memory":
        fail(f"the broker is memory, which lives inside one process: {what} of another process "
             "cannot be seen from here; choose a server, e.g. MESSAGE_BROKER=kafka "
             "KAFKA_BOOTSTRAP_SERVERS=localhost:9092")


def warn_of_memory() -> None:
    """Say what a consumer on ``memory`` can get."""
    if broker() == "memory":
        show.note("the broker is memory, which lives inside one process: only what this process "
                  "itself sends can arrive here, nothing of another one")


def need_kafka() -> None:
    """``core kafka ...`` on another server is a mistake that is better told."""
    name = broker()
    if name not in ("kafka", "memory"):
        fail(f"core kafka: the configured broker is {name}; use the commands without kafka (core "
             "topics, core consumer, core runworker), or set MESSAGE_BROKER=kafka")

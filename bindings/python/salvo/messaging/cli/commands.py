# SPDX-License-Identifier: Apache-2.0
"""The tree of commands: both grammars of the documentation, one implementation."""

from __future__ import annotations

from typing import Annotated

import typer

import salvo
from salvo.messaging import registry, settings
from salvo.messaging.cli import base, consume, dlq, show, topics, workers

_SETTINGS = {"key": "KEY", "value": "VALUE", "source": "FROM"}


def _group(help: str) -> typer.Typer:
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


app = typer.Typer(
    name="core", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]})
topic_commands = _group("Topics at the broker.")
letter_commands = _group("Dead letters: messages that were given up.")
kafka_commands = _group("The same, in the other grammar.")


def _version(wanted: bool) -> None:
    if wanted:
        show.write(f"core {salvo.__version__}")
        raise typer.Exit


@app.callback()
def core(
    app: base.Apps = None,
    version: Annotated[bool, typer.Option(
        "--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Consumers, workers, topics and dead letters.

    Settings come from core.toml, .env and the environment, e.g. KAFKA_BOOTSTRAP_SERVERS; see
    core config. Exit status: 0 done, 1 failed, 2 wrong usage, 130 or 143 stopped by Ctrl-C or
    SIGTERM.
    """


@base.guarded
def show_config(
    context: typer.Context, app: base.Apps = None, json: base.Json = False
) -> None:
    """Show settings and their sources.

    Every setting with its value and where it came from; secrets are masked.
    """
    base.load(context, app)
    rows = [{"key": key, "value": value, "default": default, "type": kind, "unit": unit,
             "source": source, "help": text}
            for key, value, default, kind, unit, source, text in settings.effective().entries()]
    show.rows_as(rows, _SETTINGS, json)


app.command("consumer")(consume.consumer)
app.command("runworker")(workers.runworker)
app.command("workers")(workers.list_workers)
app.command("lag")(topics.lag)
app.command("config")(show_config)

app.add_typer(topic_commands, name="topics")
topic_commands.command("list")(topics.list_topics)
topic_commands.command("create")(topics.create_topic)
topic_commands.command("describe")(topics.describe_topic)
topic_commands.command("ensure")(topics.ensure_topics)
topic_commands.command("delete")(topics.delete_topic)

app.add_typer(letter_commands, name="dlq")
letter_commands.command("list")(dlq.list_letters)
letter_commands.command("show")(dlq.show_letters)
letter_commands.command("replay")(dlq.replay_letters)

app.add_typer(kafka_commands, name="kafka")
kafka_commands.command("consume")(consume.kafka_consume)
kafka_commands.command("worker")(workers.kafka_worker)
kafka_commands.command("topics")(topics.kafka_topics)
kafka_commands.command("create-topic")(topics.kafka_create_topic)


def run() -> None:
    """The command, with the arguments of the process."""
    registry.install_sigterm_handler()
    app(prog_name="core")

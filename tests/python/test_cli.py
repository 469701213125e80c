# SPDX-License-Identifier: Apache-2.0
"""The core command: discovery, output, exit status, clean stops, reload; on ``memory``."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import SENDING, UP, WORKERS, Endless, core, shop
from salvo.messaging import ConfigurationError
from salvo.messaging.cli import discovery, reload, show


# --- discovery ---


@pytest.fixture
def modules() -> Iterator[None]:
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("shop", "broken"):
            del sys.modules[name]
    discovery.settings.name_application(None)


@pytest.mark.usefixtures("modules")
def test_modules_of_core_toml_or_of_options() -> None:
    shop("LOADED = True")
    assert discovery.configured() == ["shop.workers"]
    assert discovery.discover() == ["shop.workers"]
    assert sys.modules["shop.workers"].LOADED
    assert discovery.settings.application_name() == "shop"
    assert discovery.discover(["shop", "shop.workers:LOADED"]) == ["shop", "shop.workers:LOADED"]
    Path("core.toml").write_text('[messaging]\nmodules = "a.b, c"\n')
    assert discovery.configured() == ["a.b", "c"]
    Path("core.toml").unlink()
    assert discovery.discover() == []
    assert discovery.settings.application_name() == Path.cwd().name


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("text", "name", "said"), [
    ("", "shop.nothing", "there is no module shop.nothing"),
    ("", "nowhere.at.all", "there is no module nowhere in"),
    ("", "shop.workers:app.x", "shop.workers has no app.x"),
    ("", "shop/workers.py", "not a module's name"),
    ("import nothing_of_that_name", "shop.workers", "workers.py:1: ModuleNotFoundError"),
    ("x = 1\ndef f(:\n", "shop.workers", "workers.py:2: SyntaxError"),
    ("x = 1\n\n1 / 0\n", "shop.workers", "workers.py:3: ZeroDivisionError"),
])
def test_what_cannot_be_imported_is_told(text: str, name: str, said: str) -> None:
    shop(text)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as raised:
        discovery.discover([name])
    assert "\n" not in str(raised.value) and f"--app {name}" in str(raised.value)


def test_a_bad_list_of_modules_is_told() -> None:
    shop("", modules="[1]")
    done = core("workers")
    assert done.returncode == 1 and "modules (core.toml:2): an array" in done.stderr


# --- output ---


ROWS = [{"name": "a\x1b[31mb", "n": 7, "more": ["x", "y"]}, {"name": "[red]", "n": None}]
COLUMNS = {"name": "NAME", "n": "N", "more": "MORE"}


def test_a_table_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show.rows_as(ROWS, COLUMNS, False)
    assert capsys.readouterr().out == ("NAME        N  MORE\n"
                                       "a\\x1b[31mb  7  x, y\n"
                                       "[red]       -  -\n")


def test_a_table_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "19")
    show.rows_as(ROWS, COLUMNS, False)
    assert terminal.getvalue().splitlines()[0] == "NAME        N  MORE"
    monkeypatch.setenv("COLUMNS", "18")  # too narrow for it
    terminal.truncate(terminal.seek(0))
    show.rows_as(ROWS, COLUMNS, False)
    assert terminal.getvalue() == ("NAME  a\\x1b[31mb\nN     7\nMORE  x, y\n\n"
                                   "NAME  [red]\nN     -\nMORE  -\n")


def test_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    show.rows_as([{"n": 5, "t": "a"}, {"n": 1000, "t": "b"}], {"n": "N", "t": "T"}, False)
    assert capsys.readouterr().out == "   N  T\n   5  a\n1000  b\n"


def test_json_is_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    show.rows_as([{"key": b"\xff", "n": 1}], {"key": "KEY"}, True)
    assert json.loads(capsys.readouterr().out) == [{"key": "\\xff", "n": 1}]


@pytest.mark.parametrize(("given", "shown"), [
    (1700000000123, "2023-11-14T22:13:20.123Z"), (0, ""), (-1, ""), (10**18, "1" + "0" * 18)])
def test_times(given: int, shown: str) -> None:
    assert show.time_text(given) == shown


# --- exit status ---


@pytest.mark.parametrize("arguments", [
    "nothing", "consumer --nothing", "topics create", "kafka worker", "topics create x -p 0",
    "kafka worker a --all", "dlq show t --limit 0", "lag --timeout x", "runworker"])
def test_wrong_usage_is_2(arguments: str) -> None:
    done = core(*arguments.split())
    assert done.returncode == 2 and done.stdout == "" and done.stderr


@pytest.mark.parametrize("arguments", [
    "topics list", "topics create x", "topics describe x", "topics delete x", "topics ensure",
    "kafka topics", "kafka create-topic x", "lag", "dlq list", "dlq show x", "dlq replay x"])
def test_memory_is_told_where_another_process_is_needed(arguments: str) -> None:
    done = core(*arguments.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert "memory, which lives inside one process" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "said"), [
    ("consumer", "no handlers are registered; name the modules"),
    ("consumer -g x", "no handlers of group x"), ("runworker all", "no workers are registered"),
    ("kafka worker --all", "no workers are registered"),
    ("--app nowhere consumer", "there is no module nowhere"),
    ("workers --app nowhere", "there is no module nowhere")])
def test_what_is_missing_is_told(arguments: str, said: str) -> None:
    done = core(*arguments.split())
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_worker_is_told_with_those_that_are_there() -> None:
    shop(WORKERS)
    done = core("runworker", "enrichh")
    assert done.returncode == 1 and "registered: enrich, show" in done.stderr


def test_the_other_grammar_is_for_kafka() -> None:
    done = core("kafka", "topics", broker="redis")
    assert done.returncode == 1 and "the configured broker is redis" in done.stderr


def test_a_wrong_setting_is_one_line() -> None:
    done = core("topics", "list", broker="kafak")
    assert done.returncode == 1 and "kafak" in done.stderr and done.stderr.count("\n") == 1


def test_a_broker_that_is_away_is_told() -> None:
    done = core("topics", "list", "--timeout", "1", broker="redis",
                REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_typer_it_says_how_to_install_it() -> None:
    program = ("import sys; sys.modules['typer'] = None\n"
               "from salvo.messaging.cli import main; main()")
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True,
                          timeout=60)
    assert done.returncode == 1 and "pip install 'salvo-core[cli]'" in done.stderr


def test_version_help_and_settings() -> None:
    assert re.fullmatch(r"core \d+\.\d+\.\d+\n", core("--version").stdout)
    text = core("--help").stdout
    for command in ("consumer", "runworker", "workers", "lag", "config", "topics", "dlq", "kafka"):
        assert f"\n  {command} " in text
    assert "..." not in text.split("Commands:")[1]
    rows = {row["key"]: row for row in json.loads(
        core("config", "--json", RABBITMQ_URL="amqp://me:secret@h/").stdout)}
    assert rows["message_broker"]["value"] == "memory"
    assert rows["message_broker"]["source"] == "environment MESSAGE_BROKER"
    assert rows["rabbitmq_url"]["value"] == "amqp://me:****@h/"


def test_completion_knows_commands_and_workers() -> None:
    shop(WORKERS)

    def completed(words: str) -> set[str]:
        done = core(_CORE_COMPLETE="complete_bash", COMP_WORDS=words,
                    COMP_CWORD=str(len(words.split(" ")) - 1))
        return set(done.stdout.split())

    assert completed("core runw") == {"runworker"}
    assert completed("core topics d") == {"describe", "delete"}
    assert completed("core runworker ") == {"all", "enrich", "show"}


# --- running on memory ---


def test_workers_are_listed() -> None:
    shop(WORKERS)
    text = core("workers").stdout.splitlines()
    assert text[0].split() == ["WORKER", "TOPIC", "OUTPUT", "GROUP", "CONCURRENCY", "RETRIES",
                               "DEAD", "LETTERS"]
    assert text[1].split() == ["enrich", "raw", "rich", "enrich", "2", "0", "raw.dlq"]
    (enrich, show_) = json.loads(core("workers", "--json").stdout)
    assert enrich["topics"] == ["raw"] and enrich["exactly_once"] is False
    assert (show_["group_id"], show_["output_topic"]) == ("readers", None)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("arguments", ["runworker all", "kafka worker --all"])
def test_all_workers_and_automatic_consumers_run(
    arguments: str, number: int, status: int
) -> None:
    shop(SENDING)
    with Endless(*arguments.split()) as command:
        command.until("show {'n': 1, 'rich': True}")
        command.until("order {'n': 2}")
        assert command.stop(number) == status
    assert sorted(command.output) == ["enrich 1\n", "order {'n': 2}\n",
                                      "show {'n': 1, 'rich': True}\n"]
    told = "".join(command.lines)
    assert "memory, which lives inside one process" in told and "Traceback" not in told
    assert "enrich: 1 received, 1 succeeded" in told and "group orderly: 1 received" in told


def test_one_worker_runs_alone() -> None:
    shop(SENDING)
    with Endless("runworker", "enrich") as command:
        command.until("enrich 1")
        assert command.stop(signal.SIGTERM) == 143
    assert command.output == ["enrich 1\n"]


@pytest.mark.parametrize(("arguments", "expected"), [
    ("consumer", {"order"}), ("consumer -t orders", {"order"}),
    ("consumer -g orderly -t orders", {"order"}), ("kafka consume orders --group orderly",
                                                  {"order"})])
def test_handlers_run(arguments: str, expected: set[str]) -> None:
    shop(SENDING)
    with Endless(*arguments.split()) as command:
        command.until("order {'n': 2}")
        assert command.stop(signal.SIGTERM) == 143
    assert {line.split()[0] for line in command.output} == expected


def test_messages_without_handlers_are_printed() -> None:
    shop(SENDING)
    done = core("consumer", "-t", "raw", "-g", "new", "--limit", "1")
    assert done.returncode == 0
    assert re.fullmatch(r'raw\[0\]@0 \S+Z \{"n":1\}\n', done.stdout), done
    done = core("kafka", "consume", "raw", "--limit", "1", "--json")
    message = json.loads(done.stdout)
    assert (message["topic"], message["offset"], message["value"]) == ("raw", 0, {"n": 1})
    assert "group shop has no handlers of raw" in done.stderr


def test_a_handler_in_hand_is_finished_and_a_hanging_one_is_given_up() -> None:
    shop("""
        import asyncio
        from core.messaging import get_producer, message_handler

        @message_handler(topic="t", group_id="g")
        async def slow(message):
            print("begun", flush=True)
            await asyncio.sleep(message["s"])
            print("ended", flush=True)

        get_producer().sync.send("t", {"s": 1})
        get_producer().sync.send("t", {"s": 1000})
    """)
    with Endless("consumer", "--stop-timeout", "20") as command:
        command.until("begun")
        assert command.stop(signal.SIGTERM) == 143
    assert command.output == ["begun\n", "ended\n"]
    with Endless("consumer", "--stop-timeout", "0.2") as command:
        command.until("begun", count=2)
        began = time.monotonic()
        assert command.stop(signal.SIGTERM) == 143
        assert time.monotonic() - began < 15
    assert command.output == ["begun\n", "ended\n", "begun\n"]


def test_a_second_signal_ends_at_once() -> None:
    shop("""
        import time
        from core.messaging import get_producer, message_handler

        @message_handler(topic="t", group_id="g")
        async def stuck(message):
            print("begun", flush=True)
            await __import__("asyncio").sleep(1000)

        get_producer().sync.send("t", {})
    """)
    with Endless("consumer") as command:
        command.until("begun")
        command.process.send_signal(signal.SIGINT)
        command.until("once more ends at once")
        assert command.stop(signal.SIGINT) == 130


def test_a_worker_that_cannot_run_ends_the_command() -> None:
    shop("""
        from core.messaging import worker

        @worker(topic="a", exactly_once=True)
        async def exact(message): ...

        @worker(topic="b")
        async def fine(message): ...
    """)
    done = core("runworker", "all")
    assert done.returncode == 1 and "exactly_once needs Kafka" in done.stderr
    assert "Traceback" not in done.stderr


def test_reload() -> None:
    shop(SENDING)
    with Endless("runworker", "show", "--reload") as command:
        command.until(UP)
        before = command.process.pid
        workers = Path("shop/workers.py")
        workers.write_text(workers.read_text() + "\nprint('second edition', flush=True)\n")
        command.until("second edition")
        assert f"{Path('shop/workers.py')} changed" in "".join(command.lines)
        command.until(UP, count=2)
        workers.write_text("1 / 0\n")
        command.until("the command ended with status 1; waiting for a change")
        workers.write_text(textwrap.dedent(WORKERS))
        command.until(UP, count=3)
        assert command.process.pid == before
        assert command.stop(signal.SIGTERM) == 143
    assert "Traceback" not in "".join(command.lines)


def test_what_is_watched(tmp_path: Path) -> None:
    for name in ("a.py", "b/c.py", "core.toml", ".env", "b/d.txt", ".git/e.py", "venv/f.py",
                 "__pycache__/g.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    watched = {str(Path(name).relative_to(tmp_path)) for name in reload.stamps(tmp_path)}
    assert watched == {"a.py", "b/c.py", "core.toml", ".env"}

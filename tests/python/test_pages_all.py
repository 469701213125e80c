# SPDX-License-Identifier: Apache-2.0
"""Every block of the documentation's pages is run by a test, or named here with the reason why it
is none to run: a new block, or a new line of a block of commands, fails this test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pages
import pytest
import test_cli_pages
import test_pages
import test_pages_avro
import test_pages_consuming
import test_pages_infrastructure
import test_pages_settings
import test_pages_workers

BLOCKS = pages.needed()
MODULES = (test_pages, test_pages_avro, test_pages_consuming, test_pages_infrastructure,
           test_pages_settings, test_pages_workers)
COMMANDS = {name: block.text.splitlines() for name, block in BLOCKS.items()
            if block.language in ("bash", "sh", "shell") and name not in test_pages_settings.COVERS}
DRAWINGS = {name for name, block in BLOCKS.items() if block.language == "mermaid"}
INSTALLS = sorted({line.partition("#")[0].strip() for lines in COMMANDS.values() for line in lines
                   if line.startswith("pip install ")})


def test_every_block_is_run() -> None:
    covered = {*COMMANDS, *DRAWINGS}.union(*(module.COVERS for module in MODULES))
    assert covered == set(BLOCKS)
    languages = {block.language for block in BLOCKS.values()}
    assert languages == {"bash", "env", "json", "mermaid", "python", "toml"}


def test_no_block_is_run_by_two_tables() -> None:
    found = [name for module in MODULES for name in module.COVERS]
    assert len(found) == len(set(found)) and not {*COMMANDS, *DRAWINGS} & set(found)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_of_commands_is_run(name: str) -> None:
    """By test_cli_pages.py, which takes what begins with ``core``, or below."""
    lines = [line for line in COMMANDS[name] if line and not line.startswith("#")]
    assert lines
    for line in lines:
        command = line.partition("#")[0].strip()
        assert command in test_cli_pages.COMMANDS or command in INSTALLS, line


@pytest.mark.parametrize("command", INSTALLS)
def test_what_is_installed_is_there_already(command: str) -> None:
    """The pages install clients that nothing here needs; where somebody does all the same, they
    stand beside us. The tests' environment has them: no index is asked."""
    done = subprocess.run([sys.executable, "-m", *command.split(), "--no-index", "--dry-run"],
                          text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and "Would install" not in done.stdout, done


def test_none_of_those_clients_is_imported(
    child: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = child("""
        import asyncio, sys
        from core.messaging import configure_messaging, create_consumer, publish, worker
        configure_messaging(message_broker="memory")
        asyncio.run(publish("t", {"n": 1}))
        print({"aiokafka", "confluent_kafka", "aio_pika", "fastavro"} & set(sys.modules))
    """)
    assert (done.stdout, done.stderr) == ("set()\n", "")

# SPDX-License-Identifier: Apache-2.0
"""What the documentation's pages print for core.toml, .env and the envelope, and their tables of
defaults: each line counts, none is ignored."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pages
import pytest
from salvo.messaging import Settings, settings
from salvo.messaging.base import envelope

BLOCKS = list(pages.needed().values())
TOML = [block for block in BLOCKS if block.language == "toml"]
ENV = [block for block in BLOCKS if re.match(r"(#.*\n)?[A-Z_]+=", block.text)]
ENVELOPE = "messaging-quickstart:@event Decorator (Auto-Publish):2"
COVERS = {ENVELOPE, *(block.name for block in TOML + ENV)}
ROW = re.compile(r"^\| `(\w+)` \| (?:str|bool|int) \| (\S+) \|", re.M)


def name_of(block: pages.Block) -> str:
    return block.name


@pytest.mark.parametrize("block", TOML, ids=name_of)
def test_core_toml(block: pages.Block) -> None:
    settings.reset()
    table = "" if "[messaging]" in block.text else "[messaging]\n"  # one is a line to change
    Path("core.toml").write_text(table + block.text)
    printed = tomllib.loads(table + block.text)["messaging"]
    assert printed and {key: settings.setting(key) for key in printed} == printed


@pytest.mark.parametrize("where", [".env", "environment"])
@pytest.mark.parametrize("block", ENV, ids=name_of)
def test_environment(block: pages.Block, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.reset()
    printed = dict(line.split("=", 1) for line in block.text.splitlines() if line[:1].isalpha())
    if where == ".env":
        Path(".env").write_text(block.text)
    for name, value in printed.items() if where == "environment" else ():
        monkeypatch.setenv(name, value)
    for name, value in printed.items():
        found = settings.setting(name.lower())
        assert (str(found).lower() if isinstance(found, bool) else str(found)) == value
    assert settings.setting("message_broker") == "kafka"  # the only one, or one of several


def test_the_table_of_defaults() -> None:
    settings.reset()
    table = (pages.FOLDER / "messaging-guide.md").read_text("utf-8").partition("\n## Pub")[0]
    rows = dict(ROW.findall(table))
    assert len(rows) >= 12
    for key, printed in rows.items():
        assert str(settings.setting(key)) == printed.strip('"'), key


def test_the_class_of_defaults() -> None:
    """The page that prints all settings as a class prints the built-in values."""
    settings.reset()
    built_in = {key: settings.setting(key) for key in settings._types}
    (block,) = [b for b in BLOCKS if b.page == "messaging-overview" and "poll_records" in b.text]
    names: dict[str, Any] = {"Settings": Settings}
    asyncio.run(pages.run(block, names))
    printed = {k: v for k, v in vars(names["AppSettings"]).items() if k.startswith("kafka_")}
    assert len(printed) == 20 and printed == {key: built_in[key] for key in printed}


def test_the_printed_envelope() -> None:
    (block,) = [b for b in BLOCKS if b.name == ENVELOPE]
    printed = json.loads(block.text)
    ours = envelope("user.created", printed["data"], "my-service")
    assert {**printed, "id": ours["id"], "timestamp": ours["timestamp"]} == ours
    assert set(ours) == {*printed, "id"}
    for event in (printed, ours):
        assert datetime.fromisoformat(event["timestamp"]).utcoffset() is not None

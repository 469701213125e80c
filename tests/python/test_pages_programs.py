# SPDX-License-Identifier: Apache-2.0
"""What a reader of the documentation's pages does: a printed block in a module, the printed command
beside it in a process of its own, messages sent from here. On the Kafka that SALVO_TEST_KAFKA
names: ``memory`` ends with its process."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pages
import pytest
from commands import UP, Endless, shop
from pages_brokers import needs_kafka, start_anew, values
from pages_brokers import page_broker as page_broker
from reading import until
from salvo.messaging import publish, publish_event
from test_cli_pages import COMMANDS

BLOCKS = pages.needed()
pytestmark = needs_kafka
GEOIP = """
async def geoip_lookup(address):
    return {"country": "BR"}
"""
WORK = """
import logging
from core.messaging import worker
logger = logging.getLogger("shop")
async def do_work(message):
    return message["n"] * 10
"""
ORDER = """
class Order:
    @staticmethod
    async def create_welcome_order(user_id, db):
        print("welcome", user_id, db, flush=True)

    @staticmethod
    async def mark_paid(order_id, db):
        print("paid", order_id, db, flush=True)
"""


@dataclass
class Program:
    """``block`` after ``before``; ``group`` reads ``topics``; ``sent`` leads to ``results`` in the
    topic ``output``, or to lines that are ``printed``."""

    block: str
    before: str
    group: str
    topics: list[str]
    sent: list[tuple[str, Any]]
    output: str = ""
    results: list[Any] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)


PROGRAMS = {
    "core runworker enrich_event": Program(
        "messaging-guide:Decorator Style:1", GEOIP, "enrich_event", ["events.raw"],
        [("events.raw", {"n": 1})], "events.enriched",
        [{"n": 1, "country": "BR", "enriched": True}]),
    "core kafka worker TaskWorker": Program(
        "messaging-overview:Class-Based Worker:1", WORK, "task-processor", ["tasks"],
        [("tasks", {"n": n}) for n in range(12)], "results", [10 * n for n in range(12)]),
    "core kafka worker --all": Program(
        "messaging-overview:Decorator:3", WORK, "task-processor", ["tasks"],
        [("tasks", {"n": 3})], "results", [{"status": "completed", "result": 30}]),
    "core consumer --group order-service --topic user-events --topic payment-events": Program(
        "messaging-guide:Consumers (Classe Tradicional):1", ORDER, "order-service",
        ["user-events", "payment-events"],
        [("user-events", ("user.created", {"id": 5})),
         ("payment-events", ("payment.completed", {"order_id": 6}))],
        printed=["paid 6 None", "welcome 5 None"]),
    "core kafka consume user-events --group my-service": Program(
        "messaging-overview:Decorator:2", "", "my-service", ["user-events"],
        [("user-events", {"user_id": 1, "action": "login"})],
        printed=["User 1 performed login"]),
    "core consumer --topic orders.created": Program(
        "messaging-quickstart:Typed Messages:1", "", "page-app", ["orders.created"],
        [("orders.created", {"order_id": 1, "user_id": 2, "total": "3"})],
        printed=["Order 1 total: 3.0"]),
}


async def send(program: Program) -> None:
    for topic, message in program.sent:
        if isinstance(message, tuple):
            await publish_event(*message, topic=topic)
        else:
            await publish(topic, message, key="k")


@pytest.mark.parametrize("page_broker", ["kafka"], indirect=True)
@pytest.mark.parametrize("command", PROGRAMS)
def test_a_block_and_its_command(page_broker: str, command: str) -> None:
    program = PROGRAMS[command]
    assert command in COMMANDS
    shop(program.before + BLOCKS[program.block].text)
    with Path("core.toml").open("a") as settings:
        settings.write('default_group = "page-app"\n')
    start_anew(program.group, program.topics, filter(None, [program.output]))
    with Endless(*command.split()[1:], broker="kafka") as running:
        running.until(UP)
        asyncio.run(send(program))
        for line in program.printed:
            running.until(line)
        if program.output:
            asyncio.run(until(lambda: len(values(program.output)) >= len(program.results), 60))
        assert running.stop(signal.SIGTERM) == 143, running.lines
    if program.output:
        assert values(program.output) == program.results
    assert sorted(line.strip() for line in running.output) == program.printed

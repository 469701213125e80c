# SPDX-License-Identifier: Apache-2.0
"""Every consuming block of the documentation's pages runs as printed, and then handles what is
sent: on ``memory``, on a real Kafka where SALVO_TEST_KAFKA names one, and the block about Redis on
the one that SALVO_TEST_REDIS names."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pages
import pytest
from pages_brokers import delays as delays
from pages_brokers import page_broker as page_broker
from pages_brokers import start_anew
from pydantic import BaseModel
from reading import fresh, until
from salvo import messaging
from salvo.messaging import (
    configure_messaging,
    consumers_for,
    publish,
    publish_event,
    settings,
    stop_all_consumers,
)

BLOCKS = pages.needed()
Names = dict[str, Any]
CALLS: list[tuple[str, Any]] = []
STARTED = ("my-service", ["user-events", "payment-events"])  # what blocks start themselves
DEFAULT_GROUP = "page-app"


class Calls:
    """Something whose every method is told, and that keeps what it was given."""

    failing = 0  # calls that are yet to end without success

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any, **keywords: Any) -> Any:
            CALLS.append((f"{self.name}.{method}", keywords))
            self.failing -= 1
            return type("Result", (), {"success": self.failing < 0})

        return call


async def send_email(**keywords: Any) -> None:
    CALLS.append(("send_email", keywords))


async def send_confirmation_email(*arguments: Any) -> None:
    CALLS.append(("send_confirmation_email", arguments))


def supplied() -> Names:
    CALLS.clear()
    return {"Order": Calls("Order"), "payment_gateway": Calls("gateway"),
            "send_email": send_email, "send_confirmation_email": send_confirmation_email,
            "logger": logging.getLogger("page"), "BaseModel": BaseModel,
            # Imported by the block before:
            "create_consumer": messaging.create_consumer,
            "message_handler": messaging.message_handler}


async def handlers_run(*sent: tuple[str, Any], failed: int = 0) -> None:
    """Publish plain messages and (name, data) events while the registered handlers run."""
    consumers = consumers_for()
    for each in consumers:
        await asyncio.to_thread(start_anew, each.group_id, each.topics)
        await each.start()
    for topic, message in sent:
        if isinstance(message, tuple):
            await publish_event(*message, topic=topic)
        else:
            await publish(topic, message, key="k")

    def counted(name: str) -> int:
        return sum(each.stats()[name] for each in consumers)

    await until(lambda: counted("handled") + counted("failed") == len(sent), 60)
    assert counted("failed") == failed
    assert all(each.stats()["unknown"] == {} for each in consumers)
    await stop_all_consumers()


def groups() -> list[str]:
    return [spec.group_id for spec in messaging.get_all_consumers().values()]


# --- one check per block; it gets the names that the block leaves, and gives what is printed ---


async def ran(names: Names) -> str:
    """Its consumer has joined."""
    consumer = names["consumer"]
    assert consumer.is_running and consumer.group_id == STARTED[0]
    for topic in consumer.topics:
        await publish(topic, {"user_id": 1})
        message = await asyncio.wait_for(anext(consumer), 30)
        assert message == {"user_id": 1} and message.topic == topic
    await consumer.stop()
    return ""


async def manual(names: Names) -> str:
    is_kafka = settings.setting("message_broker") == "kafka"
    assert names["ConsumerClass"] is (
        messaging.KafkaConsumer if is_kafka else messaging.Consumer)
    return await ran(names)


async def custom(names: Names) -> str:
    await publish("user-events", {"user_id": 1})
    await until(lambda: names["consumer"].stats()["handled"] == 1, 30)
    await names["consumer"].stop()
    return "Recebido: {'user_id': 1}\n"


async def routed(names: Names) -> str:
    await handlers_run(("user-events", ("user.created", {"id": 1})),
                       ("user-events", ("user.updated", {"id": 2})))
    assert groups() == ["order-service"]
    return "Usuário criado: {'id': 1}\nUsuário atualizado: {'id': 2}\n"


async def orders(names: Names) -> str:
    await handlers_run(("user-events", ("user.created", {"id": 5})),
                       ("payment-events", ("payment.completed", {"order_id": 6})))
    assert sorted(CALLS) == [("Order.create_welcome_order", {"user_id": 5, "db": None}),
                             ("Order.mark_paid", {"order_id": 6, "db": None})]
    assert groups() == ["order-service"]
    return ""


async def shown(names: Names) -> str:
    assert names["handlers"] == {}
    await pages.run(BLOCKS[CLASS], supplied())
    again: Names = {}
    await pages.run(BLOCKS[SHOWN], again)
    assert set(again["handlers"]) == {"user.created", "payment.completed"}
    return f"{{}}\n{again['handlers']}\n"


async def confirmed(names: Names) -> str:
    await handlers_run(("orders.created", {"user_email": "a@b.c", "order_id": 7}))
    assert CALLS == [("send_confirmation_email", ("a@b.c", 7))]
    (spec,) = messaging.get_all_consumers().values()
    retry = spec.handlers[0].retry
    assert (retry.max_retries, retry.backoff, retry.initial_delay) == (3, "fixed", 5)
    return ""


async def decorated(names: Names) -> str:
    await handlers_run(("user-events", {"user_id": 1, "action": "login"}))
    assert groups() == ["my-service"]
    return "User 1 performed login\n"


async def emailed(names: Names) -> str:
    await handlers_run(("orders.created", {"order_id": 7, "user_email": "a@b.c"}))
    assert CALLS == [("send_email", {"to": "a@b.c", "subject": "Order Confirmed",
                                     "body": "Order #7 received."})]
    assert groups() == [DEFAULT_GROUP]
    return ""


async def paid(names: Names) -> str:
    """One charge is tried again until it succeeds, the next is given up."""
    gateway = names["payment_gateway"]
    gateway.failing = 2
    payment = {"amount": 5, "card_token": "t"}
    await handlers_run(("payments.process", payment))
    assert CALLS == [("gateway.charge", payment)] * 3 and names["delays"] == [5, 5]
    CALLS.clear()
    gateway.failing = 4
    await handlers_run(("payments.process", payment), ("payments.process", payment), failed=1)
    assert CALLS == [("gateway.charge", payment)] * 5 and names["delays"] == [5] * 5
    return ""


async def several(names: Names) -> str:
    await handlers_run(("orders.created", {}), ("orders.updated", {}))
    return ""


async def typed(names: Names) -> str:
    await handlers_run(("orders.created", {"order_id": "1", "user_id": 2, "total": 3}),
                       ("orders.created", {"order_id": "x"}), failed=1)
    return "Order 1 total: 3.0\n"


SHOWN = "kafka-backends:Consumer não processa eventos:1"
CLASS = "messaging-guide:Consumers (Classe Tradicional):1"
CHECKS: dict[str, Callable[[Names], Awaitable[str]]] = {
    "kafka-backends:Criação Automática:1": ran,
    "kafka-backends:Criação Manual:1": manual,
    "kafka-backends:Com Handler Customizado:1": custom,
    "kafka-backends:Com Event Routing (Decorators):1": routed,
    SHOWN: shown,
    CLASS: orders,
    "messaging-guide:Handler Simples:1": confirmed,
    "messaging-overview:Decorator:2": decorated,
    "messaging-quickstart:@consumer + @on_event (Class-Based):1": orders,
    "messaging-quickstart:@message_handler (Function-Based):1": emailed,
    "messaging-quickstart:Handler with Retry:1": paid,
    "messaging-quickstart:Multiple Topics:1": several,
    "messaging-quickstart:Typed Messages:1": typed,
}
REDIS = "messaging-overview:Consumer:1"


COVERS = {*CHECKS, REDIS}


@pytest.mark.usefixtures("page_broker")
@pytest.mark.parametrize("name", CHECKS)
def test_block(name: str, delays: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    configure_messaging(default_group=DEFAULT_GROUP)
    start_anew(*STARTED)

    async def go() -> str:
        names = {**supplied(), "delays": delays}
        await pages.run(BLOCKS[name], names)
        return await CHECKS[name](names)

    printed = asyncio.run(go())
    assert capsys.readouterr().out == printed


@pytest.mark.skipif(not os.environ.get("SALVO_TEST_REDIS"), reason="SALVO_TEST_REDIS names none")
def test_redis_consumer() -> None:
    topic = fresh("events")
    block = BLOCKS[REDIS]
    text = block.text.replace('"events"', repr(topic))  # the server keeps those of earlier runs
    block = pages.Block(block.page, "", 0, "", text, block.line)
    configure_messaging(message_broker="redis", redis_url=os.environ["SALVO_TEST_REDIS"])
    got: list[Any] = []

    async def go() -> None:
        async def process(message: Any) -> None:
            got.append(message)

        names: Names = {"process": process}
        running = asyncio.create_task(pages.run(block, names))
        await until(lambda: "consumer" in names and names["consumer"].is_running, 20)
        for n in range(3):
            await publish(topic, {"n": n})
        await until(lambda: len(got) == 3, 20)
        await until(lambda: names["consumer"].stats()["engine"]["acknowledged"] == 3, 20)
        await names["consumer"].stop()
        await asyncio.wait_for(running, 10)

    asyncio.run(go())
    assert [m["n"] for m in got] == [0, 1, 2]

# SPDX-License-Identifier: Apache-2.0
"""confluent-kafka: produce() with a delivery callback each, polled when nothing is due."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import confluent_kafka

from play import Player, die, play

player = Player("confluent-kafka", str(confluent_kafka.__version__))
settings = player.settings
topic = settings.text("topic")
producer = confluent_kafka.Producer({
    "bootstrap.servers": settings.text("address"), "acks": settings.text("acks"),
    "enable.idempotence": settings.text("idempotence"),
    "compression.codec": settings.text("compression"),
    "max.in.flight.requests.per.connection": settings.number("in_flight"),
    "batch.size": settings.number("batch_bytes"),
    "queue.buffering.max.kbytes": settings.number("buffer_bytes") // 1024,
    "queue.buffering.max.messages": 10_000_000,  # the bytes are the bound
    "linger.ms": settings.number("linger_us") / 1000, "log_level": 3})


def settled(at_ns: int, error: Any, _message: Any) -> None:
    """A delivery report."""
    player.settled(at_ns, error is None)


def send(at_ns: int, value: bytes, key: bytes | None) -> bool:
    """False: the queue is full."""
    try:
        producer.produce(topic, value, key, on_delivery=partial(settled, at_ns))
    except BufferError:
        return False
    return True


def serve(seconds: float) -> None:
    """poll() knows whole milliseconds; with less it would spin."""
    until = time.monotonic() + seconds
    producer.poll(seconds)
    left = until - time.monotonic()
    if 0 < left < 0.001:
        time.sleep(left)


errors: list[Any] = []
producer.produce(topic, b"first", on_delivery=lambda error, _: errors.append(error))
if producer.flush(30) != 0 or errors != [None]:
    die(f"confluent-kafka: a first message did not arrive: {errors}")
play(player, send, serve, producer.flush)

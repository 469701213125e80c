# SPDX-License-Identifier: Apache-2.0
"""aiokafka: send() without waiting for the outcome, which a callback of its future tells.

It has no bound for its buffer beyond a batch for each partition (send() waits when that is full),
and one request in flight for each partition, whatever it is told: both are aiokafka's own.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aiokafka

from play import Player, play_async, run


async def main() -> None:
    player = Player("aiokafka", str(aiokafka.__version__))
    settings = player.settings
    topic = settings.text("topic")
    compression = settings.text("compression")
    for key in ("buffer_bytes", "in_flight"):
        settings.text(key)  # has none: see above
    acks = settings.text("acks")
    producer = aiokafka.AIOKafkaProducer(
        bootstrap_servers=settings.text("address"), acks=acks if acks == "all" else int(acks),
        enable_idempotence=settings.text("idempotence") == "true",
        compression_type=None if compression == "none" else compression,
        max_batch_size=settings.number("batch_bytes"),
        linger_ms=settings.number("linger_us") / 1000)
    await producer.start()
    await producer.send_and_wait(topic, b"first")

    def settled(at_ns: int, future: asyncio.Future[Any]) -> None:
        player.settled(at_ns, future.exception() is None)

    async def send(at_ns: int, value: bytes, key: bytes | None) -> None:
        (await producer.send(topic, value, key)).add_done_callback(partial(settled, at_ns))

    await play_async(player, send, producer.flush)
    await producer.stop()


run(main)

# SPDX-License-Identifier: Apache-2.0
"""aio-pika with publisher confirms: a task for each message, at most `window` of them.

Persistent and mandatory messages to a durable queue, one channel.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import aio_pika

from play import Player, play_async, run


async def main() -> None:
    player = Player("aio-pika", version("aio-pika"))
    settings = player.settings
    queue = settings.text("topic")
    room = asyncio.Semaphore(settings.number("window"))
    connection = await aio_pika.connect(settings.text("address"))
    channel = await connection.channel(publisher_confirms=True)
    await channel.declare_queue(queue, durable=True)
    exchange = channel.default_exchange
    persistent = aio_pika.DeliveryMode.PERSISTENT
    tasks: set[asyncio.Task[None]] = set()

    async def publish(at_ns: int, message: aio_pika.Message) -> None:
        try:
            await exchange.publish(message, queue, mandatory=True)
        except aio_pika.exceptions.AMQPError:
            player.settled(at_ns, False)
        else:
            player.settled(at_ns, True)
        finally:
            room.release()

    async def send(at_ns: int, value: bytes, key: bytes | None) -> None:
        await room.acquire()
        message = aio_pika.Message(value, headers={"salvo-key": key.decode()} if key else None,
                                   delivery_mode=persistent)
        task = asyncio.create_task(publish(at_ns, message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def drain() -> None:
        while tasks:
            await asyncio.wait(tasks)

    await exchange.publish(aio_pika.Message(b"first", delivery_mode=persistent), queue,
                           mandatory=True)
    await play_async(player, send, drain)
    await connection.close()


run(main)

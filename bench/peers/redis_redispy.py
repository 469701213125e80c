# SPDX-License-Identifier: Apache-2.0
"""redis-py: what is due goes into a pipeline, which is executed when nothing more is due.

execute() waits for all replies, so a pipeline is also the window; up to `window` commands.
"""

from __future__ import annotations

import time

import redis

from play import Player, play

player = Player("redis-py", str(redis.__version__))
client = redis.Redis.from_url(player.settings.text("address"))
topic = player.settings.text("topic")
window = player.settings.number("window")
client.xadd(topic, {"value": b"first"})
pipeline = client.pipeline(transaction=False)
waiting: list[int] = []


def execute() -> None:
    """All that is in the pipeline, until it is answered."""
    for at_ns, reply in zip(waiting, pipeline.execute(raise_on_error=False), strict=True):
        player.settled(at_ns, isinstance(reply, bytes))
    waiting.clear()


def send(at_ns: int, value: bytes, key: bytes | None) -> bool:
    """Into the pipeline; a full one is executed."""
    pipeline.xadd(topic, {"key": key, "value": value} if key else {"value": value})
    waiting.append(at_ns)
    if len(waiting) >= window:
        execute()
    return True


def serve(seconds: float) -> None:
    """Nothing is due for a while: execute, then wait for the rest of it."""
    until = time.monotonic() + seconds
    if waiting:
        execute()
    left = until - time.monotonic()
    if left > 0:
        time.sleep(left)


play(player, send, serve, lambda _: serve(0), burst=window)

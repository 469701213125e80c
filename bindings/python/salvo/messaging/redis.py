# SPDX-License-Identifier: Apache-2.0
"""Redis Streams: a topic is a stream."""

from __future__ import annotations

from typing import Any

from salvo.messaging.consumers import RedisConsumer
from salvo.messaging.producers import Producer

__all__ = ["RedisConsumer", "RedisProducer"]


class RedisProducer(Producer):
    """A producer for Redis Streams. Without arguments it shares the configured one's engine;
    ``url`` and other settings make one of its own."""

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        if url is not None:
            settings["redis_url"] = url
        super().__init__("redis", **settings)

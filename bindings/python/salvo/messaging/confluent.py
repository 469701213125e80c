# SPDX-License-Identifier: Apache-2.0
"""Kafka through librdkafka, by the name that people know."""

from __future__ import annotations

from typing import Any

from salvo.messaging.producers import Producer


class ConfluentProducer(Producer):
    """A producer for Kafka. Without arguments it shares the configured Kafka producer's engine;
    ``bootstrap_servers`` and other settings make one of its own."""

    def __init__(self, bootstrap_servers: str | None = None, **settings: Any) -> None:
        if bootstrap_servers is not None:
            settings["kafka_bootstrap_servers"] = bootstrap_servers
        super().__init__("kafka", **settings)

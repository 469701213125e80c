# SPDX-License-Identifier: Apache-2.0
"""The brokers on which the pages' blocks run, and what they sent there.

Blocks keep the names of topics and groups that are printed, and a real broker keeps what earlier
runs sent to them: only what came since a test began counts, for its records and for its groups.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from salvo.messaging import Producer, RetryPolicy, configure_messaging, settings, testing

KAFKA = os.environ.get("SALVO_TEST_KAFKA", "")
needs_kafka = pytest.mark.skipif(not KAFKA, reason="SALVO_TEST_KAFKA names no Kafka")
began_ms = 0


@pytest.fixture(params=["memory", "kafka"])
def page_broker(request: pytest.FixtureRequest) -> str:
    """The test runs on ``memory``, and on a real Kafka where there is one."""
    global began_ms
    began_ms = int(time.time() * 1000)
    if request.param == "kafka":
        if not KAFKA:
            pytest.skip("SALVO_TEST_KAFKA names no Kafka")
        configure_messaging(message_broker="kafka", kafka_bootstrap_servers=KAFKA,
                            kafka_auto_commit_interval_ms=100)
    return str(request.param)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays that retry policies give; a hundredth of each is waited for."""
    given: list[float] = []
    printed = RetryPolicy.delay

    def short(self: RetryPolicy, retry: int) -> float:
        given.append(printed(self, retry))
        return given[-1] / 100

    monkeypatch.setattr(RetryPolicy, "delay", short)
    return given


def records(topic: str, producer: Producer | None = None) -> list[testing.Record]:
    """What the test itself sent."""
    return [r for r in testing.records(topic, producer) if r.timestamp >= began_ms]


def values(topic: str) -> list[Any]:
    return [record.json() for record in records(topic)]


def start_anew(group: str, topics: Iterable[str], others: Iterable[str] = ()) -> None:
    """On Kafka: have these topics, and the group begin with what comes from now on."""
    if settings.setting("message_broker") != "kafka":
        return
    admin = AdminClient({"bootstrap.servers": KAFKA})
    made = admin.create_topics([NewTopic(topic, 1, 1) for topic in {*topics, *others}])
    for future in made.values():
        error = future.exception(30)
        assert error is None or error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    reader = Consumer({
        "bootstrap.servers": KAFKA, "group.id": group, "enable.auto.commit": False})
    try:
        reader.commit(offsets=[end for topic in topics for end in _ends(reader, topic)],
                      asynchronous=False)
    finally:
        reader.close()


def _ends(reader: Consumer, topic: str) -> list[TopicPartition]:
    """Where a topic's partitions end; one that has just been made has no leader yet."""
    until = time.monotonic() + 30
    while True:
        try:
            found = reader.list_topics(topic, timeout=30).topics[topic]
            places = [TopicPartition(topic, number) for number in found.partitions]
            for place in places:
                place.offset = reader.get_watermark_offsets(place, timeout=30)[1]
        except KafkaException:
            assert time.monotonic() < until
        else:
            if places:
                return places
        time.sleep(0.05)

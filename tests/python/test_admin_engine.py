# SPDX-License-Identifier: Apache-2.0
"""Topics and lag, as the extension offers them: on memory, and on the real brokers that
SALVO_TEST_KAFKA, SALVO_TEST_REDIS and SALVO_TEST_RABBITMQ name."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from salvo import _engine
from salvo.messaging import errors
from salvo.messaging.native import Native

TIMEOUT = 20.0
BROKERS = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url", "rabbitmq": "rabbitmq_url"}


def config_of(**values: str) -> _engine.Config:
    config = _engine.Config()
    for key, value in values.items():
        config.set(key, value, "the test")
    return config


def name_of() -> str:
    return f"admin-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def memory() -> Iterator[_engine.Producer]:
    producer = Native(config_of(message_broker="memory", memory_partitions="2"))
    yield producer
    with contextlib.suppress(errors.ProducerClosed):
        producer.close(5)


@pytest.fixture(params=BROKERS)
def server(request: pytest.FixtureRequest) -> _engine.Config:
    address = os.environ.get(f"SALVO_TEST_{request.param.upper()}", "")
    if not address:
        pytest.skip(f"SALVO_TEST_{request.param.upper()} names no server")
    return config_of(message_broker=request.param, **{BROKERS[request.param]: address})


def create(config: Any, producer: Any, name: str, partitions: int = 0, replication: int = 0,
           retention_ms: int | None = None, cleanup: str | None = None) -> None:
    _engine.topics_create(config, producer, name, partitions, replication, retention_ms, cleanup,
                          TIMEOUT)


def test_memory(memory: _engine.Producer) -> None:
    assert _engine.topics_list(None, memory, TIMEOUT) == []
    create(None, memory, "b", 3, cleanup="delete")
    topic = memory.open_topic("a")
    for _ in range(5):
        memory.send_value(topic, b"x")
    assert memory.flush(10)
    assert [row["name"] for row in _engine.topics_list(None, memory, TIMEOUT)] == ["a", "b"]
    assert _engine.topics_list(None, memory, TIMEOUT)[1] == {
        "name": "b", "partitions": 3, "replication_factor": None, "retention_ms": -1,
        "messages": None, "cleanup_policy": None, "internal": False}
    assert _engine.topics_describe(None, memory, "a", TIMEOUT)["messages"] == 5
    assert _engine.topics_ensure(None, memory, "b", 3, 1, None, "delete", TIMEOUT) == (0, "")
    assert _engine.topics_ensure(None, memory, "c", 0, 0, None, None, TIMEOUT) == (1, "")
    assert _engine.topics_ensure(None, memory, "b", 4, 1, None, None, TIMEOUT) == (
        2, "partitions: 3, wanted 4")
    lags = _engine.group_lag(None, memory, "g", "a", TIMEOUT)
    assert [row[:2] for row in lags] == [("a", 0), ("a", 1)]
    assert sum(row[4] for row in lags) == 5


def test_many_topics_are_all_listed(memory: _engine.Producer) -> None:
    names = [f"t-{n:04}" for n in range(700)]
    for name in reversed(names):
        create(None, memory, name)
    assert [row["name"] for row in _engine.topics_list(None, memory, TIMEOUT)] == names


def test_errors_of_memory(memory: _engine.Producer) -> None:
    create(None, memory, "a")
    with pytest.raises(errors.Rejected, match="'a' already") as caught:
        create(None, memory, "a")
    assert caught.value.code == -17
    with pytest.raises(errors.UnknownTopic, match="'nosuch'"):
        _engine.topics_describe(None, memory, "nosuch", TIMEOUT)
    with pytest.raises(errors.Unsupported, match="retention"):
        create(None, memory, "b", retention_ms=1000)
    with pytest.raises(errors.Unsupported, match="end with their producer"):
        _engine.topics_delete(None, memory, "a", TIMEOUT)
    with pytest.raises(errors.InvalidMessage, match="letters"):
        create(None, memory, "a b")
    with pytest.raises(errors.InvalidMessage, match="partitions"):
        create(None, memory, "b", -1)
    with pytest.raises(errors.InvalidMessage, match="give that producer"):
        create(config_of(message_broker="memory"), None, "b")
    memory.close(5)
    with pytest.raises(errors.ProducerClosed):
        _engine.topics_list(None, memory, TIMEOUT)


@pytest.mark.parametrize("arguments", [
    ("config", None, TIMEOUT), (None, "producer", TIMEOUT), (None, None, "soon"), (None, None)])
def test_wrong_types(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        _engine.topics_list(*arguments)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_wrong_timeouts(memory: _engine.Producer, timeout: float) -> None:
    with pytest.raises(ValueError, match="86400"):
        _engine.topics_list(None, memory, timeout)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", 7, None])
def test_wrong_names(memory: _engine.Producer, name: Any) -> None:
    for call in (lambda: create(None, memory, name),
                 lambda: _engine.topics_describe(None, memory, name, TIMEOUT),
                 lambda: _engine.group_lag(None, memory, "g", name, TIMEOUT)):
        with pytest.raises((TypeError, ValueError)):
            call()


def test_a_retention_beyond_64_bits(memory: _engine.Producer) -> None:
    with pytest.raises(OverflowError):
        create(None, memory, "a", retention_ms=1 << 64)


def test_the_gil_is_free_while_a_broker_is_asked() -> None:
    """A broker that never answers: other threads run on, and the deadline holds."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config = config_of(message_broker="redis", redis_url=f"redis://127.0.0.1:{port}/0")
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                _engine.topics_list(config, None, 1.0)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=ask)
        begin = time.monotonic()
        thread.start()
        rounds = 0
        while thread.is_alive() and time.monotonic() < begin + 30:
            rounds += 1
            time.sleep(0.01)
        thread.join()
        assert rounds > 10
        assert isinstance(failures[0], errors.Unreachable)


def test_close_waits_for_a_call(memory: _engine.Producer) -> None:
    """Calls in other threads, and a close amid them: each call ends, none touches freed memory."""
    outcomes: list[str] = []

    def ask() -> None:
        for n in range(300):
            try:
                _engine.topics_ensure(None, memory, f"t{n}", 0, 0, None, None, TIMEOUT)
                _engine.topics_list(None, memory, TIMEOUT)
            except errors.ProducerClosed:
                outcomes.append("closed")
                return
        outcomes.append("done")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    memory.close(5)
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 4


def test_server(server: _engine.Config) -> None:
    broker, name = server.get("message_broker"), name_of()
    with pytest.raises(errors.UnknownTopic, match=name):
        _engine.topics_describe(server, None, name, TIMEOUT)
    retention = None if broker == "redis" else 7_200_000
    create(server, None, name, 1, 1, retention, "delete")
    try:
        with pytest.raises(errors.Rejected, match=name):
            create(server, None, name)
        row = _engine.topics_describe(server, None, name, TIMEOUT)
        assert (row["name"], row["partitions"], row["messages"]) == (name, 1, 0)
        assert row["retention_ms"] == (retention or -1)
        assert row["cleanup_policy"] == ("delete" if broker == "kafka" else None)
        assert _engine.topics_ensure(
            server, None, name, 1, 1, retention, "delete", TIMEOUT) == (0, "")
        if retention is not None:
            assert _engine.topics_ensure(server, None, name, 1, 1, -1, None, TIMEOUT) == (
                2, "retention_ms: 7200000, wanted forever")
        if broker == "rabbitmq":
            with pytest.raises(errors.Unsupported, match="rabbitmqctl"):
                _engine.topics_list(server, None, TIMEOUT)
        else:
            assert name in [row["name"] for row in _engine.topics_list(server, None, TIMEOUT)]
        [(topic, partition, _, _, lag)] = _engine.group_lag(server, None, "g", name, TIMEOUT)
        assert (topic, partition, lag) == (name, 0, 0)
    finally:
        _engine.topics_delete(server, None, name, TIMEOUT)
    _engine.topics_delete(server, None, name, TIMEOUT)

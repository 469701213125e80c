# SPDX-License-Identifier: Apache-2.0
"""Configuration: the layers and their order, the engine's errors, Settings classes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from salvo.messaging import (
    ConfigurationError,
    Settings,
    configure,
    configure_messaging,
    get_producer,
    publish,
    settings,
)
from salvo.messaging.testing import records


def get(key: str) -> Any:
    return settings.setting(key)


def test_the_layers_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get("kafka_linger_ms") == 0

    class AppSettings(Settings):
        kafka_linger_ms: int = 1

    assert get("kafka_linger_ms") == 1
    Path("core.toml").write_text("[messaging]\nkafka_linger_ms = 2\n")
    assert get("kafka_linger_ms") == 2
    Path(".env").write_text("# comment\nexport KAFKA_LINGER_MS='3' # more\nPATH_OF_MINE=x\n")
    assert get("kafka_linger_ms") == 3
    monkeypatch.setenv("KAFKA_LINGER_MS", "4")
    assert get("kafka_linger_ms") == 4
    configure_messaging(kafka_linger_ms=5)
    assert get("kafka_linger_ms") == 5
    configure(kafka_linger_ms=6, database_url="postgres://")
    assert get("kafka_linger_ms") == 6 and get("database_url") == "postgres://"
    configure_messaging(kafka_linger_ms=None, kafka_client_id="mine")
    assert get("kafka_linger_ms") == 6 and get("kafka_client_id") == "mine"  # calls merge


BUILT_IN = {
    "kafka_enabled": True, "kafka_backend": "aiokafka", "kafka_client_id": "core-framework",
    "kafka_bootstrap_servers": "localhost:9092", "kafka_acks": "all",
    "kafka_enable_idempotence": True, "kafka_fire_and_forget": False,
    "kafka_schema_registry_url": None, "kafka_security_protocol": "PLAINTEXT",
    "kafka_sasl_mechanism": None, "kafka_sasl_username": None, "kafka_sasl_password": None,
    "kafka_ssl_cafile": None, "kafka_ssl_certfile": None, "kafka_ssl_keyfile": None,
    "kafka_compression_type": "none", "kafka_linger_ms": 0, "kafka_max_batch_size": 16384,
    "kafka_request_timeout_ms": 30000, "kafka_retry_backoff_ms": 100,
    "kafka_auto_offset_reset": "earliest", "kafka_enable_auto_commit": True,
    "kafka_auto_commit_interval_ms": 5000, "kafka_max_poll_records": 500,
    "kafka_session_timeout_ms": 10000, "kafka_heartbeat_interval_ms": 3000,
    "redis_url": "redis://localhost:6379/0",
    "rabbitmq_url": "amqp://guest:guest@localhost:5672/", "default_topic": "events",
    "send_timeout_ms": 60000, "full_policy": "block", "message_broker": "kafka",
}


def test_the_built_in_values() -> None:
    settings.reset()
    assert {key: get(key) for key in BUILT_IN} == BUILT_IN
    assert settings.source_name() == settings.application_name() != ""


@pytest.mark.parametrize(("program", "name"), [
    ("/srv/shop/__main__.py", "shop"), ("/srv/billing.py", "billing"), ("-c", "application"),
    ("", "application"),
])
def test_the_applications_name(program: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [program])
    assert settings.source_name() == name
    configure_messaging(source="mine")
    assert settings.source_name() == "mine"


def test_short_names_mean_the_chosen_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.reset()
    configure_messaging(broker="redis", bootstrap_servers="redis://r:1/0")
    assert get("message_broker") == "redis" and get("redis_url") == "redis://r:1/0"
    settings.reset()
    Path(".env").write_text("KAFKA_BOOTSTRAP_SERVERS=low:1\n")
    configure_messaging(broker="kafka", bootstrap_servers="high:1")
    assert get("kafka_bootstrap_servers") == "high:1"

    configure_messaging(kafka_bootstrap_servers="later:1")
    assert get("kafka_bootstrap_servers") == "later:1"
    configure_messaging(bootstrap_servers="latest:1")
    assert get("kafka_bootstrap_servers") == "latest:1"

    class Low(Settings):
        bootstrap_servers: str = "lowest:1"

    settings.reset()
    Low.__init_subclass__()
    Path("core.toml").write_text('[messaging]\nkafka_bootstrap_servers = "file:1"\n')
    Path(".env").unlink()
    assert get("kafka_bootstrap_servers") == "file:1"


def test_the_broker_that_is_set_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.reset()
    assert get("message_broker") == "kafka"
    monkeypatch.setenv("REDIS_URL", "redis://r:1/0")
    assert get("message_broker") == "redis"
    monkeypatch.setenv("RABBITMQ_URL", "amqp://r:1/")
    with pytest.raises(ConfigurationError, match="redis.*rabbitmq"):
        asyncio.run(publish("t", {}))
    Path(".env").write_text("KAFKA_BOOTSTRAP_SERVERS=k:1\n")
    assert get("message_broker") == "kafka"  # several, Kafka among them
    configure_messaging(kafka_enabled=False, message_broker="kafka")
    with pytest.raises(ConfigurationError, match="kafka_enabled"):
        asyncio.run(publish("t", {}))


@pytest.mark.parametrize(("setting", "words"), [
    ({"kafka_lingr_ms": 1}, "kafka_linger_ms"),
    ({"kafka_linger_ms": "soon"}, "0 to"),
    ({"kafka_linger_ms": [1]}, "kafka_linger_ms"),
    ({"message_broker": "kafak"}, "rabbitmq"),
    ({"flusher": 2}, "flushers"),
])
def test_errors_name_key_and_way_out(setting: dict[str, Any], words: str) -> None:
    before = get("kafka_linger_ms")
    for call in (configure_messaging, configure):
        with pytest.raises(ConfigurationError, match=words) as raised:
            call(**{"kafka_client_id": "never", **setting})
        assert isinstance(raised.value, ValueError) and next(iter(setting)) in str(raised.value)
    assert get("kafka_linger_ms") == before and get("kafka_client_id") == "core-framework"


def test_errors_in_files_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("core.toml").write_text("[messaging]\nkafka_lingr_ms = 2\n")
    with pytest.raises(ConfigurationError, match=r"core\.toml:2.*kafka_linger_ms"):
        asyncio.run(publish("t", {}))
    for misplaced in ("kafka_linger_ms = 2", "message_broker = 'redis'", "[mesaging]"):
        Path("core.toml").write_text(misplaced)
        with pytest.raises(ConfigurationError, match=r"core\.toml: .*\[messaging\]"):
            asyncio.run(publish("t", {}))
    Path("core.toml").write_text("title = 'of others'\n[database]\nurl = 'x'\n")
    settings.effective()
    Path("core.toml").unlink()
    Path(".env").write_text("\nKAFKA_LINGER_MS=soon\n")
    with pytest.raises(ConfigurationError, match=r"\.env:2"):
        asyncio.run(publish("t", {}))
    Path(".env").unlink()
    monkeypatch.setenv("KAFKA_LINGER_MS", "soon")
    with pytest.raises(ConfigurationError, match="environment KAFKA_LINGER_MS"):
        asyncio.run(publish("t", {}))
    monkeypatch.setenv("KAFKA_LINGER_MS", "1")
    monkeypatch.setenv("KAFKA_SOMETHING_ELSE", "tcp://1.2.3.4")
    asyncio.run(publish("t", {}))


def test_secrets_do_not_appear() -> None:
    with pytest.raises(ConfigurationError) as raised:
        configure_messaging(kafka_sasl_pasword="hunter2")
    assert "hunter2" not in str(raised.value)
    configure_messaging(kafka_sasl_password=SecretStr("hunter2"))
    assert get("kafka_sasl_password") == "hunter2"
    assert not any("hunter2" in row[1] for row in settings.effective().entries())


def test_a_settings_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGE_SIZE", "70")

    class Base(Settings):
        kafka_client_id: str = "base"
        redis_url: str | None = None

    class App(Base):
        kafka_linger_ms: int = 9
        page_size: int = 50
        title: str = "mine"

        def method(self) -> str:
            return self.title

    assert get("kafka_client_id") == "core-framework"  # inherited: not set
    app = App()
    assert (app.kafka_linger_ms, app.page_size, app.method()) == (9, 70, "mine")
    assert app.kafka_client_id == "core-framework" and app.message_broker == "memory"
    monkeypatch.setenv("PAGE_SIZE", "many")
    with pytest.raises(ConfigurationError, match="page_size"):
        App()
    with pytest.raises(ConfigurationError, match="kafka_linger_ms"):

        class Wrong(Settings):
            kafka_linger: int = 9


def test_a_held_producer_follows_reconfiguration() -> None:
    async def go() -> None:
        producer = get_producer()
        await producer.send("t", {"n": 1})
        before = producer._native
        configure_messaging(kafka_fire_and_forget=False, default_topic="elsewhere")
        await producer.send("t", {"n": 2})
        assert producer._native is before and producer.ledger()["acknowledged"] == 2
        configure_messaging(memory_partitions=3)
        await producer.send("t", {"n": 3}, partition=2)
        assert producer._native is not before and get_producer() is producer

    asyncio.run(go())
    assert [r.json() for r in records("t")] == [{"n": 3}]


def test_named_producers_are_one_each() -> None:
    assert get_producer("memory") is get_producer("memory")
    asyncio.run(get_producer("memory").send("t", {}))
    assert len(records("t")) == 1  # the configured one: the same engine
    with pytest.raises(ConfigurationError, match="kafak"):
        get_producer("kafak")


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    from salvo.messaging import registry

    registry._announced.clear()
    with caplog.at_level(logging.INFO, "salvo.messaging"):
        for partitions in (1, 2):
            configure_messaging(memory_partitions=partitions)
            asyncio.run(publish("t", {}))
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("broker")]
    assert line == "broker memory (configure_messaging)"


def test_the_kafka_client_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    from salvo.messaging import registry

    registry._announced.clear()
    settings.reset()
    with caplog.at_level(logging.INFO, "salvo.messaging"):
        for backend in ("confluent", "aiokafka", "aiokafka", "native"):
            configure_messaging(bootstrap_servers="127.0.0.1:1", kafka_backend=backend,
                                flushers=1 + len(backend) % 2, close_timeout_ms=0)
            get_producer().sync.start()
    lines = [r.getMessage() for r in caplog.records]
    assert [line.split(":")[0] for line in lines if "librdkafka" in line] == [
        "kafka_backend aiokafka", "kafka_backend native"]
    (chosen,) = [line for line in lines if line.startswith("broker")]
    assert chosen.startswith("broker kafka (") and "address" in chosen

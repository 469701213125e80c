# SPDX-License-Identifier: Apache-2.0
"""The Schema Registry: Confluent's own client is content with the tests' registry and reads what
Salvo writes, and the reverse; ids are asked for once, also when the registry goes away; conflicts,
credentials, TLS; topic classes with value_serializer "avro"; a real Kafka where SALVO_TEST_KAFKA
names one."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fastavro
import pages
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from salvo.messaging import (
    AvroModel,
    ConfigurationError,
    ConfluentProducer,
    IncompatibleSchema,
    InvalidMessage,
    KafkaProducer,
    RegistryError,
    SchemaError,
    SchemaRegistry,
    SerializationError,
    Topic,
    avro_wire,
    configure_messaging,
    decode_confluent,
    decode_confluent_soon,
    get_producer,
    publish,
    testing,
)

sys.path.insert(0, str(pages.REPOSITORY / "tests" / "registry"))
import server  # noqa: E402

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678000, timezone.utc)


class User(AvroModel):
    __avro_namespace__ = "com.example"

    user_id: int
    email: str
    created_at: datetime


USER = {"user_id": 1, "email": "a@b.c", "created_at": MOMENT}


@pytest.fixture
def registry() -> Iterator[server.Server]:
    with server.Server() as started:
        configure_messaging(kafka_schema_registry_url=started.url)
        yield started


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    avro_wire._wires.clear()
    avro_wire._current = None


def values(topic: str) -> list[bytes]:
    return [record.value or b"" for record in testing.records(topic)]


def users(name: str = "users", **attributes: Any) -> Any:
    return type("Users", (Topic,), {"name": name, "schema": User, "value_serializer": "avro",
                                    **attributes})


# --- the registry of the tests itself, judged by Confluent's client ---


def test_confluents_client_is_content(registry: server.Server) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    schema = Schema(User.avro_schema_json(), "AVRO")
    number = client.register_schema("s-value", schema)
    assert client.register_schema("s-value", schema) == number
    assert client.get_schema(number).schema_type == "AVRO"
    assert client.lookup_schema("s-value", schema).version == 1
    assert client.get_subjects() == ["s-value"] and client.get_versions("s-value") == [1]
    assert client.get_latest_version("s-value").schema_id == number
    assert client.get_version("s-value", 1).schema_id == number
    more = Schema(User.avro_schema_json().replace('"email"', '"mail"'), "AVRO")
    assert client.test_compatibility("s-value", schema) is True
    assert client.test_compatibility("s-value", more) is False
    with pytest.raises(SchemaRegistryError) as raised:
        client.register_schema("s-value", more)
    assert raised.value.http_status_code == 409
    assert client.set_compatibility("s-value", "NONE") is not None
    assert client.register_schema("s-value", more) == number + 1
    assert client.delete_version("s-value", 1) == 1
    assert client.delete_subject("s-value") == [2]
    for call, code in [(lambda: client.get_versions("s-value"), 40401),
                       (lambda: client.get_schema(99), 40403),
                       (lambda: client.register_schema("x", Schema('{"type": 3}', "AVRO")), 42201)]:
        with pytest.raises(SchemaRegistryError) as raised:
            call()
        assert raised.value.error_code == code


# --- what Salvo wrote, read by others, and the reverse ---


def test_others_read_what_salvo_wrote(registry: server.Server, run: Callable[[Any], Any]) -> None:
    topic = users()

    async def go() -> None:
        producer = get_producer()
        await producer.send_avro("users", USER, schema=User.__avro_schema__())
        await producer.send_avro(topic="users", message=User(**USER))
        await producer.send_avro(topic, USER, key="k", headers={"h": "v"})
        await producer.send_avro("users", value=USER, schema=User)
        await producer.send_avro("users", USER, schema=User.avro_schema_json(), wait=False)
        await publish(topic, USER)
        await producer.send_fire_and_forget(topic, User(**USER))
        await producer.send_batch(topic, [USER, User(**USER)])
        assert await producer.send_batch_fire_and_forget(topic, [USER] * 3, key_field="email") == 3
        await producer.flush()

    run(go())
    sent = testing.records("users")
    assert len(sent) == 12 and len({record.value for record in sent}) == 1
    assert sent[2].key == b"k" and dict(sent[2].headers) == {"h": b"v"}
    assert sent[-1].key == b"a@b.c"
    data = sent[0].value or b""
    client = SchemaRegistryClient({"url": registry.url})
    context = SerializationContext("users", MessageField.VALUE)
    assert AvroDeserializer(client)(data, context) == USER
    assert registry.store.subjects["users-value"].keys() == {1}
    schema = fastavro.parse_schema(User.__avro_schema__())
    assert data[:5] == b"\0\0\0\0\1"
    assert fastavro.schemaless_reader(io.BytesIO(data[5:]), schema) == USER
    assert registry.requests.count("POST /subjects/users-value/versions") == 1


def test_salvo_reads_what_others_wrote(
    registry: server.Server, run: Callable[[Any], Any]
) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    write = AvroSerializer(client, User.avro_schema_json())
    data = write(USER, SerializationContext("theirs", MessageField.VALUE))
    assert decode_confluent(data) == USER
    assert decode_confluent(data, User) == User(**USER)
    before = len(registry.requests)
    assert run(decode_confluent_soon(data, User)) == User(**USER)
    assert len(registry.requests) == before


def test_bytes_that_are_not_in_the_format(registry: server.Server) -> None:
    for bad in (b"", b"\0\0\0", b'{"a": 1}', b"\1\0\0\0\1"):
        with pytest.raises(SerializationError, match="wire format"):
            decode_confluent(bad)
    with pytest.raises(RegistryError) as raised:
        decode_confluent(b"\0\0\0\0\x63x")
    assert raised.value.status == 404
    with pytest.raises(RegistryError):
        decode_confluent(b"\0\0\0\0\x63x")
    assert registry.requests.count("GET /schemas/ids/99") == 1  # an unknown id is remembered
    number = registry.store.register("t-value", '"long"')
    with pytest.raises(SerializationError, match="follow the value"):
        decode_confluent(b"\0" + number.to_bytes(4, "big") + b"\2\2")


def test_references_and_other_kinds_are_refused(registry: server.Server) -> None:
    registry.store.others[50] = {"schema": '"long"', "references": [{"name": "x"}]}
    registry.store.others[51] = {"schema": "syntax = 3;", "schemaType": "PROTOBUF"}
    registry.store.others[52] = {"nothing": 1}
    for number, words in [(50, "refers to other subjects"), (51, "PROTOBUF"), (52, "no schema")]:
        with pytest.raises(RegistryError, match=words):
            decode_confluent(bytes([0, 0, 0, 0, number, 2]))


# --- topic classes ---


def test_a_message_that_does_not_fit(registry: server.Server, run: Callable[[Any], Any]) -> None:
    topic = users()
    short = {"user_id": 1, "email": "a@b.c"}

    async def go() -> None:
        producer = get_producer()
        attempts = [
            (lambda: producer.send_avro("users", short, schema=User.__avro_schema__()), None),
            (lambda: producer.send_avro(topic, short), None),
            (lambda: publish(topic, short), None),
            (lambda: producer.send_fire_and_forget(topic, short), None),
            (lambda: producer.send_batch(topic, [USER, short]), 1),
            (lambda: producer.send_batch_fire_and_forget(topic, [USER, short]), 1)]
        for attempt, index in attempts:
            with pytest.raises(SchemaError) as raised:
                await attempt()
            assert (raised.value.topic, raised.value.field) == ("users", "created_at")
            assert raised.value.index == index and raised.value.reason
        with pytest.raises(SchemaError):
            producer.sync.send(topic, short)
        with pytest.raises(InvalidMessage, match="needs a schema"):
            await producer.send_avro("users", USER)

    run(go())
    assert values("users") == []


def test_a_topic_whose_schema_is_avro_itself(
    registry: server.Server, run: Callable[[Any], Any]
) -> None:
    topic = users(schema={"type": "record", "name": "P", "fields": [
        {"name": "x", "type": "long"}]})
    run(publish(topic, {"x": 7}))
    assert [decode_confluent(value) for value in values("users")] == [{"x": 7}]
    with pytest.raises(SchemaError, match='field "x": an int is needed'):
        run(publish(topic, {"x": "7"}))
    with pytest.raises(InvalidMessage, match="needs a schema"):
        run(publish(users("bare", schema=None), {"x": 7}))


def test_null_values_stay_null(registry: server.Server, run: Callable[[Any], Any]) -> None:
    run(publish(users(cleanup_policy="compact"), None, key="k"))
    assert [record.value for record in testing.records("users")] == [None]


def test_the_sync_twins(registry: server.Server) -> None:
    topic, producer = users(), get_producer().sync
    producer.send_avro("users", USER, User.__avro_schema__(), key="k")
    producer.send(topic, USER)
    producer.send_batch(topic, [USER])
    assert [decode_confluent(value, User) for value in values("users")] == [User(**USER)] * 3


@pytest.mark.parametrize(("strategy", "subject"), [
    ("topic", "users-value"), ("record", "com.example.User"),
    ("topic_record", "users-com.example.User")])
def test_subject_strategies(
    registry: server.Server, run: Callable[[Any], Any], strategy: str, subject: str
) -> None:
    configure_messaging(kafka_subject_strategy=strategy)
    run(publish(users(), USER))
    assert list(registry.store.subjects) == [subject]
    if strategy != "topic":
        with pytest.raises(InvalidMessage, match="needs a schema with a name"):
            run(get_producer().send_avro("t", 1, schema="long"))


def test_ids_are_loaded_at_start(registry: server.Server, run: Callable[[Any], Any]) -> None:
    topic = users()

    async def go() -> None:
        await get_producer().start()
        assert registry.requests == ["POST /subjects/users-value/versions"]
        await publish(topic, USER)

    run(go())
    assert len(registry.requests) == 1


def test_many_first_messages_share_one_request(
    registry: server.Server, run: Callable[[Any], Any]
) -> None:
    async def go() -> None:
        producer = get_producer()
        await asyncio.gather(*(producer.send_avro("users", USER, User) for _ in range(200)))

    run(go())
    assert len(registry.requests) == 1 and len(values("users")) == 200


# --- trouble ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_registry_that_comes_later(
    run: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("salvo.messaging.schema_registry._DOWN_S", 0.2)
    port, topic = free_port(), users()
    configure_messaging(kafka_schema_registry_url=f"http://me:hunter2@127.0.0.1:{port}")

    async def go() -> None:
        await get_producer().start()
        assert "could not be asked for yet" in caplog.text
        with pytest.raises(RegistryError, match="no Schema Registry answered: http") as raised:
            await publish(topic, USER)
        assert "hunter2" not in str(raised.value) and str(port) in str(raised.value)
        await asyncio.sleep(0.25)
        with server.Server(port):
            await publish(topic, USER)
        await publish(topic, USER)  # it is away again
        with pytest.raises(RegistryError):
            await publish(users("others"), USER)

    run(go())
    assert len(values("users")) == 2 and "hunter2" not in caplog.text


def test_the_event_loop_goes_on_while_a_registry_hangs(run: Callable[[Any], Any]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        configure_messaging(kafka_schema_registry_timeout_ms=700, kafka_schema_registry_url=
                            f"http://127.0.0.1:{deaf.getsockname()[1]}")

        async def go() -> None:
            waiting = asyncio.ensure_future(get_producer().send_avro("users", USER, User))
            ticks = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                ticks += 1
            with pytest.raises(RegistryError, match=r"no answer within 0\.7 s"):
                await waiting
            assert ticks > 10
            began = time.monotonic()
            with pytest.raises(RegistryError):  # and the next does not wait as long again
                await get_producer().send_avro("users", USER, User)
            assert time.monotonic() - began < 0.6

        run(go())


def test_a_cancelled_first_message_leaves_the_others(
    registry: server.Server, run: Callable[[Any], Any]
) -> None:
    async def go() -> None:
        with registry.store.lock:  # its answers wait
            first, second = (asyncio.ensure_future(get_producer().send_avro("users", USER, User))
                             for _ in range(2))
            await asyncio.sleep(0.1)
            first.cancel()
            await asyncio.sleep(0.05)
        await second
        assert first.cancelled()

    run(go())
    assert len(values("users")) == 1


def test_several_addresses(registry: server.Server) -> None:
    client = SchemaRegistry(f"http://127.0.0.1:{free_port()}, {registry.url}/", timeout=3)
    number = client.register("s", User.avro_schema_json())
    assert client.latest("s")[:2] == (number, 1) and client.subjects() == ["s"]
    assert client.versions("s") == [1] and client.lookup("s", User.avro_schema_json()) == number
    registry.failing = 503
    with pytest.raises(RegistryError, match="status 503"):
        client.register("s", '"long"')


def test_conflicts_are_told_plainly(registry: server.Server, run: Callable[[Any], Any]) -> None:
    class Later(AvroModel):
        __avro_namespace__ = "com.example"
        user_id: int
        nick: str

    Later.__name__ = "User"
    run(get_producer().send_avro("users", USER, User))
    with pytest.raises(IncompatibleSchema, match="'nick' has no default value") as raised:
        run(get_producer().send_avro("users", {"user_id": 1, "nick": "x"}, schema=Later))
    assert raised.value.subject == "users-value" and raised.value.status == 409
    assert len(raised.value.reasons) == 1 and len(values("users")) == 1
    client = SchemaRegistry(registry.url)
    assert client.compatible("users-value", User.avro_schema_json()) == (True, [])
    assert client.compatible("nobody", User.avro_schema_json()) == (True, [])


def test_without_registering(registry: server.Server, run: Callable[[Any], Any]) -> None:
    configure_messaging(kafka_schema_auto_register=False)
    with pytest.raises(RegistryError, match="not registered there .* kafka_schema_auto_register"):
        run(publish(users(), USER))
    SchemaRegistry(registry.url).register("users-value", User.avro_schema_json())
    run(publish(users(), USER))
    assert len(values("users")) == 1


def test_no_registry_is_configured(run: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigurationError, match="Schema Registry not configured: set kafka_sch"):
        run(get_producer().send_avro("users", USER, User))
    for bad in ("schema-registry:8081", "ftp://x", "http://", "http://[::1", "http://h:x"):
        with pytest.raises(ConfigurationError, match="kafka_schema_registry_url"):
            SchemaRegistry(bad)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{", b"junk\r\n",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                                    b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"id":"one"}',
                                    b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\n[[]]", b""])
def test_answers_of_something_else(answer: bytes) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        client = SchemaRegistry(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=3)
        with pytest.raises(RegistryError):
            client.register("s", '"long"')


def test_credentials(run: Callable[[Any], Any]) -> None:
    with server.Server(credentials=("me", "hun/ter@2")) as started:
        host = started.url.removeprefix("http://")
        with pytest.raises(RegistryError, match="refuses the credentials") as raised:
            SchemaRegistry(started.url, user="me", password="hunter3").subjects()
        assert "hunter" not in str(raised.value) and raised.value.status == 401
        assert SchemaRegistry(f"http://me:hun%2Fter%402@{host}").subjects() == []
        assert "ter" not in repr(SchemaRegistry(f"http://me:hun%2Fter%402@{host}"))
        configure_messaging(kafka_schema_registry_url=f"http://x:y@{host}",
                            kafka_schema_registry_user="me",
                            kafka_schema_registry_password="hun/ter@2")
        run(get_producer().send_avro("users", USER, User))
        assert SchemaRegistryClient({"url": started.url, "basic.auth.user.info": "me:hun/ter@2"}
                                    ).get_subjects() == ["users-value"]


def test_tls(run: Callable[[Any], Any], tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no openssl")
    with server.Server(certfile=str(cert), keyfile=str(key)) as started:
        configure_messaging(kafka_schema_registry_url=started.url)
        with pytest.raises(RegistryError, match="certificate"):
            run(get_producer().send_avro("users", USER, User))
        configure_messaging(kafka_schema_registry_cafile=str(cert))
        run(get_producer().send_avro("users", USER, User))
        assert [decode_confluent(value, User) for value in values("users")] == [User(**USER)]
        configure_messaging(kafka_schema_registry_cafile=str(tmp_path / "none.pem"))
        with pytest.raises(ConfigurationError, match="_cafile"):
            run(get_producer().send_avro("users", USER, User))


def test_a_child_after_a_fork(registry: server.Server, run: Callable[[Any], Any]) -> None:
    run(get_producer().send_avro("users", USER, User))
    child = os.fork()
    if child == 0:
        try:
            get_producer().sync.send_avro("users", USER, User)
            get_producer().sync.send_avro("new", USER, User)
            os._exit(0 if len(values("new")) == 1 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(registry.store.subjects) == ["new-value", "users-value"]


def test_a_child_does_not_wait_for_its_parents_requests() -> None:
    client = SchemaRegistry("http://127.0.0.1:1")
    asked, answer = threading.Event(), threading.Event()
    slow = client.shared("mark", lambda: asked.set() or answer.wait(30))
    assert asked.wait(10)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if client.shared("mark", lambda: 5).result(10) == 5 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    answer.set()
    assert slow.result(10) is True


# --- a real Kafka ---


@pytest.mark.skipif(not os.environ.get("SALVO_TEST_KAFKA"), reason="SALVO_TEST_KAFKA names none")
def test_through_kafka_to_confluents_consumer(
    registry: server.Server, run: Callable[[Any], Any]
) -> None:
    kafka, name = os.environ["SALVO_TEST_KAFKA"], f"avro-{uuid.uuid4().hex[:8]}"
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=kafka)

    async def go() -> None:
        for producer in (get_producer(), ConfluentProducer(), KafkaProducer(kafka)):
            await producer.send_avro(name, USER, schema=User.__avro_schema__())
            await producer.stop()

    run(go())
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": name,
                         "auto.offset.reset": "earliest"})
    consumer.subscribe([name])
    read, until = [], time.monotonic() + 60
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry.url}))
    while len(read) < 3 and time.monotonic() < until:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            read.append(deserialize(message.value(),
                                    SerializationContext(name, MessageField.VALUE)))
    consumer.close()
    assert read == [USER] * 3


@pytest.mark.skipif(not os.environ.get("SALVO_TEST_KAFKA"), reason="SALVO_TEST_KAFKA names none")
def test_through_kafka_from_confluents_producer(registry: server.Server) -> None:
    kafka, name = os.environ["SALVO_TEST_KAFKA"], f"avro-{uuid.uuid4().hex[:8]}"
    configure_messaging(message_broker="kafka", kafka_bootstrap_servers=kafka)
    serialize = AvroSerializer(SchemaRegistryClient({"url": registry.url}),
                               User.avro_schema_json())
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(name, serialize(USER, SerializationContext(name, MessageField.VALUE)))
    assert producer.flush(30) == 0
    assert [decode_confluent(value, User) for value in values(name)] == [User(**USER)]

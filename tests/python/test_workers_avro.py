# SPDX-License-Identifier: Apache-2.0
"""Workers between topics whose classes say value_serializer = "avro", with the tests' registry."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

import pages
import pytest
from salvo.messaging import (
    AvroModel,
    Topic,
    WorkerRun,
    avro_wire,
    configure_messaging,
    get_producer,
    publish,
    testing,
    worker,
    workers,
)

sys.path.insert(0, str(pages.REPOSITORY / "tests" / "registry"))
import server  # noqa: E402


class Visit(AvroModel):
    user_id: int


class Located(AvroModel):
    user_id: int
    country: str


@pytest.fixture(autouse=True)
def registry() -> Iterator[server.Server]:
    workers.unregister_all()
    with server.Server() as started:
        configure_messaging(kafka_schema_registry_url=started.url)
        yield started
    workers.unregister_all()
    avro_wire._wires.clear()
    avro_wire._current = None


@pytest.mark.parametrize("schema", [None, Visit])
def test_avro_in_and_avro_out(run: Any, schema: Any) -> None:
    class Visits(Topic):
        name = "visits"
        value_serializer = "avro"

    Visits.schema = Visit

    class Places(Topic):
        name = "places"
        schema = Located
        value_serializer = "avro"

    seen: list[Any] = []

    async def on_error(event: Any, error: Exception) -> None:
        seen.append((event, type(error).__name__))

    async def on_success(event: Any, result: Any) -> None:
        seen.append(event)

    @worker(topic=Visits, output_topic=Places, dlq_topic="dead", max_retries=0,
            input_schema=schema, on_error=on_error, on_success=on_success)
    async def locate(visit: dict[str, Any]) -> Any:
        if visit["user_id"] == 2:
            return {"user_id": 2}  # against the schema of its topic
        return Located(user_id=visit["user_id"], country="BR")

    async def main() -> None:
        for n in (1, 2):
            await publish(Visits, {"user_id": n}, key="k")
        await get_producer().send("visits", b"no avro", key="k")
        run_ = WorkerRun("locate")
        task = asyncio.create_task(run_.run())
        until = time.monotonic() + 20
        while run_.stats().get("succeeded", 0) + run_.stats().get("failed", 0) < 3:
            assert time.monotonic() < until and not task.done()
            await asyncio.sleep(0.01)
        await run_.stop(5)
        await task

    run(main())
    (place,) = testing.records("places")
    assert avro_wire.decode_confluent(place.value) == {"user_id": 1, "country": "BR"}
    assert [dict(r.headers)["salvo-error-type"] for r in testing.records("dead")] == [
        b"SchemaError", b"BadMessage"]
    assert seen == [{"user_id": 1}, ({"user_id": 2}, "SchemaError"), (b"no avro", "BadMessage")]

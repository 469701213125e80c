# SPDX-License-Identifier: Apache-2.0
"""The tracking endpoint: POST /tracking/track takes thousands of events a request.

    python examples/tracking            # the memory broker, no server needed
    KAFKA_BOOTSTRAP_SERVERS=host:9092 python examples/tracking

Guarantees: an answer means that the events are in this process's buffer; they are delivered in the
background and flushed at shutdown. TRACKING_PUBLISH=0 answers without publishing, for comparison.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Request
from salvo.messaging import MessageTooLarge, MessagingError, Topic, get_producer, lifespan


class TrackingEvents(Topic):
    """Where the events go."""

    name = "tracking.events"


class Body(msgspec.Struct):
    """What a request carries."""

    events: list[dict[str, Any]] = []


PUBLISH = os.environ.get("TRACKING_PUBLISH", "1") != "0"
decode = msgspec.json.Decoder(Body).decode
app = FastAPI(title="Tracking", lifespan=lifespan)


@app.post("/tracking/track")
async def track(request: Request) -> dict[str, int]:
    """Queue the events of one request; answers how many were accepted."""
    try:
        body = decode(await request.body())
    except msgspec.DecodeError as error:
        raise HTTPException(422, str(error)) from None
    if not PUBLISH:
        return {"queued": 0}
    try:
        count = await get_producer().send_batch_fire_and_forget(TrackingEvents.name, body.events)
    except MessageTooLarge as error:  # the sender's mistake; nothing of the request was queued
        raise HTTPException(413, str(error)) from None
    except MessagingError as error:
        raise HTTPException(503, str(error)) from None
    return {"queued": count}


@app.get("/tracking/ledger")
async def ledger() -> dict[str, int]:
    """What became of them."""
    return get_producer().ledger()

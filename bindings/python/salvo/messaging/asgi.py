# SPDX-License-Identifier: Apache-2.0
"""Producers that start and stop with a Starlette or FastAPI application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from salvo.messaging.registry import start_all_producers, stop_all_producers

Lifespan = Callable[[Any], contextlib.AbstractAsyncContextManager[Any]]


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """``FastAPI(lifespan=lifespan)``: start producers, and flush and close them at shutdown."""
    await start_all_producers()
    try:
        yield
    finally:
        await stop_all_producers()


def with_producers(inner: Lifespan) -> Lifespan:
    """An application's own lifespan inside ours; its state is passed on."""

    @contextlib.asynccontextmanager
    async def both(app: Any) -> AsyncIterator[Any]:
        async with lifespan(app), inner(app) as state:
            yield state

    return both

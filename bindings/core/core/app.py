# SPDX-License-Identifier: Apache-2.0
"""``CoreApp``: a Starlette application with view sets, producers and consumers.

Guarantees: producers are started with it, and flushed and closed at its end; the consumers that
belong to it start after its own lifespan has begun and are stopped, with what they have in hand,
before that ends. A body that is too large is refused while it arrives. Errors of the caller and of
the broker are answered as JSON, ``{"detail": ...}``: 400 no JSON, 413 too large, 422 against a
schema, 503 the broker or a full buffer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from salvo.messaging import (
    BufferFull,
    DeliveryError,
    MessageTooLarge,
    SchemaError,
    SendTimeout,
    lifespan,
)
from salvo.messaging.consumers import consumers_for
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.viewsets import ViewSet

ViewSetClass = TypeVar("ViewSetClass", bound=type[ViewSet])
_STATUS: dict[type[Exception], int] = {
    json.JSONDecodeError: 400, UnicodeDecodeError: 400, MessageTooLarge: 413, SchemaError: 422,
    BufferFull: 503, SendTimeout: 503, DeliveryError: 503,
}


class CoreApp(Starlette):
    """An ASGI application; serve it with ``uvicorn module:app``.

    ``viewsets``: classes to register. ``lifespan``: the application's own, inside ours.
    ``consumers``: None starts the consumers with ``auto_start=True``, True all that are registered,
    False none. ``stop_timeout``: seconds that they have to stop. ``max_body_bytes``: larger bodies
    get status 413. ``options``: those of Starlette (routes, middleware, debug, ...).
    """

    def __init__(
        self, title: str = "", *, viewsets: Iterable[type[ViewSet]] = (),
        lifespan: Callable[[Any], contextlib.AbstractAsyncContextManager[Any]] | None = None,
        consumers: bool | None = None, stop_timeout: float = 30.0,
        max_body_bytes: int = 16 * 1024 * 1024, **options: Any,
    ) -> None:
        handlers = {kind: _failed for kind in _STATUS}
        handlers[HTTPException] = _refused
        options["exception_handlers"] = {**handlers, **(options.get("exception_handlers") or {})}
        super().__init__(lifespan=self._life, **options)
        self.title = title
        self._inner, self._consumers, self._stop_timeout = lifespan, consumers, stop_timeout
        self.add_middleware(_BodyLimit, most=max_body_bytes)
        for viewset in viewsets:
            self.register(viewset)

    def register(self, viewset: ViewSetClass, prefix: str | None = None) -> ViewSetClass:
        """Serve a view set, below ``prefix`` instead of its own; returns it."""
        self.router.routes.extend(viewset.routes(prefix))
        return viewset

    @contextlib.asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[Any]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(lifespan(app))
            state = None
            if self._inner is not None:
                state = await stack.enter_async_context(self._inner(app))
            for consumer in self._chosen():
                stack.push_async_callback(consumer.stop, self._stop_timeout)
                await consumer.start()
            yield state

    def _chosen(self) -> Sequence[Any]:
        if self._consumers is None:
            return consumers_for(auto_start_only=True)
        return consumers_for() if self._consumers else []


async def _failed(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in _STATUS.items() if isinstance(error, kind))
    text = f"the body is no JSON: {error}" if status == 400 else str(error)
    return JSONResponse({"detail": text}, status)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


class _BodyLimit:
    """Counts a body as it arrives."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._most:
                raise HTTPException(413, f"the body is over {self._most} bytes (max_body_bytes)")
            return message

        await self._app(scope, counted, send)

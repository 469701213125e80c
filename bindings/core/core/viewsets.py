# SPDX-License-Identifier: Apache-2.0
"""View sets: classes whose methods answer HTTP requests.

    class UserViewSet(ModelViewSet):
        model = User

        @action(methods=["POST"], detail=False)
        @event("user.created", topic="user-events", key_field="id")
        async def register(self, request, db, **kwargs):
            ...

``app.register(UserViewSet)`` serves ``POST /users/register``, and of the model what it can do. An
object is made for each request. Guarantees: a method gets ``db`` only where it names it, from
``set_db_provider``, entered for the request and left after the method; nothing of an object is
shown that its class does not declare as public (never ``__dict__``, never a table's columns).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from salvo.messaging.encoding import encode
from salvo.messaging.registry import get_db_provider
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "__core_action__"
_LIMIT_MOST = 1000


@dataclasses.dataclass(frozen=True)
class _Action:
    methods: tuple[str, ...]
    detail: bool
    path: str | None


def action(
    methods: Iterable[str] = ("GET",), detail: bool = False, url_path: str | None = None
) -> Callable[[Function], Function]:
    """Serve a method of a view set at ``/<prefix>/<its name>``; with ``detail`` at
    ``/<prefix>/{id}/<its name>``. ``url_path`` in place of its name. Decorates a function or what
    ``@event`` has made of one."""
    if isinstance(methods, str):
        raise TypeError(f'@action(methods="{methods}"): a list of methods, e.g. ["{methods}"]')
    mark = _Action(tuple(method.upper() for method in methods), detail, url_path)

    def decorate(function: Function) -> Function:
        setattr(function, _MARK, mark)
        return function

    return decorate


class ViewSet:
    """Actions below one prefix: the class's name in kebab-case without "ViewSet", or ``prefix``.

    A method gets ``request``, ``db`` if it names it, and the path's parameters by name. What it
    returns becomes the answer: a Starlette response as it is, None status 204, anything else JSON:
    mappings, lists, pydantic models, dataclasses, msgspec structs, objects with ``to_dict()``.
    """

    prefix: ClassVar[str | None] = None
    request: Request

    @classmethod
    def default_prefix(cls) -> str:
        """Where the class is served unless it or ``register`` says otherwise."""
        return cls.prefix if cls.prefix is not None else f"/{_kebab(cls.__name__)}"

    @classmethod
    def routes(cls, prefix: str | None = None) -> list[Route]:
        """The routes of the class, those with fixed paths first."""
        base = "/" + (cls.default_prefix() if prefix is None else prefix).strip("/")
        found = list(cls._actions())
        lists = [cls._route(f"{base}/{mark.path or name}", name, mark.methods)
                 for name, mark in found if not mark.detail]
        details = [cls._route(f"{base}/{{id}}/{mark.path or name}", name, mark.methods)
                   for name, mark in found if mark.detail]
        return [*lists, *cls._own_routes(base), *details]

    @classmethod
    def _own_routes(cls, base: str) -> list[Route]:
        return []

    @classmethod
    def _actions(cls) -> Iterable[tuple[str, _Action]]:
        for name in dir(cls):
            mark = getattr(inspect.getattr_static(cls, name), _MARK, None)
            if mark is not None:
                yield name, mark

    @classmethod
    def _route(cls, path: str, method_name: str, methods: Iterable[str]) -> Route:
        takes_db = "db" in inspect.signature(getattr(cls, method_name)).parameters

        async def endpoint(request: Request) -> Response:
            view = cls()
            view.request = request
            return await _answer(getattr(view, method_name), request, takes_db)

        return Route(path, endpoint, methods=list(methods),
                     name=f"{cls.__name__}.{method_name}")


async def _answer(method: Callable[..., Any], request: Request, takes_db: bool) -> Response:
    arguments: dict[str, Any] = {**request.path_params, "request": request}
    async with _session(takes_db) as db:
        if takes_db:
            arguments["db"] = db
        if inspect.iscoroutinefunction(method):
            result = await method(**arguments)
        else:
            result = await run_in_threadpool(method, **arguments)
        return response_of(result)


@contextlib.asynccontextmanager
async def _session(wanted: bool) -> AsyncIterator[Any]:
    """What ``set_db_provider`` provides; None where nobody has set one."""
    provider = get_db_provider() if wanted else None
    if provider is None:
        yield None
    else:
        async with provider() as db:
            yield db


def response_of(result: Any, status: int = 200) -> Response:
    """The answer that a method's result stands for."""
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(status_code=204)
    shown = public(result)
    body = encode(shown) if not isinstance(shown, str) else msgspec.json.encode(shown)
    return Response(body, status, media_type="application/json")


def public(value: Any) -> Any:
    """What may be shown of a value, for JSON. TypeError for an object that does not say."""
    if isinstance(value, (str, int, float, BaseModel, Mapping, msgspec.Struct)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [public(part) for part in value]
    if callable(getattr(type(value), "to_dict", None)):
        return dict(value.to_dict())
    raise TypeError(f"a {type(value).__name__} cannot be answered: return a mapping, a list, a "
                    "pydantic model, a dataclass, a msgspec struct, an object with to_dict() or a "
                    "response; a ModelViewSet may set output_schema")


def _kebab(class_name: str) -> str:
    """OrderItemViewSet: order-item."""
    name = class_name.removesuffix("ViewSet") or class_name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _plural(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


class ModelViewSet(ViewSet):
    """A view set over a model; its prefix is in the plural: ``OrderViewSet`` serves ``/orders``.

    The model is any class; what it can do decides which routes there are:

        async create(*, db, **data) -> object    (class method)   POST /orders
        async all(*, db, limit, offset) -> list  (class method)   GET /orders
        async get(id, *, db) -> object or None   (class method)   GET /orders/{id}
        async save(db)                           with get         PUT, PATCH /orders/{id}
        async delete(db)                         with get         DELETE /orders/{id}

    ``input_schema``, a pydantic model, says what a request may bring; without one POST hands the
    body's fields to the model as they are, and there is neither PUT nor PATCH. ``output_schema``
    says what is shown of an object; without one it must say so itself (``to_dict()``, or a class
    of declared fields). ``lookup_type`` makes of the path's text what ``get`` takes.
    """

    model: ClassVar[Any] = None
    input_schema: ClassVar[type[BaseModel] | None] = None
    output_schema: ClassVar[type[BaseModel] | None] = None
    lookup_type: ClassVar[type] = str

    @classmethod
    def default_prefix(cls) -> str:
        return cls.prefix if cls.prefix is not None else f"/{_plural(_kebab(cls.__name__))}"

    @classmethod
    def _own_routes(cls, base: str) -> list[Route]:
        can = {name for name in ("create", "all", "get", "save", "delete")
               if callable(getattr(cls.model, name, None))}
        if cls.perform_create is not ModelViewSet.perform_create:
            can.add("create")
        if cls.get_object is not ModelViewSet.get_object:
            can.add("get")
        one = f"{base}/{{id}}"
        offered = [(base, "list", "GET", {"all"}), (base, "create", "POST", {"create"}),
                   (one, "retrieve", "GET", {"get"}), (one, "destroy", "DELETE", {"get", "delete"})]
        if cls.input_schema is not None:
            offered += [(one, "update", "PUT", {"get", "save"}),
                        (one, "partial_update", "PATCH", {"get", "save"})]
        return [cls._route(path, name, [method]) for path, name, method, needs in offered
                if needs <= can]

    # --- what may be overridden ---

    async def get_object(self, db: Any, **kwargs: Any) -> Any:
        """The object that the path names; status 404 where there is none."""
        try:
            found = await self.model.get(self.lookup_type(kwargs["id"]), db=db)
        except (ValueError, LookupError):
            found = None
        if found is None:
            raise HTTPException(404, f"there is no such {_kebab(type(self).__name__)}")
        return found

    async def perform_create(self, data: dict[str, Any], db: Any) -> Any:
        """Make and keep a new object of what a request brought."""
        return await self.model.create(**data, db=db)

    async def perform_update(self, instance: Any, data: dict[str, Any], db: Any) -> Any:
        """Change an object and keep it."""
        for name, value in data.items():
            setattr(instance, name, value)
        await instance.save(db)
        return instance

    async def perform_destroy(self, instance: Any, db: Any) -> None:
        """Remove an object."""
        await instance.delete(db)

    def represent(self, instance: Any) -> Any:
        """What is shown of an object."""
        if self.output_schema is None:
            return public(instance)
        return self.output_schema.model_validate(instance, from_attributes=True)

    # --- routes ---

    async def list(self, request: Request, db: Any) -> Any:
        limit = _number(request, "limit", 100, _LIMIT_MOST)
        offset = _number(request, "offset", 0, 2**31)
        found = await self.model.all(db=db, limit=limit, offset=offset)
        return [self.represent(each) for each in found]

    async def create(self, request: Request, db: Any) -> Response:
        data = await self.data(request)
        return response_of(self.represent(await self.perform_create(data, db)), 201)

    async def retrieve(self, request: Request, db: Any, **kwargs: Any) -> Any:
        return self.represent(await self.get_object(db, **kwargs))

    async def update(self, request: Request, db: Any, **kwargs: Any) -> Any:
        data = await self.data(request)
        instance = await self.get_object(db, **kwargs)
        return self.represent(await self.perform_update(instance, data, db))

    async def partial_update(self, request: Request, db: Any, **kwargs: Any) -> Any:
        """PATCH: the schema is asked about the object as it would be; only what came is set."""
        given = await _object_of(request)
        instance = await self.get_object(db, **kwargs)
        assert self.input_schema is not None
        before = {name: getattr(instance, name) for name in self.input_schema.model_fields
                  if hasattr(instance, name)}
        data = self._validated({**before, **given})
        changed = {name: value for name, value in data.items() if name in given}
        return self.represent(await self.perform_update(instance, changed, db))

    async def destroy(self, request: Request, db: Any, **kwargs: Any) -> None:
        await self.perform_destroy(await self.get_object(db, **kwargs), db)

    async def data(self, request: Request) -> dict[str, Any]:
        """What a request brings, validated by ``input_schema`` where there is one."""
        given = await _object_of(request)
        return self._validated(given) if self.input_schema is not None else given

    def _validated(self, data: dict[str, Any]) -> dict[str, Any]:
        assert self.input_schema is not None
        try:
            return self.input_schema.model_validate(data).model_dump()
        except ValidationError as error:
            reasons = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}"
                       for each in error.errors(include_url=False, include_input=False)]
            raise HTTPException(422, "; ".join(reasons[:20])) from None


async def _object_of(request: Request) -> dict[str, Any]:
    """The body, a JSON object."""
    body = await request.json()
    if not isinstance(body, dict):
        raise HTTPException(422, "the body must be a JSON object")
    if "db" in body:
        raise HTTPException(422, "db: no such field")
    return body


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > most:
        raise HTTPException(422, f"{name}: a number from 0 to {most}")
    return int(text)

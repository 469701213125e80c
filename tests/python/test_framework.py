# SPDX-License-Identifier: Apache-2.0
"""The web layer: what the pages show over HTTP, what a model view set offers, what is refused, and
the life of producers and consumers with an application."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import core
import pages
import pytest
from core import CoreApp, ModelViewSet, ViewSet, action
from pydantic import BaseModel
from salvo.messaging import (
    configure_messaging,
    consumer,
    event,
    get_producer,
    handlers,
    message_handler,
    on_event,
    publish,
    registry,
    set_db_provider,
)
from salvo.messaging.testing import records
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

BLOCKS = {b.name: b for b in pages.all_blocks() if b.language == "python"}
needs_pages = pytest.mark.skipif(
    not BLOCKS, reason=f"the documentation's pages are not in {pages.FOLDER}")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Each test registers handlers of its own."""
    handlers.unregister_all()
    yield
    handlers.unregister_all()


class Session:
    """What a db provider provides: counts what becomes of it."""

    entered = left = failed = 0


@pytest.fixture
def db() -> type[Session]:
    class Counted(Session):
        """Of this test alone."""

    async def provide() -> AsyncIterator[Any]:
        Counted.entered += 1
        try:
            yield Counted
        except Exception:
            Counted.failed += 1
            raise
        finally:
            Counted.left += 1

    set_db_provider(provide)
    return Counted


class Model:
    """A model as the pages use one, in a dict."""

    rows: dict[int, Model]

    def __init_subclass__(cls) -> None:
        cls.rows = {}

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    @classmethod
    async def create(cls, *, db: Any, **values: Any) -> Model:
        row = cls(id=len(cls.rows) + 1, **values)
        await row.save(db)
        return row

    @classmethod
    async def get(cls, id: Any, *, db: Any) -> Model | None:
        return cls.rows.get(int(id))

    @classmethod
    async def all(cls, *, db: Any, limit: int, offset: int) -> list[Model]:
        return list(cls.rows.values())[offset:offset + limit]

    async def save(self, db: Any) -> None:
        assert issubclass(db, Session)
        self.rows[self.__dict__["id"]] = self

    async def delete(self, db: Any) -> None:
        del self.rows[self.__dict__["id"]]

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "password"}


def page_names() -> dict[str, Any]:
    """Names that the pages leave undefined."""

    class User(Model):
        @classmethod
        async def create_user(cls, email: str, password: str, db: Any) -> Model:
            return await cls.create(db=db, email=email, password=password)

    class Order(Model):
        pass

    return {"User": User, "Order": Order, "get_producer": get_producer}


def block_names(name: str) -> dict[str, Any]:
    names = page_names()
    running = pages.run(BLOCKS[name], names)
    with pytest.raises(StopIteration):
        running.send(None)
    return names


def sent(topic: str) -> list[Any]:
    return [(record.key, record.json()) for record in records(topic)]


# --- the pages' examples, over HTTP ---


@needs_pages
@pytest.mark.parametrize("name", [
    "messaging-quickstart:@event Decorator (Auto-Publish):1",
    "messaging-guide:Com Decorator @event (ViewSets):1",
])
def test_register_publishes(name: str, db: type[Session]) -> None:
    names = block_names(name)
    app = CoreApp(title="Users")
    app.register(names["UserViewSet"])
    with TestClient(app) as client:
        answer = client.post("/users/register", json={"email": "a@b.c", "password": "secret"})
        assert (answer.status_code, answer.json()) == (200, {"id": 1, "email": "a@b.c"})
        ((key, message),) = sent("user-events")
        assert (key, message["name"], message["data"]) == (b"1", "user.created", answer.json())
        assert client.post("/users/register", content=b"{").status_code == 400
        assert client.get("/users/1").json() == {"id": 1, "email": "a@b.c"}  # no password
        assert len(sent("user-events")) == 1
    assert db.entered == db.left == 3 and db.failed == 1


@needs_pages
def test_orders_are_created_and_completed(db: type[Session]) -> None:
    names = block_names("messaging-quickstart:Complete ViewSet Example:1")
    app = CoreApp(title="Orders", viewsets=[names["OrderViewSet"]])
    with TestClient(app) as client:
        made = client.post("/orders", json={"user_id": 7})
        assert (made.status_code, made.json()) == (201, {"id": 1, "user_id": 7})
        done = client.post("/orders/1/complete")
        assert done.json() == {"id": 1, "status": "completed"}
        assert client.post("/orders/2/complete").status_code == 404
        assert client.get("/orders/1").json()["status"] == "completed"
        assert [(k, e["name"], e["data"]) for k, e in sent("order-events")] == [
            (b"1", "order.created", made.json()), (b"1", "order.completed", done.json())]
    assert db.entered == db.left == 4


@needs_pages
def test_orders_by_hand(db: type[Session]) -> None:
    names = block_names("messaging-quickstart:Complete ViewSet Example:2")
    with TestClient(CoreApp(viewsets=[names["OrderViewSet"]])) as client:
        body = {"user_id": 7, "total": 2.5, "items": [1, 2]}
        assert client.post("/orders", json=body).status_code == 201
        assert sent("orders.created") == [
            (None, {"order_id": 1, "user_id": 7, "total": 2.5, "items_count": 2})]


@needs_pages
def test_tracking(db: type[Session]) -> None:
    names = block_names("messaging-guide:Exemplo: Endpoint de Tracking:1")
    with TestClient(CoreApp(viewsets=[names["TrackingViewSet"]])) as client:
        answer = client.post("/tracking/track", json={"events": [{"n": 1}, {"n": 2}]})
        assert answer.json() == {"queued": 2}
        assert sent("tracking.events") == [(None, {"n": 1}), (None, {"n": 2})]
    assert db.entered == 0  # the action does not name db


@needs_pages
def test_the_printed_application() -> None:
    names = block_names("messaging-guide:Lifecycle Automático:1")
    assert isinstance(names["app"], CoreApp) and names["app"].title == "My API"
    with TestClient(names["app"]) as client:
        assert client.get("/").status_code == 404
        native = get_producer()._native
        assert native is not None
    assert get_producer()._native is None  # flushed and closed with the application


# --- the project's own pages ---


OWN = {f"{b.page}:{b.heading}:{b.number}": b for b in [
    *pages.blocks_of(pages.REPOSITORY / "docs" / "app.md", "app"),
    *pages.blocks_of(pages.REPOSITORY / "bindings" / "core" / "README.md", "README"),
] if b.language == "python"}


def own(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    with pytest.raises(StopIteration):
        pages.run(OWN[name], names).send(None)
    return names


def test_every_snippet_is_tested() -> None:
    assert set(OWN) == {"app:Actions:1", "app:Models:1", "app:Life:1", "README:salvo-core:1"}


def test_the_snippet_with_actions() -> None:
    with TestClient(own("app:Actions:1")["app"]) as client:
        answer = client.post("/visit/track", json={"pages": [{"page": "/"}] * 3})
        assert answer.json() == {"queued": 3} and len(sent("visits")) == 3
        assert client.post("/visit/a-7/end").json() == {"id": "a-7"}
        ((key, message),) = sent("visit-events")
        assert (key, message["name"], message["data"]) == (b"a-7", "visit.ended", {"id": "a-7"})


def test_the_snippet_with_a_model() -> None:
    names = own("app:Models:1")
    with TestClient(names["app"]) as client:
        made = client.post("/orders", json={"customer": "Ann", "admin": True})
        order = {"id": 1, "customer": "Ann", "total": 0.0, "status": "new"}
        assert (made.status_code, made.json()) == (201, order)
        assert client.patch("/orders/1", json={"total": 2}).json() == {**order, "total": 2.0}
        assert client.post("/orders/1/complete").json() == {"id": 1, "status": "completed"}
        assert client.get("/orders/1").json()["status"] == "completed"
        assert client.get("/orders").status_code == 405  # the model has no all()
        assert [m["name"] for _, m in sent("order-events")] == ["order.created", "order.completed"]
    assert list(names["database"]) == [1]


def test_the_snippet_with_a_life(capsys: pytest.CaptureFixture[str]) -> None:
    names = own("app:Life:1")
    with TestClient(names["app"]) as client:
        assert client.app_state == {"pool": 1}
        client.portal.call(publish, "user-events", {"id": 1})
        client.portal.call(until, lambda: names["seen"])
    assert names["seen"] == [{"id": 1}] and "and closes here" in capsys.readouterr().out


def test_the_packages_own_page() -> None:
    with TestClient(own("README:salvo-core:1")["app"]) as client:
        assert client.post("/users/register", json={"email": "a@b.c"}).status_code == 200
        assert sent("user-events")[0][1]["data"] == {"id": 1, "email": "a@b.c"}


# --- view sets ---


@dataclass
class Point:
    x: int
    y: int


class OrderItemViewSet(ViewSet):
    @action()
    async def health(self, request: Any) -> str:
        return 'all "well"'

    @action(methods=["GET", "put"], detail=True, url_path="show-it")
    async def show(self, request: Any, id: str) -> dict[str, Any]:
        return {"id": id, "method": request.method, "same": self.request is request}

    @action(methods=["POST"])
    def blocking(self, request: Any, **kwargs: Any) -> list[Point]:
        return [Point(1, 2)]

    @action(methods=["DELETE"])
    async def nothing(self, request: Any) -> None:
        pass

    @action()
    async def own(self, request: Any) -> PlainTextResponse:
        return PlainTextResponse("own", 418)

    @action()
    async def secret(self, request: Any) -> Any:
        return Session()

    @action()
    async def no_broker(self, request: Any) -> Any:
        await publish("t", {"text": "x" * 20_000_000})

    @event("item.seen", topic="items", key_field="id")  # the other order of the two decorators
    @action(methods=["POST"], detail=True)
    async def seen(self, request: Any, id: str, db: Any) -> dict[str, Any]:
        return {"id": id, "db": db is None}


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = CoreApp(viewsets=[OrderItemViewSet], max_body_bytes=1000)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_actions(client: TestClient) -> None:
    assert client.get("/order-item/health").text == '"all \\"well\\""'
    assert client.get("/order-item/5/show-it").json() == {"id": "5", "method": "GET", "same": True}
    assert client.put("/order-item/5/show-it").json()["method"] == "PUT"
    assert client.post("/order-item/5/show-it").status_code == 405
    assert client.post("/order-item/blocking").json() == [{"x": 1, "y": 2}]
    assert client.delete("/order-item/nothing").status_code == 204
    assert client.get("/order-item/own").status_code == 418
    assert client.post("/order-item/a%20b/seen").json() == {"id": "a b", "db": True}
    assert [k for k, _ in sent("items")] == [b"a b"]


def test_what_goes_wrong_is_told(client: TestClient) -> None:
    assert client.get("/order-item/secret").status_code == 500  # never its __dict__
    assert client.get("/nowhere").json() == {"detail": "Not Found"}
    large = client.get("/order-item/no_broker")
    assert large.status_code == 413 and "max_message_bytes" in large.json()["detail"]


def test_a_prefix_and_a_registered_class() -> None:
    app = CoreApp()

    @app.register
    class Health(ViewSet):
        prefix = "/api/v1"

        @action(url_path="up")
        async def check(self, request: Any) -> dict[str, bool]:
            return {"up": True}

    app.register(Health, prefix="other/")
    with TestClient(app) as client:
        assert client.get("/api/v1/up").json() == client.get("/other/up").json() == {"up": True}


@pytest.mark.parametrize(("name", "expected"), [
    ("UserViewSet", "/users"), ("OrderItemViewSet", "/order-items"), ("CategoryViewSet",
    "/categories"), ("BoxViewSet", "/boxes"), ("HTTPLogViewSet", "/http-logs"), ("DayViewSet",
    "/days"), ("Address", "/addresses")])
def test_default_prefixes(name: str, expected: str) -> None:
    assert type(name, (ModelViewSet,), {}).default_prefix() == expected


# --- a model ---


class PersonIn(BaseModel):
    name: str
    age: int = 0


class PersonOut(BaseModel):
    id: int
    name: str


def people(**attributes: Any) -> type[ModelViewSet]:
    class Person(Model):
        pass

    return type("PersonViewSet", (ModelViewSet,), {
        "model": Person, "input_schema": PersonIn, "prefix": "people", **attributes})


def test_a_model_s_routes(db: type[Session]) -> None:
    with TestClient(CoreApp(viewsets=[people()])) as client:
        assert client.post("/people", json={"name": "Ann", "admin": True}).json() == {
            "id": 1, "name": "Ann", "age": 0}  # what the schema does not name is not taken
        client.post("/people", json={"name": "Bob", "age": "5"})
        assert client.get("/people").json() == [
            {"id": 1, "name": "Ann", "age": 0}, {"id": 2, "name": "Bob", "age": 5}]
        assert [p["id"] for p in client.get("/people?limit=1&offset=1").json()] == [2]
        assert client.put("/people/1", json={"name": "Eve"}).json()["name"] == "Eve"
        assert client.patch("/people/2", json={"age": 6}).json() == {
            "id": 2, "name": "Bob", "age": 6}
        assert client.delete("/people/1").status_code == 204
        for answer in (client.get("/people/1"), client.delete("/people/1"),
                       client.get("/people/x")):
            assert answer.status_code == 404 and "no such person" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "body", "said"), [
    ("POST", "/people", '{"age": 1}', "name: Field required"),
    ("POST", "/people", "[]", "a JSON object"),
    ("POST", "/people", '{"name": "x", "db": 1}', "db: no such field"),
    ("PUT", "/people/1", '{"name": 1}', "name: "),
    ("PATCH", "/people/1", '{"age": "x"}', "age: "),
    ("GET", "/people?limit=-1", "", "limit: a number from 0 to 1000"),
    ("GET", "/people?offset=9999999999999", "", "offset: a number"),
])
def test_what_a_model_s_routes_refuse(
    method: str, path: str, body: str, said: str, db: type[Session]
) -> None:
    with TestClient(CoreApp(viewsets=[people()])) as client:
        client.post("/people", json={"name": "Ann"})
        answer = client.request(method, path, content=body)
        assert answer.status_code == 422 and said in answer.json()["detail"]
        assert client.get("/people").json() == [{"id": 1, "name": "Ann", "age": 0}]


def test_only_what_the_model_can_do_is_served(db: type[Session]) -> None:
    class Log:
        @classmethod
        async def get(cls, id: int, *, db: Any) -> Any:
            return {"id": id}

    class LogViewSet(ModelViewSet):
        model = Log
        lookup_type = int

    with TestClient(CoreApp(viewsets=[LogViewSet])) as client:
        assert client.get("/logs/3").json() == {"id": 3}
        assert client.get("/logs/three").status_code == 404
        assert client.get("/logs").status_code == client.post("/logs").status_code == 404
        assert client.delete("/logs/3").status_code == 405


def test_an_output_schema(db: type[Session]) -> None:
    with TestClient(CoreApp(viewsets=[people(output_schema=PersonOut)])) as client:
        assert client.post("/people", json={"name": "Ann"}).json() == {"id": 1, "name": "Ann"}


def test_a_large_body_is_refused(db: type[Session]) -> None:
    with TestClient(CoreApp(viewsets=[people()], max_body_bytes=100)) as client:
        assert client.post("/people", content=b" " * 101).status_code == 413
        assert client.post("/people", json={"name": "x" * 50}).status_code == 201


# --- life ---


def test_consumers_live_with_the_application(db: type[Session]) -> None:
    got: list[Any] = []
    life: list[str] = []

    @consumer("late", topics=["user-events"], auto_start=True)
    class Late:
        @on_event("user.created")
        async def created(self, event: Any, db: Any) -> None:
            got.append((event.data["id"], issubclass(db, Session), list(life)))

    @message_handler("user-events", group_id="by-hand")
    async def by_hand(message: Any) -> None:
        got.append("by hand")

    class UserViewSet(ViewSet):
        prefix = "users"

        @action(methods=["POST"])
        @event("user.created", topic="user-events", key_field="id")
        async def register(self, request: Any) -> dict[str, int]:
            return {"id": 4}

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, int]]:
        life.append("begun")
        yield {"answer": 42}
        life.append("ended")

    with TestClient(CoreApp(viewsets=[UserViewSet], lifespan=own)) as client:
        assert client.app_state == {"answer": 42}
        client.post("/users/register")
        client.portal.call(until, lambda: got)
    assert got == [(4, True, ["begun"])] and life == ["begun", "ended"]
    assert registry._natives == {}


async def until(condition: Callable[[], Any]) -> None:
    import asyncio

    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("consumers", "expected"), [(True, {"a", "b"}), (None, {"a"}),
                                                     (False, set())])
def test_which_consumers_start(consumers: bool | None, expected: set[str]) -> None:
    @message_handler("t", group_id="a", auto_start=True)
    async def first(message: Any) -> None: ...

    @message_handler("t", group_id="b")
    async def second(message: Any) -> None: ...

    from salvo.messaging import consumers as running

    with TestClient(CoreApp(consumers=consumers)):
        assert {each.group_id for each in running._started} == expected
    assert not list(running._started)


def test_without_starlette_it_says_so() -> None:
    program = textwrap.dedent("""
        import sys
        sys.modules["starlette"] = None
        import core
        try:
            core.CoreApp
        except ImportError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True,
                          timeout=60)
    assert "salvo-core[app]" in done.stdout, done.stderr


def test_no_other_name_is_there() -> None:
    configure_messaging(message_broker="memory")
    assert not hasattr(core, "Model")

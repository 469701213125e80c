# SPDX-License-Identifier: Apache-2.0
"""Avro without a broker: schemas from classes, the binary form byte for byte against fastavro,
what is refused and where, round trips."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import time
import uuid
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, Optional

import fastavro
import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr
from salvo.messaging import (
    AvroModel,
    AvroType,
    InvalidSchema,
    SerializationError,
    avro_schema,
    errors,
)
from salvo.messaging.avro import decode, schema_of
from salvo.messaging.avro_compile import AvroError, compiled

UTC = timezone.utc


class UserEvent(AvroModel):
    __avro_namespace__ = "com.example.events"

    user_id: int
    email: str
    created_at: datetime
    roles: list[str] = []
    metadata: dict[str, str] | None = None


USER_EVENT = """{
  "type": "record", "name": "UserEvent", "namespace": "com.example.events",
  "fields": [
    {"name": "user_id", "type": "long"},
    {"name": "email", "type": "string"},
    {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "roles", "type": {"type": "array", "items": "string"}, "default": []},
    {"name": "metadata", "type": ["null", {"type": "map", "values": "string"}], "default": null}
  ]}"""


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Line(BaseModel):
    sku: str
    price: Decimal = Field(max_digits=10, decimal_places=2)


class Everything(AvroModel):
    flag: bool
    ratio: float = 1
    raw: bytes = b"\xff"
    number: Decimal
    key: uuid.UUID
    day: date
    at: clock
    colour: Colour = Colour.BLUE
    level: Level
    lines: list[Line]
    first: Line | None = None
    items: list[dict] = []  # type: ignore[type-arg]
    anything: Any = None
    mixed: int | str | None = "x"
    kind: Literal["a", "b"] = "a"
    fine: Annotated[datetime, AvroType({"type": "long", "logicalType": "timestamp-micros"})]
    parent: Optional[Everything] = None


def everything(**changes: Any) -> Everything:
    values: dict[str, Any] = {
        "flag": True, "number": Decimal("-12.5"), "key": uuid.uuid4(), "day": date(1969, 7, 20),
        "at": clock(23, 59, 59, 999999), "level": Level.HIGH,
        "lines": [Line(sku="é", price=Decimal("1.50"))],
        "fine": datetime(2024, 2, 29, 1, 2, 3, 456789, UTC)}
    return Everything(**{**values, **changes})


# --- schemas ---


def same(schema: Any, printed: str) -> bool:
    """As parsed JSON, in the same order."""
    return json.dumps(schema) == json.dumps(json.loads(printed))


def test_a_schema_is_as_people_write_it() -> None:
    assert same(UserEvent.__avro_schema__(), USER_EVENT)
    assert same(json.loads(UserEvent.avro_schema_json()), USER_EVENT)
    assert UserEvent.__avro_schema__() is UserEvent.__avro_schema__()
    fastavro.parse_schema(json.loads(UserEvent.avro_schema_json()))


def test_no_namespace_is_written_where_none_is_given() -> None:
    class Plain(AvroModel):
        a: int

    assert list(Plain.__avro_schema__()) == ["type", "name", "fields"]


def field(model: Any, name: str) -> Any:
    return next(f for f in model.__avro_schema__()["fields"] if f["name"] == name)


@pytest.mark.parametrize(("name", "expected"), [
    ("flag", {"type": "boolean"}),
    ("ratio", {"type": "double", "default": 1.0}),
    ("raw", {"type": "bytes", "default": "\xff"}),
    ("number", {"type": {"type": "bytes", "logicalType": "decimal", "precision": 38,
                         "scale": 18}}),
    ("key", {"type": {"type": "string", "logicalType": "uuid"}}),
    ("day", {"type": {"type": "int", "logicalType": "date"}}),
    ("at", {"type": {"type": "long", "logicalType": "time-micros"}}),
    ("colour", {"type": {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]},
                "default": "blue"}),
    ("level", {"type": {"type": "enum", "name": "Level", "symbols": ["LOW", "HIGH"]}}),
    ("first", {"type": ["null", "Line"], "default": None}),
    ("items", {"type": {"type": "array", "items": {"type": "map", "values": "string"}},
               "default": []}),
    ("anything", {"type": "string", "default": "null"}),
    ("mixed", {"type": ["string", "null", "long"], "default": "x"}),
    ("kind", {"type": "string", "default": "a"}),
    ("fine", {"type": {"type": "long", "logicalType": "timestamp-micros"}}),
    ("parent", {"type": ["null", "Everything"], "default": None}),
])
def test_types(name: str, expected: dict[str, Any]) -> None:
    assert field(Everything, name) == {"name": name, **expected}
    assert list(field(Everything, name)) == ["name", *expected]


def test_schemas_are_what_fastavro_takes() -> None:
    fastavro.parse_schema(copy.deepcopy(dict(Everything.__avro_schema__())))


def test_nested_records_are_written_once_by_name() -> None:
    text = Everything.avro_schema_json(indent=None)
    assert text.count('"name": "Line"') == 1 and text.count('"name": "Everything"') == 1


def test_a_nested_namespace_of_its_own() -> None:
    class Inner(AvroModel):
        __avro_namespace__ = "b"
        x: int

    class Outer(AvroModel):
        __avro_namespace__ = "a"
        one: Inner
        two: Inner
        line: Line
        again: Line

    one, two, line, again = (f["type"] for f in Outer.__avro_schema__()["fields"])
    assert (one["namespace"], two, again) == ("b", "b.Inner", "Line")
    assert "namespace" not in line  # it is the outer one's
    made = Outer(one=Inner(x=1), two=Inner(x=2), line=Line(sku="a", price=Decimal(1)),
                 again=Line(sku="b", price=Decimal(2)))
    assert Outer.from_avro(made.to_avro()) == made


def test_the_decorator() -> None:
    @avro_schema(namespace="com.example")
    class Decorated(BaseModel):
        order_id: int
        total: float

    @avro_schema
    @dataclasses.dataclass
    class Data:
        a: int
        b: list[int] = dataclasses.field(default_factory=list)

    @avro_schema()
    class Struct(msgspec.Struct):
        a: int
        b: str = "x"

    made: Any = Decorated(order_id=1, total=2.5)
    assert made.__avro_schema__()["namespace"] == "com.example"
    assert type(made).from_avro(made.to_avro()) == made
    data: Any = Data(1, [2])
    assert type(data).from_avro(data.to_avro()) == data
    assert field(Data, "b") == {"name": "b", "type": {"type": "array", "items": "long"},
                                "default": []}
    struct: Any = Struct(1)
    assert struct.to_avro() == b"\x02\x02x" and field(Struct, "b")["default"] == "x"


@pytest.mark.parametrize("kind", [timedelta, dict[int, str], SecretStr, list[bytes] | list[str]])
def test_what_avro_cannot_hold_is_said_with_its_field(kind: Any) -> None:
    model = type("Bad", (AvroModel,), {"__annotations__": {"field": kind},
                                       "__module__": __name__})
    with pytest.raises(InvalidSchema, match=r"Bad\.field: "):
        model.__avro_schema__()


def test_two_types_of_one_name() -> None:
    inner = type("Line", (BaseModel,), {"__annotations__": {"x": int}, "__module__": "other"})

    class Both(AvroModel):
        a: Line
        b: inner  # type: ignore[valid-type]

    with pytest.raises(InvalidSchema, match='two types are called "Line"'):
        schema_of(Both)


# --- values ---


def test_models_come_back() -> None:
    inner = everything(items=[{"price": 10.5, "name": "two", "none": None, "deep": {"a": [1]}}],
                       anything={"a": [1, "b", None]}, mixed=7, first=None, ratio=0.1)
    for made in (inner, everything(parent=inner, mixed=None, colour=Colour.RED, anything="text")):
        assert Everything.from_avro(made.to_avro()) == made


def test_to_avro_is_bare_and_as_fastavro_writes_it() -> None:
    event = UserEvent(user_id=1, email="a@b.c", created_at=datetime(2024, 1, 2, tzinfo=UTC),
                      roles=["x"], metadata={"k": "v"})
    assert event.to_avro() == theirs(UserEvent.__avro_schema__(), event.model_dump())


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kathmandu"])
def test_naive_datetimes_are_local_time(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for kind in ("timestamp-millis", "timestamp-micros", "local-timestamp-millis"):
            schema = {"type": "long", "logicalType": kind}
            for moment in (datetime(2024, 7, 1, 12, 0, 0, 999999), datetime(1969, 12, 31, 23, 1),
                           datetime(1900, 1, 1, 0, 0, 0, 1)):
                assert compiled(schema).encode(moment) == theirs(schema, moment)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_zones() -> None:
    schema = {"type": "long", "logicalType": "timestamp-micros"}
    for offset in (timedelta(hours=5, minutes=45), timedelta(seconds=-1), timedelta(0)):
        moment = datetime(2024, 2, 29, 1, 2, 3, 4, timezone(offset))
        assert compiled(schema).encode(moment) == theirs(schema, moment)


def test_texts_of_times() -> None:
    schema = {"type": "long", "logicalType": "timestamp-millis"}
    assert (compiled(schema).encode("2024-01-02T03:04:05+00:00")
            == compiled(schema).encode(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)))
    with pytest.raises(AvroError, match="Invalid isoformat"):
        compiled(schema).encode("yesterday")


def test_decimals() -> None:
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
    for text in ("0", "-0.01", "1.28", "-1.28", "999.99", "-999.99", "3E+1"):
        number = Decimal(text)
        assert compiled(schema).encode(number) == theirs(schema, number), text
    assert compiled(schema).encode(Decimal("1.5000")) == compiled(schema).encode(Decimal("1.5"))
    assert compiled(schema).encode(7) == compiled(schema).encode(Decimal(7))
    for text, words in [("1.005", "more than 2 digits"), ("1000", "more than the 5 digits"),
                        ("NaN", "no number"), ("1E+999999999", "more than the 5 digits"),
                        ("1E-999999999", "more than 2 digits")]:
        with pytest.raises(AvroError, match=words):
            compiled(schema).encode(Decimal(text))
    fixed = {"type": "fixed", "name": "D", "size": 2, "logicalType": "decimal", "precision": 4}
    for value in (Decimal(-1), Decimal(9999), Decimal(0)):
        assert compiled(fixed).encode(value) == theirs(fixed, value)


SCHEMA = {"type": "record", "name": "R", "fields": [
    {"name": "a", "type": "int"},
    {"name": "b", "type": {"type": "array", "items": {"type": "record", "name": "I", "fields": [
        {"name": "c", "type": {"type": "map", "values": "string"}, "default": {}},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["X"]}, "default": "X"}]}},
     "default": []},
    {"name": "f", "type": ["null", "float", "boolean"], "default": None},
    {"name": "g", "type": {"type": "fixed", "name": "F", "size": 2}, "default": "ab"}]}


@pytest.mark.parametrize(("value", "path", "reason"), [
    ({}, "a", "it is missing"),
    ({"a": "1"}, "a", "an int is needed, not str"),
    ({"a": True}, "a", "an int is needed, not bool"),
    ({"a": 2**31}, "a", "32 bits"),
    ({"a": 2**64}, "a", "64 bits"),
    ({"a": 1, "b": "x"}, "b", "a list is needed"),
    ({"a": 1, "b": [{}, {"c": {"k": 1}}]}, "b.1.c.k", "a str is needed, not int"),
    ({"a": 1, "b": [{"c": {1: "x"}}]}, "b.0.c.1", "a str is needed"),
    ({"a": 1, "b": [{"c": {"": 1}}]}, "b.0.c.", "a str is needed"),
    ({"a": 1, "b": [{"e": "Y"}]}, "b.0.e", "none of the enum's symbols"),
    ({"a": 1, "b": [None]}, "b.0", "a mapping or an object"),
    ({"a": 1, "f": "x"}, "f", "a str fits no branch"),
    ({"a": 1, "f": ("float", 1e300)}, "f", "32 bits"),
    ({"a": 1, "g": b"abc"}, "g", "2 bytes are needed, not 3"),
    ({"a": 1, "g": "ab"}, "g", "bytes is needed"),
    ({"a": 1, "b": [{"c": {"k": "\ud800"}}]}, "b.0.c.k", "surrogates"),
    ("x", "$", "a mapping or an object"),
])
def test_errors_name_the_field(value: Any, path: str, reason: str) -> None:
    with pytest.raises(AvroError) as raised:
        compiled(SCHEMA).encode(value)
    assert raised.value.path == path and reason in raised.value.reason


def test_defaults_are_written() -> None:
    assert compiled(SCHEMA).encode({"a": 1}) == theirs(
        SCHEMA, {"a": 1, "b": [], "f": None, "g": b"ab"})


def test_values_from_anything_with_fields() -> None:
    schema = {"type": "record", "name": "P", "fields": [{"name": "x", "type": "long"},
                                                        {"name": "y", "type": "string"}]}

    class Model(BaseModel):
        x: int
        y: str

    @dataclasses.dataclass
    class Data:
        x: int
        y: str

    class Slots(msgspec.Struct):
        x: int
        y: str

    class Object:
        def __init__(self) -> None:
            self.x, self.y = 1, "a"

    import types

    encode = compiled(schema).encode
    expected = encode({"x": 1, "y": "a", "more": 2})
    for value in (Model(x=1, y="a"), Data(1, "a"), Slots(1, "a"), Object(),
                  types.MappingProxyType({"x": 1, "y": "a"})):
        assert encode(value) == expected
    with pytest.raises(AvroError, match="^y: it is missing"):
        encode(types.SimpleNamespace(x=1))


def test_what_goes_wrong_in_a_value_is_passed_on() -> None:
    class Trouble:
        @property
        def a(self) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled(SCHEMA).encode(Trouble())

    class Index:
        def __index__(self) -> int:
            raise ValueError("not today")

    with pytest.raises(AvroError, match="a: not today"):
        compiled(SCHEMA).encode({"a": Index()})


def test_a_list_that_changes_meanwhile() -> None:
    class Item:
        def __index__(self) -> int:
            items.clear()
            return 1

    items: list[Any] = [Item(), 2, 3]
    with pytest.raises(AvroError, match="changed while"):
        compiled({"type": "array", "items": "long"}).encode(items)
    mapping: dict[str, Any] = {}

    class Entry:
        def __index__(self) -> int:
            mapping["more"] = 1
            return 1

    mapping["a"] = Entry()
    with pytest.raises(AvroError, match="changed while"):
        compiled({"type": "map", "values": "long"}).encode(mapping)


def test_recursion_is_bounded() -> None:
    node = {"type": "record", "name": "N", "fields": [
        {"name": "next", "type": ["null", "N"], "default": None}]}
    value: dict[str, Any] = {}
    value["next"] = value
    with pytest.raises(AvroError, match="nested more than"):
        compiled(node).encode(value)
    tree = {"type": "record", "name": "T", "fields": [
        {"name": "l", "type": ["null", "T", {"type": "array", "items": "T"}], "default": None}]}
    deep: dict[str, Any] = {}
    for _ in range(100):  # no branch is tried more than once a level
        deep = {"l": deep}
    assert compiled(tree).encode(deep) == theirs(tree, deep)


def test_unions_take_the_branch_that_fastavro_takes() -> None:
    schema = ["null", "float", "long", "double", "string", "bytes", {
        "type": "record", "name": "A", "fields": [
            {"name": "x", "type": "long"}, {"name": "y", "type": "long", "default": 0}]}, {
        "type": "record", "name": "B", "fields": [
            {"name": "x", "type": "long"}, {"name": "z", "type": "long", "default": 0}]}]
    for value in (None, 1, 1.5, "a", b"a", {"x": 1}, {"x": 1, "z": 2}, {"x": 1, "y": 2},
                  ("B", {"x": 1}), ("double", 1.0), 2**40):
        assert compiled(schema).encode(value) == theirs(schema, value), value


@pytest.mark.parametrize("schema", [
    {}, 3, [], "text", {"type": "recrod"}, {"type": "record", "name": "R"}, [["null"]],
    {"type": "enum", "name": "E", "symbols": ["A", "A"]}, ["int", "int"],
    {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "default": "x"}]},
    {"type": "record", "name": "R", "fields": [{"name": "a", "type": "Later"}]},
    {"type": "fixed", "name": "F", "size": -1}, {"type": "array"}, "{", object(),
    {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"},
                                               {"name": "a", "type": "int"}]},
])
def test_schemas_that_are_none(schema: Any) -> None:
    with pytest.raises(InvalidSchema):
        compiled(schema)


def test_bytes_that_are_no_avro() -> None:
    good = everything().to_avro()
    for bad in (b"", good[:-1], good + b"\0", b"\xff" * 50):
        with pytest.raises(SerializationError):
            Everything.from_avro(bad)

    class Strict(AvroModel):
        n: Annotated[int, Field(gt=5)]

    with pytest.raises(SerializationError, match="n: .*greater than 5"):
        Strict.from_avro(Strict.model_construct(n=1).to_avro())
    with pytest.raises(SerializationError, match="user_id"):
        UserEvent.model_construct(user_id="x").to_avro()


def test_errors_are_the_packages_own() -> None:
    for cls in (errors.InvalidSchema, errors.RegistryError, errors.IncompatibleSchema):
        assert issubclass(cls, errors.MessagingError)


# --- against fastavro, with whatever hypothesis thinks of ---


def theirs(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(copy.deepcopy(schema)), value)
    return stream.getvalue()


MOMENTS = st.datetimes(min_value=datetime(1901, 1, 1), max_value=datetime(2200, 1, 1),
                       timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30)),
                                                  None]))
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", st.integers(-2**31, 2**31 - 1)),
    ("long", st.integers(-2**63, 2**63 - 1)),
    ("float", st.floats(width=32)),
    ("double", st.floats() | st.integers(-2**53, 2**53)),
    ("bytes", st.binary(max_size=600)),
    ("string", st.text(max_size=300)),
    ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    ({"type": "int", "logicalType": "date"}, st.dates()),
    ({"type": "int", "logicalType": "time-millis"}, st.times()),
    ({"type": "long", "logicalType": "time-micros"}, st.times()),
    ({"type": "long", "logicalType": "timestamp-millis"}, MOMENTS),
    ({"type": "long", "logicalType": "timestamp-micros"}, MOMENTS | st.integers(0, 2**50)),
    ({"type": "long", "logicalType": "local-timestamp-millis"}, MOMENTS),
    ({"type": "long", "logicalType": "local-timestamp-micros"}, MOMENTS),
    ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3},
     st.decimals(-10**8, 10**8, places=3)),
]


@st.composite
def cases(draw: st.DrawFn, depth: int = 0, name: str = "N") -> tuple[Any, Any]:
    """A schema and a value of it. Names come from the place, so that none is used twice."""
    shape = draw(st.sampled_from(["leaf"] if depth > 3 else
                                 ["leaf", "leaf", "array", "map", "union", "record", "enum",
                                  "fixed"]))
    if shape == "leaf":
        schema, values = draw(st.sampled_from(LEAVES))
        return schema, draw(values)
    if shape == "enum":
        symbols = ["A", "B_1", "c"]
        return ({"type": "enum", "name": name, "symbols": symbols}, draw(st.sampled_from(symbols)))
    if shape == "fixed":
        size = draw(st.integers(0, 9))
        return ({"type": "fixed", "name": name, "size": size},
                draw(st.binary(min_size=size, max_size=size)))
    schema, value = draw(cases(depth=depth + 1, name=name + "_"))
    if shape == "array":
        return {"type": "array", "items": schema}, [value] * draw(st.integers(0, 3))
    if shape == "map":
        return ({"type": "map", "values": schema},
                dict.fromkeys(draw(st.lists(st.text(max_size=9), max_size=3)), value))
    if shape == "union":
        if isinstance(schema, list) or schema == "null":
            return schema, value
        return ["null", schema], draw(st.sampled_from([None, value]))
    fields = [("f0", schema, value)]
    for i in range(draw(st.integers(0, 3))):
        fields.append((f"f{i + 1}", *draw(cases(depth=depth + 1, name=f"{name}{i}"))))
    return ({"type": "record", "name": name,
             "fields": [{"name": n, "type": s} for n, s, _ in fields]},
            {n: v for n, _, v in fields})


EXAMPLES = int(os.environ.get("SALVO_EXAMPLES", "400"))


@hypothesis.settings(max_examples=EXAMPLES, deadline=None,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(cases())
def test_bytes_equal_fastavros(case: tuple[Any, Any]) -> None:
    schema, value = case
    try:
        expected = theirs(schema, value)
    except OverflowError:
        hypothesis.reject()
    data = compiled(schema).encode(value, b"prefix")
    assert data == b"prefix" + expected
    ours = decode(schema, expected)
    again = fastavro.schemaless_reader(io.BytesIO(expected),
                                       fastavro.parse_schema(copy.deepcopy(schema)))
    assert repr(ours) == repr(again)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids()
    | st.datetimes() | st.decimals() | st.just(object()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
    | st.tuples(inner, inner), max_leaves=8)


@hypothesis.settings(max_examples=EXAMPLES, deadline=None,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(cases(), JUNK)
def test_junk_is_refused_or_comes_back_whole(case: tuple[Any, Any], junk: Any) -> None:
    schema, _ = case
    try:
        data = compiled(schema).encode(junk)
    except AvroError as error:
        assert error.path and error.reason
        return
    decode(schema, data)  # it is well-formed, and nothing follows


MODELS = st.builds(
    everything, flag=st.booleans(), ratio=st.floats(allow_nan=False), raw=st.binary(),
    number=st.decimals(-10**12, 10**12, places=6), key=st.uuids(), day=st.dates(), at=st.times(),
    colour=st.sampled_from(Colour), level=st.sampled_from(Level),
    items=st.lists(st.dictionaries(st.text(), st.none() | st.text() | st.integers(-9, 9)
                                   | st.lists(st.booleans()), max_size=3), max_size=3),
    anything=st.none() | st.text() | st.integers(-9, 9) | st.dictionaries(st.text(), st.text()),
    mixed=st.none() | st.text() | st.integers(-2**63, 2**63 - 1))


@hypothesis.settings(max_examples=EXAMPLES // 2, deadline=None)
@hypothesis.given(MODELS)
def test_models_come_back_whatever_they_hold(made: Everything) -> None:
    assert Everything.from_avro(made.to_avro()) == made

# SPDX-License-Identifier: Apache-2.0
"""A worker's handlers and hooks in terms of messages: decoding, schemas, threads, outputs.

Guarantees: what cannot be decoded, or is against ``input_schema``, is a BadMessage, and what
``output_schema`` refuses a SchemaError: no retry mends those. Functions that are no coroutines run
in threads.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from salvo import _engine
from salvo._engine import Message
from salvo.messaging import handlers
from salvo.messaging.deadletter import Write
from salvo.messaging.decoding import Decoded, avro_topics, decoded
from salvo.messaging.encoding import encode
from salvo.messaging.errors import BadMessage, MessagingError, SchemaError
from salvo.messaging.producers import Producer
from salvo.messaging.routing import is_async
from salvo.messaging.threads import in_thread
from salvo.messaging.topics import _plain as plain
from salvo.messaging.topics import topic_of, validated

if TYPE_CHECKING:
    from salvo.messaging.workers import Worker

Call = Callable[..., Awaitable[Any]]
_BATCH = 100  # messages, where there is a process_batch, no process, and nothing was said


class Handling:
    """What a runner asks of a worker; None where the worker has no such thing."""

    process: Call
    batch_size: int | None
    process_batch: Call | None = None
    on_error: Call | None = None
    on_success: Call | None = None
    output: Callable[[Message, Any], Write | None] | None = None

    def __init__(self, worker: Worker, producer: Producer) -> None:
        single, batch = (getattr(worker, name, None) for name in ("process", "process_batch"))
        self._avro = avro_topics(worker.topics())
        self.batch_size = worker.batch_size or (_BATCH if single is None else None)
        if batch is not None and self.batch_size is not None:
            self.process_batch = self._of_batch(_called(batch), _reader(worker, batch))
        if single is not None:
            self.process = self._of_one(_called(single), _reader(worker, single))
        else:
            self.process = self._of_few(self.process_batch)
        self._hooks(worker, _reader(worker, None))
        if worker.output_topic is not None:
            self.output = _writer(worker, producer)

    async def _open(self, message: Message) -> Any:
        """With what its Avro holds, where its topic's class says so."""
        return await decoded(message) if message.topic in self._avro else message

    def _of_one(self, call: Call, read: Callable[[Any], Any]) -> Call:
        async def process(message: Message) -> Any:
            return await call(read(await self._open(message) if self._avro else message))

        async def process_json(message: Message) -> Any:
            return await call(message.json())

        return process_json if read is _json and not self._avro else process

    def _of_batch(self, call: Call, read: Callable[[Any], Any]) -> Call:
        async def process_batch(messages: list[Message]) -> Any:
            opened = [await self._open(each) for each in messages] if self._avro else messages
            return await call([read(message) for message in opened])

        async def process_json(messages: list[Message]) -> Any:
            return await call(_engine.json_all(messages))

        return process_json if read is _json and not self._avro else process_batch

    @staticmethod
    def _of_few(process_batch: Call | None) -> Call:
        """A worker without ``process``: batches of one."""
        assert process_batch is not None

        async def process(message: Message) -> Any:
            results = await process_batch([message])
            if results is None:
                return None
            if not isinstance(results, (list, tuple)) or len(results) != 1:
                raise ValueError("process_batch must return as many results as it gets messages")
            return results[0]

        return process

    def _hooks(self, worker: Worker, read: Callable[[Any], Any]) -> None:
        failed, succeeded = (getattr(worker, name, None) for name in ("on_error", "on_success"))
        if failed is not None:
            call_failed = _called(failed)

            async def on_error(message: Message, error: Exception) -> None:
                await call_failed(await self._shown(message, read), error)

            self.on_error = on_error
        if succeeded is not None:
            call_succeeded = _called(succeeded)

            async def on_success(message: Message, result: Any) -> None:
                await call_succeeded(read(await self._open(message)), result)

            self.on_success = on_success

    async def _shown(self, message: Message, read: Callable[[Any], Any]) -> Any:
        """For on_error: the event; what was decoded, or the bytes, where it is no valid one."""
        try:
            opened = await self._open(message)
        except MessagingError:
            return message.value
        for way in (read, _json):
            try:
                return way(opened)
            except MessagingError:
                continue
        return message.value

def _called(function: Callable[..., Any]) -> Call:
    """As a coroutine function; with ``db`` where it names such a parameter."""
    call: Call = function
    if not is_async(function):

        async def in_a_thread(*arguments: Any, **keywords: Any) -> Any:
            result = await in_thread(lambda: function(*arguments, **keywords))
            return await result if inspect.isawaitable(result) else result

        call = in_a_thread
    if not handlers.takes_db(function):
        return call

    async def with_db(*arguments: Any) -> Any:
        provider = handlers.get_db_provider()
        if provider is None:
            return await call(*arguments, db=None)
        async with provider() as db:
            return await call(*arguments, db=db)

    return with_db


# --- input ---


def _annotated_model(function: Callable[..., Any] | None) -> Any:
    """The pydantic model that the first parameter (or the items of its list) is annotated with."""
    if function is None:
        return None
    try:
        first = next(iter(inspect.signature(function).parameters))
        plain = getattr(function, "__func__", function)
        wanted = typing.get_type_hints(plain).get(first)
    except (StopIteration, TypeError, ValueError, NameError):
        return None
    if typing.get_origin(wanted) in (list, tuple):
        wanted = typing.get_args(wanted)[0]
    return wanted if isinstance(wanted, type) and issubclass(wanted, BaseModel) else None


def _reader(worker: Worker, function: Callable[..., Any] | None) -> Callable[[Any], Any]:
    """From a message to what a handler gets."""
    model = _annotated_model(function)
    schema = worker.input_schema if worker.input_schema is not None else model
    if schema is None:
        return _json
    adapter: TypeAdapter[Any] = TypeAdapter(schema)
    as_model = model is not None

    def read(message: Any) -> Any:
        try:
            if isinstance(message, Decoded):
                found = adapter.validate_python(message.json())
            else:
                found = adapter.validate_json(b"null" if message.value is None else message.value)
        except ValidationError as error:
            field, reason = _first(error)
            raise BadMessage(message.topic, message.partition, message.offset, field,
                             reason) from None
        return found if as_model or not isinstance(found, BaseModel) else found.model_dump()

    return read


def _json(message: Any) -> Any:
    return message.json()


def _first(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(str(part) for part in first["loc"]) or "$", first["msg"]


# --- output ---


def _writer(worker: Worker, producer: Producer) -> Callable[[Message, Any], Write | None]:
    """From a result to what is sent. None is nothing."""
    name, cls = topic_of(worker.output_topic)
    avro_cls = cls if cls is not None and cls.value_serializer == "avro" else None
    dump = _dumper(worker.output_schema, name) if worker.output_schema is not None else None

    def write(message: Message, result: Any) -> Write | None:
        if result is None:
            return None
        if dump is not None:
            result = dump(result)
        if avro_cls is not None:
            return Write(name, producer._avro().for_class(avro_cls, result), message.key)
        if cls is not None:
            result = validated(cls, result)
        value = encode(result)
        if type(value) is not bytes:
            value = value.encode() if isinstance(value, str) else bytes(value)
        return Write(name, value, message.key)

    return write


def _dumper(schema: Any, topic: str) -> Callable[[Any], bytes]:
    """Validates a result and dumps what came of it."""
    adapter: TypeAdapter[Any] = TypeAdapter(schema)

    def dump(result: Any) -> bytes:
        try:
            return adapter.dump_json(adapter.validate_python(plain(result, schema)))
        except ValidationError as error:
            raise SchemaError(topic, *_first(error)) from None
        except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
            raise SchemaError(topic, "$", str(error)) from None

    return dump

# SPDX-License-Identifier: Apache-2.0
"""Values as bytes.

bytes, bytearray, memoryview and str go as they are (str as UTF-8), None is a null value, anything
else becomes JSON: msgspec first, then pydantic for what msgspec refuses (odd keys, huge integers).
A list of alike items is encoded in runs of lines and split at the newlines; the split is exact,
because the count of lines is compared with the count of items and JSON itself has no newline, so
whatever smuggles one in (``msgspec.Raw``) sends the whole list the slow way.
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pydantic_core
from pydantic import BaseModel

from salvo import _engine
from salvo.messaging.errors import InvalidMessage, KeyTypeError, SerializationError

_HEADERS_MAX = 64
_AS_IT_IS = (bytes, bytearray, memoryview, str, msgspec.Raw)


def _hook(value: Any) -> Any:
    """For msgspec: what it does not know, in terms of what it knows."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    try:
        plain = pydantic_core.to_jsonable_python(value)
    except pydantic_core.PydanticSerializationError:
        plain = value
    if type(plain) is type(value):  # handed back, it would come here again and again
        raise TypeError(f"a {type(value).__name__} is no JSON value")
    return plain


_encoder = msgspec.json.Encoder(enc_hook=_hook)
_encode = _encoder.encode
_encode_lines = _encoder.encode_lines

# Single messages are encoded into buffers of this pool. A buffer is out of the pool while it is in
# use, so a hook that switches threads, or sends something itself, meets another one. It holds at
# most as many as were in use at one time.
encode_into = _encoder.encode_into
pool: list[bytearray] = []
_engine.use_encoder(encode_into, pool)
_engine.use_decoder(msgspec.json.Decoder().decode)  # of what is read: Message.json()


def _children(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        value = dict(value)
    elif dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct):
        fields: Any = type(value)
        names = getattr(fields, "__struct_fields__", None) or fields.__dataclass_fields__
        value = {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        return [(f".{key}", part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{i}]", part) for i, part in enumerate(value)]
    return []


def _blame(value: Any, path: str, depth: int = 0) -> str:
    """The path of the innermost part that cannot be encoded."""
    try:
        children = _children(value) if depth < 100 else []
    except Exception:  # it cannot even be looked at
        return path
    for name, part in children:
        try:
            _json_slowly(part)
        except Exception:
            return _blame(part, path + name, depth + 1)
    return path


def _json_slowly(value: Any) -> bytes:
    try:
        return _encode(value)
    except RecursionError:
        raise
    except Exception:
        return pydantic_core.to_json(value, fallback=_hook)


def _failed(value: Any, index: int | None) -> SerializationError:
    try:
        _json_slowly(value)
        reason = "changed while it was encoded"
    except RecursionError:
        return SerializationError("nested too deeply, or inside itself", index=index)
    except Exception as error:
        try:
            reason = str(error).removeprefix("Error serializing to JSON: ")
        except Exception:  # an exception of the value's own, and a bad one
            reason = type(error).__name__
        reason = reason.partition("TypeError: ")[2] or reason
    return SerializationError(reason, index=index, path=_blame(value, "$"))


def encode(value: Any, index: int | None = None) -> Any:
    """One value as something with bytes (or None). SerializationError if there is no way."""
    if isinstance(value, _AS_IT_IS) or value is None:
        if isinstance(value, str) and not str.isascii(value):
            return _utf8(value, index)
        return _contiguous(value, index) if isinstance(value, memoryview) else value
    try:
        return _encode(value)
    except Exception:
        try:
            return _json_slowly(value)
        except Exception:
            raise _failed(value, index) from None


def _utf8(value: str, index: int | None) -> bytes:
    try:
        return str.encode(value)
    except UnicodeEncodeError as error:
        raise SerializationError(str(error), index=index) from None


def _contiguous(value: memoryview, index: int | None) -> bytes | memoryview:
    try:
        return value if value.c_contiguous else value.tobytes()
    except ValueError as error:  # it has been released
        raise SerializationError(str(error), index=index) from None


def items_of(messages: Any) -> list[Any]:
    """A list of messages, a generator of them, or whatever else is a row of things."""
    if type(messages) is list:
        return messages
    try:
        if isinstance(messages, (str, bytes, bytearray, memoryview, Mapping)):
            raise TypeError
        each = iter(messages)
    except TypeError:
        raise InvalidMessage(f"a list of messages is needed, not a {type(messages).__name__}; "
                             "nothing was sent") from None
    return list(each)


def _has_no_newline(kind: type) -> bool:
    """Whether values of this exact type become one line each."""
    return kind in (dict, list, tuple) or dataclasses.is_dataclass(kind) or (
        issubclass(kind, (msgspec.Struct, BaseModel)))


def encode_batch(items: Any) -> _engine.Batch:
    """A whole list, before anything of it is sent. SerializationError names item and path."""
    items = items_of(items)
    if items and type(items[0]) is dict:  # the usual list: each run is looked at while it is warm
        batch = _by_lines(items, only_dicts=True)
        if batch is not None:
            return batch
    elif _engine.all_bytes(items):
        return _engine.Batch.values(items)
    items = items[:]  # a hook, or a thread that it lets run, may change the caller's
    if all(_has_no_newline(each) for each in set(map(type, items))):
        batch = _by_lines(items)
        if batch is not None:
            return batch
    return _engine.Batch.values([encode(item, i) for i, item in enumerate(items)])


def _by_lines(items: list[Any], only_dicts: bool = False) -> _engine.Batch | None:
    try:
        return _engine.Batch.lines(_encode_lines, items, only_dicts)
    except Exception:
        return None  # one by one: it tells which item, and pydantic may know it


def encode_key(key: Any) -> bytes | None:
    """A key: str and bytes; int and UUID through str; None is no key. KeyTypeError otherwise."""
    if key is None:
        return None
    try:
        if isinstance(key, str):
            return key.encode()
        if isinstance(key, (bytes, bytearray, memoryview)):
            return bytes(key)
        if isinstance(key, (int, uuid.UUID)) and not isinstance(key, bool):
            return str(key).encode()
    except ValueError as error:  # a lone surrogate, a view that was released, too many digits
        raise InvalidMessage(f"key: {error}; nothing was sent") from None
    raise KeyTypeError(f"a key is str, bytes, int, UUID or None, not {type(key).__name__}; "
                       "nothing was sent")


def encode_headers(headers: Any) -> tuple[tuple[str, bytes | None], ...]:
    """Headers: a mapping or pairs of str to str, bytes or None."""
    if not headers:
        return ()
    encoded: list[tuple[str, bytes | None]] = []
    try:
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            if not isinstance(name, str) or not isinstance(value, (str, bytes, type(None))):
                raise TypeError
            name.encode()  # looked at here, so that the extension need not refuse it
            encoded.append((name, value.encode() if isinstance(value, str) else value))
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"headers: {error}; nothing was sent") from None
    except (TypeError, ValueError):
        raise InvalidMessage("headers map str to str, bytes or None; nothing was sent") from None
    if len(encoded) > _HEADERS_MAX:
        raise InvalidMessage(f"{len(encoded)} headers; at most {_HEADERS_MAX} are allowed; "
                             "nothing was sent")
    return tuple(encoded)

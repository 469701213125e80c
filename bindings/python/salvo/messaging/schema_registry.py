# SPDX-License-Identifier: Apache-2.0
"""A client of the Confluent Schema Registry's REST interface.

It is made of the standard library: a schema is asked for once in a process's life, so there is
nothing for connection pools or an async HTTP library to win, and nothing more to install. Every
method blocks its thread; event loops use ``shared()``, which runs one request in a thread of its
own however many wait for it.

Guarantees: what was learnt once (the id of a schema, the schema of an id) is kept and needs no
registry again; each address is tried in turn; nobody answers: RegistryError, and for one second
further calls fail at once instead of waiting for the same time-outs; answers are bounded; names
and passwords appear in no text. Schemas with references are refused.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from salvo.messaging.errors import ConfigurationError, IncompatibleSchema, RegistryError

_T = TypeVar("_T")
_TYPE = "application/vnd.schemaregistry.v1+json"
_ANSWER_BYTES_MAX = 16 << 20
_CACHE_MAX = 10_000
_DOWN_S = 1.0  # how long a registry that did not answer is not asked again
_MISSING_S = 5.0  # the same for an id that it does not know
_NO_VERSION = (40401, 40402, 40403)

_clients: weakref.WeakSet[SchemaRegistry] = weakref.WeakSet()


class _Address:
    """One address, split; ``shown`` is what texts may hold."""

    def __init__(self, text: str) -> None:
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"kafka_schema_registry_url: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("kafka_schema_registry_url: each address is http://HOST:PORT "
                                     "or https://HOST:PORT, several are separated by commas")
        self.tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.tls else 80)
        self.path = parts.path.rstrip("/")
        self.user = unquote(parts.username) if parts.username is not None else None
        self.password = unquote(parts.password or "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.shown = f"{parts.scheme}://{host}:{self.port}{self.path}"


class SchemaRegistry:
    """A client. ``url`` may hold several addresses, separated by commas, and user and password;
    ``user`` and ``password`` win over those. ``timeout``: seconds of one request."""

    def __init__(self, url: str, *, user: str | None = None, password: str | None = None,
                 cafile: str | None = None, certfile: str | None = None,
                 keyfile: str | None = None, timeout: float = 10.0) -> None:
        self._addresses = [_Address(part) for part in url.split(",") if part.strip()]
        if not self._addresses:
            raise ConfigurationError("Schema Registry not configured: set "
                                     "kafka_schema_registry_url, e.g. http://localhost:8081")
        self._user, self._password = user, password or ""
        self._files = (cafile, certfile, keyfile)
        self._timeout = timeout
        self._tls: Any = None
        self._lock = threading.Lock()
        self._flights: dict[Any, Future[Any]] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}
        self._missing: dict[int, tuple[float, RegistryError]] = {}
        self._down: tuple[float, RegistryError] | None = None
        _clients.add(self)

    # --- what is asked ---

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema, registered under the subject if it is new there.
        IncompatibleSchema when the subject's rules forbid it."""
        return self._id(subject, schema, f"/subjects/{_quoted(subject)}/versions")

    def lookup(self, subject: str, schema: str) -> int:
        """The id of a schema that is registered under the subject; RegistryError if it is not."""
        return self._id(subject, schema, f"/subjects/{_quoted(subject)}")

    def known_id(self, subject: str, schema: str) -> int | None:
        """The id, if this client has learnt it. Asks nobody."""
        return self._ids.get((subject, schema))

    def _id(self, subject: str, schema: str, path: str) -> int:
        known = self._ids.get((subject, schema))
        if known is not None:
            return known
        try:
            answer = self._ask("POST", path, {"schema": schema})
        except RegistryError as error:
            if error.status == 409:
                raise self._conflict(subject, schema, error) from None
            if error.error_code in _NO_VERSION:
                raise RegistryError(f'subject "{subject}": the schema is not registered there '
                                    f"({error}); register it, or set "
                                    "kafka_schema_auto_register=true", error.status,
                                    error.error_code) from None
            raise
        found = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**31:
            raise RegistryError(f'subject "{subject}": the Schema Registry\'s answer has no id')
        _keep(self._ids, (subject, schema), found)
        return found

    def _conflict(self, subject: str, schema: str, error: RegistryError) -> IncompatibleSchema:
        reasons = []
        try:
            reasons = self.compatible(subject, schema)[1]
        except RegistryError:
            pass  # the refusal itself says something, too
        return IncompatibleSchema(subject, reasons or [str(error)], error.status,
                                  error.error_code)

    def compatible(self, subject: str, schema: str,
                   version: int | str = "latest") -> tuple[bool, list[str]]:
        """Whether the subject's rules allow a schema beside that version, and if not, why."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/{version}?verbose=true"
        try:
            answer = self._ask("POST", path, {"schema": schema})
        except RegistryError as error:
            if error.error_code in _NO_VERSION:
                return True, []  # nothing is there that it could disagree with
            raise
        if not isinstance(answer, dict):
            raise RegistryError(f'subject "{subject}": no answer about compatibility')
        messages = answer.get("messages") or []
        return answer.get("is_compatible") is True, [str(message) for message in messages]

    def schema(self, number: int) -> str:
        """The schema of an id, as text."""
        known = self.known_schema(number)
        if known is not None:
            return known
        missing = self._missing.get(number)
        if missing is not None and time.monotonic() < missing[0]:
            raise missing[1]
        try:
            answer = self._ask("GET", f"/schemas/ids/{number}")
        except RegistryError as error:
            if error.status == 404:
                _keep(self._missing, number, (time.monotonic() + _MISSING_S, error))
            raise
        text = self._avro_of(answer, f"schema {number}")
        _keep(self._schemas, number, text)
        return text

    def known_schema(self, number: int) -> str | None:
        """The schema of an id, if this client has learnt it. Asks nobody."""
        return self._schemas.get(number)

    def latest(self, subject: str) -> tuple[int, int, str]:
        """(id, version, schema) of the newest version of a subject."""
        answer = self._ask("GET", f"/subjects/{_quoted(subject)}/versions/latest")
        text = self._avro_of(answer, f'subject "{subject}"')
        return answer["id"], answer["version"], text

    def subjects(self) -> list[str]:
        """All subjects."""
        return list(self._ask("GET", "/subjects"))

    def versions(self, subject: str) -> list[int]:
        """The versions of a subject."""
        return list(self._ask("GET", f"/subjects/{_quoted(subject)}/versions"))

    @staticmethod
    def _avro_of(answer: Any, what: str) -> str:
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise RegistryError(f"{what}: the Schema Registry's answer holds no schema")
        kind = answer.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise RegistryError(f"{what}: it is a schema of {kind}; only AVRO can be read")
        if answer.get("references"):
            raise RegistryError(f"{what}: it refers to other subjects, which is not supported; "
                                "register it with the types written out")
        return str(answer["schema"])

    # --- asking ---

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        down = self._down
        if down is not None and time.monotonic() < down[0]:
            raise down[1]
        data = json.dumps(body).encode() if body is not None else None
        failures = []
        for address in list(self._addresses):
            status, answer = self._try(address, method, path, data)
            if 0 < status < 500:
                self._down = None
                self._prefer(address)
                return _judged(address, status, answer)
            failures.append(f"{address.shown}: {answer if status == 0 else f'status {status}'}")
        error = RegistryError("no Schema Registry answered: " + "; ".join(failures))
        self._down = (time.monotonic() + _DOWN_S, error)
        raise error

    def _prefer(self, address: _Address) -> None:
        if self._addresses[0] is not address:
            with self._lock:
                self._addresses = [address, *(a for a in self._addresses if a is not address)]

    def _try(self, address: _Address, method: str, path: str,
             data: bytes | None) -> tuple[int, Any]:
        """(status, body), or (0, why not)."""
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        headers = {"Accept": f"{_TYPE}, application/json", "Content-Type": _TYPE}
        user, password = ((self._user, self._password) if self._user
                          else (address.user, address.password))
        if user is not None:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        connection = (HTTPSConnection(address.host, address.port, timeout=self._timeout,
                                      context=self._context()) if address.tls
                      else HTTPConnection(address.host, address.port, timeout=self._timeout))
        try:
            connection.request(method, address.path + path, data, headers)
            response = connection.getresponse()
            answer = response.read(_ANSWER_BYTES_MAX + 1)
        except TimeoutError:
            return 0, f"no answer within {self._timeout:g} s"
        except (OSError, HTTPException, ValueError) as error:
            return 0, str(error) or type(error).__name__
        finally:
            connection.close()
        if len(answer) > _ANSWER_BYTES_MAX:
            return 0, f"an answer of more than {_ANSWER_BYTES_MAX} bytes"
        return response.status, answer

    def _context(self) -> Any:
        if self._tls is None:
            import ssl

            cafile, certfile, keyfile = self._files
            try:
                context = ssl.create_default_context(cafile=cafile)
                if certfile:
                    context.load_cert_chain(certfile, keyfile)
            except OSError as error:
                raise ConfigurationError("kafka_schema_registry_cafile, _certfile, _keyfile: "
                                         f"{error}") from None
            self._tls = context
        return self._tls

    # --- without blocking ---

    def shared(self, mark: Any, work: Callable[[], _T]) -> Future[_T]:
        """Run ``work`` in a thread; whoever asks for the same mark meanwhile shares it."""
        with self._lock:
            flight = self._flights.get(mark)
            if flight is None:
                flight = self._flights[mark] = Future()
                flight.set_running_or_notify_cancel()
                threading.Thread(target=self._fly, args=(mark, flight, work),
                                 name="salvo-schemas", daemon=True).start()
            return flight

    def _fly(self, mark: Any, flight: Future[Any], work: Callable[[], Any]) -> None:
        try:
            result = work()
        except BaseException as error:
            self._flights.pop(mark, None)
            flight.set_exception(error)
        else:
            self._flights.pop(mark, None)
            flight.set_result(result)

    async def wait(self, mark: Any, work: Callable[[], _T]) -> _T:
        """``shared()`` for event loops. Cancelled, the request goes on for the others."""
        waiting = asyncio.wrap_future(self.shared(mark, work))
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(waiting)

    def __repr__(self) -> str:
        return f"<SchemaRegistry {', '.join(address.shown for address in self._addresses)}>"


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _keep(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE_MAX:
        cache.clear()
    cache[key] = value


def _judged(address: _Address, status: int, answer: bytes) -> Any:
    """The answer as JSON; RegistryError for anything but success."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if 200 <= status < 300:
        if value is None:
            raise RegistryError(f"{address.shown}: no Schema Registry: its answer is no JSON",
                                status)
        return value
    words = value.get("message") if isinstance(value, dict) else None
    code = value.get("error_code") if isinstance(value, dict) else None
    if status in (401, 403):
        words = ("it refuses the credentials; see kafka_schema_registry_user and "
                 "kafka_schema_registry_password")
    raise RegistryError(f"{address.shown}: {str(words or 'refused')[:2000]} (status {status})",
                        status, code if isinstance(code, int) else 0)


def _after_fork_in_child() -> None:
    """The threads of the parent's requests are not here: whoever waits would wait for ever."""
    for client in list(_clients):
        client._lock = threading.Lock()
        client._flights = {}


os.register_at_fork(after_in_child=_after_fork_in_child)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Schema Registry for tests: the documented REST interface in memory, nothing but the standard
library. As a program it prints its address and ends on SIGTERM; ``Server`` is the same inside a
test. What it saw is counted, and it can be told to fail."""

from __future__ import annotations

import argparse
import base64
import json
import re
import signal
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent))
import rules  # noqa: E402

LEVELS = ("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL",
          "FULL_TRANSITIVE")
BODY_BYTES_MAX = 1 << 20


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def no_subject(subject: str) -> Refusal:
    return Refusal(404, 40401, f"Subject '{subject}' not found.")


class Store:
    """Subjects, versions, ids, levels."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}  # text: id
        self.subjects: dict[str, dict[int, str]] = {}  # name: {version: text}
        self.deleted: dict[str, dict[int, str]] = {}
        self.level = "BACKWARD"
        self.levels: dict[str, str] = {}
        self.others: dict[int, dict[str, Any]] = {}  # answers by id that a test put here
        self.lock = threading.Lock()

    @staticmethod
    def text_of(body: Any) -> str:
        """The schema of a request as one text for all spellings."""
        if not isinstance(body, dict) or not isinstance(body.get("schema"), str):
            raise Refusal(422, 42201, "Empty schema")
        try:
            rules.parse(body["schema"])
        except ValueError as error:
            raise Refusal(422, 42201, f"Invalid schema: {error}") from None
        return json.dumps(json.loads(body["schema"]), separators=(",", ":"))

    def versions(self, subject: str) -> dict[int, str]:
        """Raises 40401 where there are none."""
        found = self.subjects.get(subject)
        if not found:
            raise no_subject(subject)
        return found

    def version(self, subject: str, number: str) -> tuple[int, str]:
        """One version: a number, "latest" or "-1"."""
        found = self.versions(subject)
        if number in ("latest", "-1"):
            chosen = max(found)
        elif number.isdigit() and 0 < int(number) < 2**31:
            chosen = int(number)
        else:
            raise Refusal(422, 42202, f"The specified version '{number}' is not a valid version")
        if chosen not in found:
            raise Refusal(404, 40402, f"Version {chosen} not found.")
        return chosen, found[chosen]

    def register(self, subject: str, text: str) -> int:
        """The id; 409 where the level forbids the schema."""
        versions = self.subjects.setdefault(subject, {})
        if text not in versions.values():
            reasons = self.conflicts(subject, text, list(versions.values()))
            if reasons:
                raise Refusal(409, 409, "Schema being registered is incompatible with an earlier "
                              f'schema for subject "{subject}", details: {reasons}')
            number = max([0, *versions, *self.deleted.get(subject, {})]) + 1
            versions[number] = text
        return self.ids.setdefault(text, len(self.ids) + 1)

    def conflicts(self, subject: str, text: str, before: list[str]) -> list[str]:
        """Why the level forbids it."""
        level = self.levels.get(subject, self.level)
        if level == "NONE":
            return []
        new, found = rules.parse(text), []
        for other in before if level.endswith("_TRANSITIVE") else before[-1:]:
            old = rules.parse(other)
            if level.startswith(("BACKWARD", "FULL")):
                found += rules.problems(new, old)
            if level.startswith(("FORWARD", "FULL")):
                found += rules.problems(old, new)
        return found


Answer = Callable[["Handler", dict[str, str], Any], Any]
ROUTES: list[tuple[str, re.Pattern[str], Answer]] = []


def route(method: str, path: str) -> Callable[[Answer], Answer]:
    """A request that is answered; {name} is one part of a path."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + r"\Z")

    def add(answer: Answer) -> Answer:
        ROUTES.append((method, pattern, answer))
        return answer

    return add


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the test asks the server's list."""

    def _reply(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> Any:
        size = int(self.headers.get("Content-Length") or 0)
        if size > BODY_BYTES_MAX:
            raise Refusal(413, 41301, "The request is too large")
        data = self.rfile.read(size)
        try:
            return json.loads(data) if data else None
        except ValueError:
            raise Refusal(400, 40000, "The request is no JSON") from None

    def _answer(self) -> Any:
        path = urlsplit(self.path)
        self.query = parse_qs(path.query)
        body = self._body()
        self.server.requests.append(f"{self.command} {path.path}")
        expected = self.server.credentials
        if expected is not None:
            pair = base64.b64encode(":".join(expected).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {pair}":
                raise Refusal(401, 40101, "Unauthorized")
        if self.server.failing:
            raise Refusal(self.server.failing, 50001, "Error in the backend data store")
        for method, pattern, answer in ROUTES:
            match = pattern.match(path.path)
            if method == self.command and match:
                names = {name: unquote(part) for name, part in match.groupdict().items()}
                with self.server.store.lock:
                    return answer(self, names, body)
        raise Refusal(404, 404, "HTTP 404 Not Found")

    def _handle(self) -> None:
        try:
            status, value = 200, self._answer()
        except Refusal as refusal:
            status = refusal.status
            value = {"error_code": refusal.code, "message": refusal.message}
        self._reply(status, value)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815


@route("GET", "/")
def root(handler: Handler, names: dict[str, str], body: Any) -> Any:
    return {}


@route("GET", "/subjects")
def subjects(handler: Handler, names: dict[str, str], body: Any) -> Any:
    return sorted(name for name, found in handler.server.store.subjects.items() if found)


@route("GET", "/subjects/{subject}/versions")
def versions(handler: Handler, names: dict[str, str], body: Any) -> Any:
    return sorted(handler.server.store.versions(names["subject"]))


def shown(store: Store, subject: str, number: int, text: str) -> dict[str, Any]:
    return {"subject": subject, "version": number, "id": store.ids[text], "schema": text}


@route("GET", "/subjects/{subject}/versions/{version}")
def version(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    return shown(store, names["subject"], *store.version(names["subject"], names["version"]))


@route("GET", "/subjects/{subject}/versions/{version}/schema")
def version_schema(handler: Handler, names: dict[str, str], body: Any) -> Any:
    return json.loads(handler.server.store.version(names["subject"], names["version"])[1])


@route("POST", "/subjects/{subject}/versions")
def register(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    return {"id": store.register(names["subject"], store.text_of(body))}


@route("POST", "/subjects/{subject}")
def lookup(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    text = store.text_of(body)
    for number, known in store.versions(names["subject"]).items():
        if known == text:
            return shown(store, names["subject"], number, text)
    raise Refusal(404, 40403, "Schema not found")


@route("DELETE", "/subjects/{subject}")
def delete(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    found = dict(store.versions(names["subject"]))
    store.deleted.setdefault(names["subject"], {}).update(found)
    store.subjects[names["subject"]].clear()
    return sorted(found)


@route("DELETE", "/subjects/{subject}/versions/{version}")
def delete_version(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    number, text = store.version(names["subject"], names["version"])
    store.deleted.setdefault(names["subject"], {})[number] = text
    del store.subjects[names["subject"]][number]
    return number


@route("GET", "/schemas/ids/{id}")
def by_id(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    number = int(names["id"]) if names["id"].isdigit() else -1
    if number in store.others:
        return store.others[number]
    for text, known in store.ids.items():
        if known == number:
            return {"schema": text}
    raise Refusal(404, 40403, f"Schema {names['id']} not found")


@route("GET", "/schemas/types")
def types(handler: Handler, names: dict[str, str], body: Any) -> Any:
    return ["AVRO"]


@route("POST", "/compatibility/subjects/{subject}/versions/{version}")
def compatible(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    _, old = store.version(names["subject"], names["version"])
    found = store.conflicts(names["subject"], store.text_of(body), [old])
    answer: dict[str, Any] = {"is_compatible": not found}
    if handler.query.get("verbose") == ["true"]:
        answer["messages"] = found
    return answer


@route("GET", "/config")
def get_level(handler: Handler, names: dict[str, str], body: Any) -> Any:
    return {"compatibilityLevel": handler.server.store.level}


@route("GET", "/config/{subject}")
def get_subject_level(handler: Handler, names: dict[str, str], body: Any) -> Any:
    store = handler.server.store
    found = store.levels.get(names["subject"])
    if found is None and handler.query.get("defaultToGlobal") != ["true"]:
        raise Refusal(404, 40408, f"Subject '{names['subject']}' does not have subject-level "
                      "compatibility configured")
    return {"compatibilityLevel": found or store.level}


def level_of(body: Any) -> str:
    found = body.get("compatibility") if isinstance(body, dict) else None
    if found not in LEVELS:
        raise Refusal(422, 42203, "Invalid compatibility level. Valid values are none, backward, "
                      "forward and full")
    return str(found)


@route("PUT", "/config")
def put_level(handler: Handler, names: dict[str, str], body: Any) -> Any:
    handler.server.store.level = level_of(body)
    return {"compatibility": handler.server.store.level}


@route("PUT", "/config/{subject}")
def put_subject_level(handler: Handler, names: dict[str, str], body: Any) -> Any:
    handler.server.store.levels[names["subject"]] = level_of(body)
    return {"compatibility": handler.server.store.levels[names["subject"]]}


class Server(ThreadingHTTPServer):
    """``with Server() as registry: registry.url``"""

    daemon_threads = True

    def __init__(self, port: int = 0, credentials: tuple[str, str] | None = None,
                 certfile: str | None = None, keyfile: str | None = None,
                 store: Store | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store = store or Store()
        self.credentials = credentials
        self.requests: list[str] = []  # what was asked: "GET /subjects"
        self.failing = 0  # a status for every request
        scheme = "http"
        if certfile is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certfile, keyfile)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or whose TLS was refused, is no trouble of the server's."""

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--certfile")
    parser.add_argument("--keyfile")
    options = parser.parse_args()
    credentials = (options.user, options.password) if options.user is not None else None
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with Server(options.port, credentials, options.certfile, options.keyfile) as server:
        print(server.url, flush=True)
        done.wait()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The example of two services: in one process on memory, in two on the brokers that are there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "two-services"
VARIABLES = {"kafka": "KAFKA_BOOTSTRAP_SERVERS", "redis": "REDIS_URL", "rabbitmq": "RABBITMQ_URL"}


def free_port() -> int:
    """A port that was free a moment ago, and the next one, too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def environment(broker: str) -> dict[str, str]:
    found = {key: value for key, value in os.environ.items() if key not in VARIABLES.values()}
    if broker != "memory":
        address = os.environ.get(f"SALVO_TEST_{broker.upper()}")
        if not address:
            pytest.skip(f"SALVO_TEST_{broker.upper()} names none")
        found[VARIABLES[broker]] = address
    return found


@pytest.mark.parametrize("broker", ["memory", "kafka", "redis", "rabbitmq"])
def test_one_command_runs_both(broker: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", str(EXAMPLE), "--broker", broker, "--port", str(free_port())],
        env=environment(broker), cwd=tmp_path, text=True, capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr
    count = "1 process\n" if broker == "memory" else "2 processes\n"
    assert done.stdout.startswith(f"broker {broker}, {count}")
    user, order, completed = map(json.loads, re.findall(r"^  (\{.*\})$", done.stdout, re.M))
    assert set(user) == {"id", "email"}
    assert order == {"id": f"welcome-{user['id']}", "user_id": user["id"], "status": "new"}
    assert completed == {"id": order["id"], "status": "completed"}
    assert "Traceback" not in done.stderr and "not delivered" not in done.stderr


def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-B", str(EXAMPLE), "--serve", "--port", str(port)],
        env=environment("memory"), cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(f"POST http://127.0.0.1:{port}/orders/"):
            assert process.poll() is None
        base = f"http://127.0.0.1:{port}"
        user = ask(f"{base}/users/register", {"email": "bob@example.com", "password": "x"})
        deadline = time.monotonic() + 30
        while not any(o["user_id"] == user["id"] for o in ask(f"{base}/orders")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        made = ask(f"{base}/orders", {"user_id": user["id"]})
        assert made["status"] == "new"
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors, errors


def ask(url: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
        return json.load(answer)

# SPDX-License-Identifier: Apache-2.0
"""The tracking example: served, loaded by a real HTTP client, and flushed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tracking"
KAFKA = os.environ.get("SALVO_TEST_KAFKA", "")


@pytest.mark.parametrize("broker", ["memory", "kafka"])
def test_the_load_test_prints_both(broker: str, tmp_path: Path) -> None:
    environment = dict(os.environ)
    if broker == "kafka":
        if not KAFKA:
            pytest.skip("SALVO_TEST_KAFKA names no Kafka")
        environment["KAFKA_BOOTSTRAP_SERVERS"] = KAFKA
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "load.py"), "--requests", "10", "--rounds", "2"],
        text=True, capture_output=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    for name in ("without publishing", "with publishing"):
        assert re.search(rf"  {name} +p50 +[\d.]+ ms +p99 +[\d.]+ ms\n", done.stdout), done.stdout
    assert re.search(r"publishing adds +p50 +-?[\d.]+ ms", done.stdout)
    assert f"broker {broker}: 20 requests of 2,000 events" in done.stdout
    events = done.stdout.partition("events: ")[2]
    assert re.findall(r"(\d[\d,]*) (\w+)", events) == [
        ("80,000", "offered"), ("20", "requests"), ("80,000", "accepted"),
        ("80,000", "acknowledged"), ("0", "pending")]


def test_one_command_serves_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """With nothing in the environment: the memory broker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-B", str(EXAMPLE), "--port", str(port)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env={})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "broker memory" in line
        url = re.findall(r"POST (http\S+track),", line)[0]
        transport = httpx.HTTPTransport(retries=8)  # until it listens
        with httpx.Client(transport=transport) as client:
            answer = client.post(url, json={"events": [{"page": "/"}, {"page": "/about"}]})
            assert answer.json() == {"queued": 2}
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors and "not delivered" not in errors


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-B", str(EXAMPLE)], text=True, capture_output=True,
                          timeout=60, cwd=tmp_path, env={"MESSAGE_BROKER": "kafak"})
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "kafak" in done.stderr


def test_what_the_endpoint_says_to_bad_bodies() -> None:
    sys.path.insert(0, str(EXAMPLE))
    try:
        from app import app
        from fastapi.testclient import TestClient
    finally:
        sys.path.remove(str(EXAMPLE))
    with TestClient(app) as client:
        answer = client.post("/tracking/track", json={"events": [{"n": 1}, {"n": 2}]})
        assert answer.json() == {"queued": 2}
        assert client.post("/tracking/track", content=b"{").status_code == 422
        assert client.post("/tracking/track", json={"events": [1]}).status_code == 422
        large = client.post("/tracking/track", json={"events": [{"n": 3}, {"n": "4" * 2_000_000}]})
        assert large.status_code == 413 and "item 1" in large.text
        assert client.get("/tracking/ledger").json()["accepted"] == 2

# SPDX-License-Identifier: Apache-2.0
"""The tracking example: served, loaded by a real HTTP client, and flushed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
    assert len(re.findall(r"p50 +[\d.]+ ms +p99 +[\d.]+ ms", done.stdout)) == 2
    counts = re.search(r"accepted (\d+), .* offered (\d+)", done.stdout)
    assert counts is not None and counts.group(1) == counts.group(2) == str((20 + 2 * 10) * 1000)


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
        assert client.get("/tracking/ledger").json()["accepted"] == 2

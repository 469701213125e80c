# SPDX-License-Identifier: Apache-2.0
"""python examples/tracking/load.py: a load test with a real HTTP client.

Starts the example twice, answering with and without publishing, sends to both in turns, and prints
p50 and p99 of a request for each. The broker is the memory broker unless the environment names
another (KAFKA_BOOTSTRAP_SERVERS=host:9092).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(publish: bool) -> tuple[subprocess.Popen[bytes], str]:
    """The example in a process of its own, and its address."""
    port = free_port()
    environment = {**os.environ, "TRACKING_PUBLISH": "1" if publish else "0"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent), "--port", str(port)], env=environment)
    return process, f"http://127.0.0.1:{port}"


async def wait_until_up(client: httpx.AsyncClient, url: str) -> None:
    """Until it answers, or 30 s."""
    for _ in range(300):
        try:
            await client.get(f"{url}/tracking/ledger")
            return
        except httpx.TransportError:
            await asyncio.sleep(0.1)
    sys.exit(f"{url} did not come up")


async def requests(client: httpx.AsyncClient, url: str, body: bytes, count: int,
                   at_once: int) -> list[float]:
    """Milliseconds of each of ``count`` requests, ``at_once`` at one time."""
    times: list[float] = []
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            began = time.perf_counter()
            answer = await client.post(f"{url}/tracking/track", content=body)
            answer.raise_for_status()
            times.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return times


async def compare(options: argparse.Namespace, urls: dict[str, str]) -> None:
    """Rounds in turns, so that both meet the same machine."""
    events = [{"id": i, "user": f"user-{i % 1000}", "action": "click", "page": f"/p/{i % 100}",
               "ts": 1700000000 + i} for i in range(options.events)]
    body = msgspec.json.encode({"events": events})
    times: dict[str, list[float]] = {name: [] for name in urls}
    async with httpx.AsyncClient(timeout=60) as client:
        for url in urls.values():
            await wait_until_up(client, url)
            await requests(client, url, body, 20, options.at_once)
        for _ in range(options.rounds):
            for name, url in urls.items():
                times[name] += await requests(client, url, body, options.requests,
                                              options.at_once)
        counts = (await client.get(f"{urls['with publishing']}/tracking/ledger")).json()
    for name, each in times.items():
        cut = statistics.quantiles(each, n=100)
        print(f"{name:20} p50 {cut[49]:8.2f} ms   p99 {cut[98]:8.2f} ms   "
              f"({len(each)} requests of {options.events} events)")
    print(f"accepted {counts['accepted']}, acknowledged {counts['acknowledged']}, "
          f"pending {counts['pending']}, offered {counts['offered']}")


def main() -> None:
    """Start both, compare, end both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1000, help="events a request")
    parser.add_argument("--requests", type=int, default=100, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=4, help="requests at one time")
    options = parser.parse_args()
    started = {"without publishing": start(False), "with publishing": start(True)}
    try:
        asyncio.run(compare(options, {name: url for name, (_, url) in started.items()}))
    finally:
        for process, _ in started.values():
            process.terminate()
        for process, _ in started.values():
            process.wait(60)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""python examples/tracking/load.py: a load test with a real HTTP client.

Starts the example twice, answering with and without publishing, sends to both in turns, and prints
p50 and p99 of a request for each, what publishing adds, and what became of the events. The broker
is the memory broker unless the environment names another (KAFKA_BOOTSTRAP_SERVERS=host:9092).
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

try:
    import fastapi  # noqa: F401  (the servers need these two)
    import httpx
    import msgspec
    import uvicorn  # noqa: F401
    from broker import chosen_broker
except ImportError as error:
    sys.exit(f"{error}; the example needs, from the clone: "
             "pip install ./bindings/python fastapi uvicorn httpx")


WITHOUT, WITH = "without publishing", "with publishing"
WARM_UP = 20  # requests to each before anything is measured
Server = tuple["subprocess.Popen[bytes]", str]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(publish: bool) -> Server:
    """The example in a process of its own, and its address."""
    port = free_port()
    environment = {**os.environ, "TRACKING_PUBLISH": "1" if publish else "0"}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent), "--quiet", "--port", str(port)],
        env=environment)
    return process, f"http://127.0.0.1:{port}"


async def wait_until_up(client: httpx.AsyncClient, server: Server) -> None:
    """Until it answers, or 30 s, or it has ended."""
    for _ in range(300):
        try:
            await client.get(f"{server[1]}/tracking/ledger")
            return
        except httpx.TransportError:
            if server[0].poll() is not None:
                break
            await asyncio.sleep(0.1)
    sys.exit(f"the server at {server[1]} did not come up; its reason is above")


async def outcome(client: httpx.AsyncClient, url: str) -> dict[str, int]:
    """The ledger once nothing is pending, or as it is after 30 s."""
    for _ in range(300):
        counts: dict[str, int] = (await client.get(f"{url}/tracking/ledger")).json()
        if counts["pending"] == 0:
            break
        await asyncio.sleep(0.1)
    return counts


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


def report(options: argparse.Namespace, times: dict[str, list[float]]) -> None:
    """The two rows, and the difference."""
    print(f"\nPOST /tracking/track, broker {chosen_broker()}: {options.requests * options.rounds} "
          f"requests of {options.events:,} events each way, {options.at_once} at one time")
    middle = {}
    for name, each in times.items():
        cut = statistics.quantiles(each, n=100, method="inclusive")
        middle[name] = cut[49]
        print(f"  {name:20} p50 {cut[49]:8.2f} ms   p99 {cut[98]:8.2f} ms")
    added = middle[WITH] - middle[WITHOUT]
    print(f"  publishing adds      p50 {added:8.2f} ms")


async def compare(options: argparse.Namespace, servers: dict[str, Server]) -> None:
    """Rounds in turns, so that both meet the same machine."""
    urls = {name: url for name, (_, url) in servers.items()}
    events = [{"id": i, "user": f"user-{i % 1000}", "action": "click", "page": f"/p/{i % 100}",
               "ts": 1700000000 + i} for i in range(options.events)]
    body = msgspec.json.encode({"events": events})
    times: dict[str, list[float]] = {name: [] for name in urls}
    async with httpx.AsyncClient(timeout=60) as client:
        for name, url in urls.items():
            await wait_until_up(client, servers[name])
            await requests(client, url, body, WARM_UP, options.at_once)
        for _ in range(options.rounds):
            for name, url in urls.items():
                times[name] += await requests(client, url, body, options.requests,
                                              options.at_once)
        counts = await outcome(client, urls[WITH])
    report(options, times)
    print(f"  events: {counts['offered']:,} offered ({WARM_UP} requests to warm up among them), "
          f"{counts['accepted']:,} accepted,\n          {counts['acknowledged']:,} acknowledged by "
          f"the broker, {counts['pending']:,} pending")


def main() -> None:
    """Start both, compare, end both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2000, help="events a request")
    parser.add_argument("--requests", type=int, default=100, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=4, help="requests at one time")
    options = parser.parse_args()
    if min(options.events, options.rounds, options.at_once) < 1 or options.requests < 2:
        parser.error("at least 1 event, 1 round, 1 at one time, and 2 requests are needed")
    print(f"starting the example twice, with and without publishing; broker {chosen_broker()}")
    started = {WITHOUT: start(False), WITH: start(True)}
    try:
        asyncio.run(compare(options, started))
    except httpx.HTTPStatusError as error:
        sys.exit(f"the server answered {error.response.status_code}: {error.response.text}")
    finally:
        for process, _ in started.values():
            process.terminate()
        for process, _ in started.values():
            process.wait(60)


if __name__ == "__main__":
    main()

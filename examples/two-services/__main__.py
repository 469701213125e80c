# SPDX-License-Identifier: Apache-2.0
"""Two services that talk by messages: python examples/two-services [--broker kafka] [--serve].

With the memory broker both run in one process; with a server each runs in its own. Either way a
user registers by HTTP with the one, the other hears of it and makes an order, which is completed by
HTTP. Then both are stopped, or with --serve they go on until Ctrl-C. Where the server is:
KAFKA_BOOTSTRAP_SERVERS, REDIS_URL, RABBITMQ_URL, else on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
    from core.messaging import configure_messaging  # noqa: F401
except ImportError as error:
    sys.exit(f"{error}; the example needs, from the clone: "
             "pip install ./bindings/python './bindings/core[app]'")


def ask(method: str, url: str, body: Any = None) -> Any:
    """The JSON that a service answers."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"content-type": "application/json"},
                                     method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def until(what: str, look: Any, seconds: float = 60.0) -> Any:
    """What ``look()`` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = look()
        except urllib.error.HTTPError as error:
            sys.exit(f"{what}: {error.code} {error.read().decode('utf-8', 'replace')}")
        except (urllib.error.URLError, ConnectionError):
            found = None
        if found:
            return found
        time.sleep(0.02)
    sys.exit(f"{what}: nothing in {seconds:g} s")


class Services:
    """The processes: one, or one for each service."""

    def __init__(self, broker: str, port: int) -> None:
        apps = {"both:app": port} if broker == "memory" else {"users:app": port,
                                                               "orders:app": port + 1}
        self.users = f"http://127.0.0.1:{port}/users"
        self.orders = f"http://127.0.0.1:{max(apps.values())}/orders"
        environment = {**os.environ, "MESSAGE_BROKER": broker}
        self.processes = [subprocess.Popen(
            [sys.executable, "-m", "uvicorn", app, "--app-dir", str(HERE), "--port", str(number),
             "--log-level", "warning"], env=environment,
            start_new_session=True)  # Ctrl-C comes here; it must not reach them twice
            for app, number in apps.items()]

    def wait_until_up(self) -> None:
        """Until both answer; ends where one of them has."""
        for url in (self.users, self.orders):
            until(f"GET {url}", lambda url=url: self._is_up(url))

    def _is_up(self, url: str) -> bool:
        if any(process.poll() is not None for process in self.processes):
            sys.exit("a service has ended; its reason is above")
        ask("GET", url)
        return True

    def stop(self) -> int:
        """Ask all to end, wait, and return the worst status."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        return max(abs(process.wait(60)) for process in self.processes)


def story(services: Services) -> None:
    """A registration here, an order there."""
    began = time.monotonic()
    user = ask("POST", f"{services.users}/register",
               {"email": "ann@example.com", "password": "correct horse"})
    print(f"POST {services.users}/register\n  {json.dumps(user)}", flush=True)
    order = until("the welcome order", lambda: next(
        (each for each in ask("GET", services.orders) if each["user_id"] == user["id"]), None))
    print(f"GET {services.orders}, {time.monotonic() - began:.2f} s later\n  {json.dumps(order)}")
    done = ask("POST", f"{services.orders}/{order['id']}/complete")
    print(f"POST {services.orders}/{order['id']}/complete\n  {json.dumps(done)}", flush=True)


def main() -> None:
    """Start, tell the story, serve or stop."""
    parser = argparse.ArgumentParser(prog="python examples/two-services", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="memory",
                        choices=["memory", "kafka", "redis", "rabbitmq"])
    parser.add_argument("--port", type=int, default=8000,
                        help="of the user service; the order service has the next (default 8000)")
    parser.add_argument("--serve", action="store_true", help="go on until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    services = Services(options.broker, options.port)
    count = len(services.processes)
    print(f"broker {options.broker}, {count} process{'es' if count > 1 else ''}", flush=True)
    try:
        services.wait_until_up()
        story(services)
        while options.serve:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        status = services.stop()
    sys.exit(status if not options.serve else 0)


if __name__ == "__main__":
    main()

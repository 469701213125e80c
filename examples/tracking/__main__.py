# SPDX-License-Identifier: Apache-2.0
"""python examples/tracking [--port N]: serve the tracking endpoint, with the memory broker unless
the environment, .env or core.toml names another (KAFKA_BOOTSTRAP_SERVERS=host:9092 is enough)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
try:
    import fastapi  # noqa: F401  (app.py needs it)
    import salvo.messaging  # noqa: F401
    import uvicorn
except ImportError as error:
    sys.exit(f"{error}; the example needs, from the clone: "
             "pip install ./bindings/python fastapi uvicorn httpx")

from broker import chosen_broker


def main() -> None:
    """Serve until interrupted; the lifespan flushes at the end."""
    parser = argparse.ArgumentParser(prog="python examples/tracking", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--quiet", action="store_true", help="do not say what is served")
    options = parser.parse_args()
    broker = chosen_broker()
    if not options.quiet:
        print(f"POST http://127.0.0.1:{options.port}/tracking/track, broker {broker}; what became "
              "of the events: GET /tracking/ledger; Ctrl-C ends", flush=True)
    uvicorn.run("app:app", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()

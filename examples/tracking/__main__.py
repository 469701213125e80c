# SPDX-License-Identifier: Apache-2.0
"""python examples/tracking [--port N]: serve the tracking endpoint, with the memory broker unless
the environment names another (KAFKA_BOOTSTRAP_SERVERS=host:9092 is enough)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

BROKERS = ("MESSAGE_BROKER", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "RABBITMQ_URL")


def main() -> None:
    """Serve until interrupted; the lifespan flushes at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if not any(name in os.environ for name in BROKERS):
        os.environ["MESSAGE_BROKER"] = "memory"
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import uvicorn
    except ImportError:
        sys.exit("the example needs: pip install fastapi uvicorn httpx")
    uvicorn.run("app:app", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()

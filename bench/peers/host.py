# SPDX-License-Identifier: Apache-2.0
"""What the host did while a peer played, as `salvo bench` tells it of its own runs.

Hiccups: how much longer than told sleeps of 1 ms last, in this process. Steal: the share of the
processors that the host above a virtual machine took. Both are of the measured part.
"""

from __future__ import annotations

import array
import threading
import time
from pathlib import Path

NAP_NS = 1_000_000


def _jiffies() -> tuple[int, int]:
    """Stolen, and all, so far."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (fields[7] if len(fields) > 7 else 0), sum(fields)


class Host:
    """Watches from `start` on, `warmup_s` later in earnest, until `stop`."""

    def __init__(self) -> None:
        self.hiccups = array.array("q")
        self.steal_percent = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, warmup_s: float) -> None:
        """A thread of its own: 1,000 wake-ups a second, as `salvo bench` has them."""
        self._thread = threading.Thread(target=self._watch, args=(warmup_s,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Before it was started: nothing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, warmup_s: float) -> None:
        if self._ended.wait(warmup_s):
            return
        stolen, total = _jiffies()
        while not self._ended.is_set():
            due = time.monotonic_ns() + NAP_NS
            time.sleep(NAP_NS / 1e9)
            self.hiccups.append(max(0, time.monotonic_ns() - due))
        stolen_now, total_now = _jiffies()
        if total_now > total:
            self.steal_percent = 100 * (stolen_now - stolen) / (total_now - total)

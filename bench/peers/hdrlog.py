# SPDX-License-Identifier: Apache-2.0
"""A peer's histograms as a log of HdrHistogram, version 1.3, as `salvo bench --hdr` writes them.

One tag a column; `acknowledged` has an interval a second, the others one for the measured part.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'


def line(tag: str, start_s: float, length_s: float, encoded: str) -> list[str]:
    """One interval; none where nothing was recorded."""
    histogram = HdrHistogram.decode(encoded)
    if not histogram.get_total_count():
        return []
    most_ms = histogram.get_max_value() / 1e6
    return [f"Tag={tag},{start_s:.3f},{length_s:.3f},{most_ms:.3f},{encoded}"]


def write(path: Path, started: float, warmup_s: float, summary: dict[str, Any]) -> None:
    """started: Unix time; summary: the peer's (docs/formats.md)."""
    when = datetime.fromtimestamp(started, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
    lines = ["#[Histogram log format version 1.3]",
             f"#[StartTime: {started:.3f} (seconds since epoch), {when}]", LEGEND]
    seconds = summary["over_time"]
    for tag, name in (("call", "call"), ("accepted", "accepted_hdr"), ("lateness", "lateness")):
        lines += line(tag, warmup_s, len(seconds), summary[name])
    for at_s, second in enumerate(seconds):
        lines += line("acknowledged", warmup_s + at_s, 1, second["hdr"])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

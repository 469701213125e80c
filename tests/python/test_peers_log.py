# SPDX-License-Identifier: Apache-2.0
"""The HdrHistogram logs of script/bench peers, read back with PyPI's reader: every value of every
column is there, in its second."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

sys.path.insert(0, str(Path(__file__).parents[2] / "bench/peers"))
import hdrlog  # noqa: E402

HOUR_NS = 3_600_000_000_000


def encoded(*values: int) -> str:
    histogram = HdrHistogram(1, HOUR_NS, 3)
    for value in values:
        histogram.record_value(value)
    return str(histogram.encode().decode())


def test_every_interval_is_read_back(tmp_path: Path) -> None:
    seconds: list[dict[str, Any]] = [{"hdr": encoded(1000, 2000)}, {"hdr": encoded()},
                                     {"hdr": encoded(7_000_000)}]
    summary = {"over_time": seconds, "call": encoded(100, 200, 300),
               "accepted_hdr": encoded(500), "lateness": encoded(1, 2)}
    path = tmp_path / "peer.hlog"
    hdrlog.write(path, 1_700_000_000.25, 2.0, summary)
    reader = HistogramLogReader(str(path), HdrHistogram(1, HOUR_NS, 3))
    got = []
    while (histogram := reader.get_next_interval_histogram()) is not None:
        start_s = histogram.get_start_time_stamp() / 1000 - 1_700_000_000.25
        got.append((histogram.get_tag(), round(start_s, 3), histogram.get_total_count(),
                    histogram.get_max_value() // 1000))
    assert got == [("call", 2.0, 3, 0), ("accepted", 2.0, 1, 0), ("lateness", 2.0, 2, 0),
                   ("acknowledged", 2.0, 2, 2), ("acknowledged", 4.0, 1, 7000)]
    lines = path.read_text().splitlines()
    assert lines[3].split(",")[:4] == ["Tag=call", "2.000", "3.000", "0.000"]
    assert lines[6].split(",")[2:4] == ["1.000", "0.002"]

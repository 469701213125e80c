# SPDX-License-Identifier: Apache-2.0
"""script/bench plan's verdict: every goal that is missed, or that no point speaks for, is named;
what was predicted never to come counts as infinitely wrong, not as unsaid."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import plan  # noqa: E402

LIMITS = {"kafka": [{"predicted_per_s": 1_100_000, "measured_per_s": 1_000_000}]}


def point(load: float, p50: float = 5e6, p99: float | None = 9e6,
          measured: tuple[float, ...] = (1e7, 1e7, 1.1e7)) -> dict[str, Any]:
    made = {"load": load, "predicted_p50_ns": p50, "predicted_p99_ns": p99, "naive_p99_ns": 5e6,
            "p50_ns": [5e6] * len(measured), "p99_ns": list(measured), "disturbed": 0,
            "invalid": 0}
    plan.judge(made)
    return made


def test_all_goals_met(capsys: pytest.CaptureFixture[str]) -> None:
    summary = plan.verdict(LIMITS, [point(0.5)] * 6 + [point(0.85)] * 2)
    assert summary["verdict"] == "met" and "goals met" in capsys.readouterr().out
    assert summary["throughput_error"] == 0.1 and summary["p50_error"] == 0
    assert summary["p99_error"] == 0.1 and summary["naive_error"] == 0.5


def test_no_point_at_85_is_a_goal_missed(capsys: pytest.CaptureFixture[str]) -> None:
    summary = plan.verdict(LIMITS, [point(0.5)] * 8)
    assert summary["verdict"] == "missed" and summary["p99_error_at_85"] is None
    assert "missed: p99_error_at_85 no point (goal 40%)" in capsys.readouterr().out


def test_never_is_infinitely_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    points = [point(0.5, p99=None)] * 5 + [point(0.5)] * 3 + [point(0.85)]
    summary = plan.verdict(LIMITS, points)
    assert summary["verdict"] == "missed" and summary["p99_error"] == math.inf
    told = capsys.readouterr().out
    assert "p99_error infinite" in told and "p99 off by infinite, the naive guess by 50%" in told
    assert plan.finite(summary)["p99_error"] is None


def test_few_points_that_repeat_give_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    wild = point(0.5, measured=(1e7, 2e7, 4e7))
    few = point(0.7, measured=(1e7, 1e7))
    assert not wild["resolved"] and not few["resolved"]
    summary = plan.verdict(LIMITS, [point(0.5)] * 7 + [wild, few])
    assert summary["verdict"] == "none" and summary["unresolved"] == 2
    assert "7 of 9 points are resolved" in capsys.readouterr().out
    assert plan.verdict(LIMITS, [wild])["p50_error"] is None

# SPDX-License-Identifier: Apache-2.0
"""Retry policies: schedules, bounds, mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from salvo.messaging import ConfigurationError
from salvo.messaging.retry import RetryPolicy

POLICIES = st.builds(
    RetryPolicy, st.integers(0, 10_000), st.sampled_from(["fixed", "linear", "exponential"]),
    st.just(0.0) | st.floats(1e-6, 1e6), st.floats(0, 1e6))


@given(POLICIES, st.integers(1, 100_000))
def test_delays_follow_the_table_and_are_bounded(policy: RetryPolicy, retry: int) -> None:
    d, most = policy.initial_delay, policy.max_delay
    delay = policy.delay(retry)
    assert 0 <= delay <= most
    wanted = {"fixed": d, "linear": d * retry,
              "exponential": d * 2 ** min(retry - 1, 500)}
    assert delay == min(wanted[policy.backoff], most)
    assert policy.delay(retry + 1) >= delay


@given(st.integers(0, 50), st.integers(1, 100))
def test_n_retries_are_n_plus_1_attempts(retries: int, attempts: int) -> None:
    policy = RetryPolicy(max_retries=retries)
    assert policy.again(attempts, ValueError()) == (attempts <= retries)
    assert not RetryPolicy(retries, retry_on=KeyError).again(attempts, ValueError())


def test_documented_schedules() -> None:
    def of(backoff: str) -> list[float]:
        return [RetryPolicy(backoff=backoff).delay(k) for k in range(1, 9)]

    assert of("fixed") == [1.0] * 8
    assert of("linear") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert of("exponential") == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("bad", [
    {"max_retries": -1}, {"max_retries": 1.5}, {"max_retries": True}, {"backoff": "quadratic"},
    {"initial_delay": -1}, {"max_delay": float("inf")}, {"initial_delay": "1s"},
    {"retry_on": "Exception"}, {"retry_on": (KeyboardInterrupt,)}])
def test_a_bad_policy_is_an_error_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy(**bad)

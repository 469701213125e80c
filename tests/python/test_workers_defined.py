# SPDX-License-Identifier: Apache-2.0
"""Defining workers: what is wrong is told where it is written, and the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from salvo.messaging import (
    ConfigurationError,
    RetryPolicy,
    Unsupported,
    Worker,
    get_all_workers,
    get_worker,
    run_worker,
    worker,
    workers,
)


@pytest.fixture(autouse=True)
def no_workers() -> Iterator[None]:
    workers.unregister_all()
    yield
    workers.unregister_all()



@pytest.mark.parametrize("options", [
    {}, {"topic": "a", "input_topic": "b"}, {"topic": []}, {"topic": "a", "concurrency": 0},
    {"topic": "a", "concurrency": "4"}, {"topic": "a", "batch_size": 0},
    {"topic": "a", "timeout": 0}, {"topic": "a", "max_retries": -1},
    {"topic": "a", "retry_backoff": "expo"}, {"topic": "a", "max_retry": 3},
    {"topic": "a", "process": print}])
def test_a_bad_worker_is_an_error_where_it_is_defined(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):

        @worker(**options)
        async def work(event: dict[str, Any]) -> None: ...

    assert get_all_workers() == {}


def test_names_of_options_are_suggested() -> None:
    with pytest.raises(ConfigurationError, match="did you mean max_retries"):
        worker(topic="a", max_retrys=3)


def test_the_registry() -> None:
    class Base(Worker):
        max_retries = 9

        async def process(self, event: Any) -> None: ...

    class Mine(Base):
        topic = "a"

    @worker(topic="b", name="other", group_id="g")
    async def function(event: Any) -> None: ...

    assert list(get_all_workers()) == ["Mine", "other"]
    assert (get_worker("Mine").group(), get_worker("other").group()) == ("Mine", "g")
    assert get_worker("Mine").policy().max_retries == 9
    with pytest.raises(ConfigurationError, match="registered: Mine, other"):
        get_worker("nobody")
    with pytest.raises(ConfigurationError, match="neither process nor process_batch"):
        type("Empty", (Worker,), {"topic": "a"})


def test_a_retry_policy_object_takes_the_place_of_its_parts() -> None:
    policy = RetryPolicy(7, "linear", 0.5, 2.0, KeyError)

    @worker(topic="a", retry_policy=policy)
    async def one(event: Any) -> None: ...

    assert get_worker("one").policy() is policy


def test_exactly_once_needs_kafka(run: Any) -> None:
    @worker(topic="a", exactly_once=True)
    async def once(event: Any) -> None: ...

    with pytest.raises(Unsupported, match="exactly_once needs Kafka.*memory"):
        run(run_worker("once"))

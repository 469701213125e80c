# SPDX-License-Identifier: Apache-2.0
"""The package's own page: its blocks run as printed, in order, in one process."""

from __future__ import annotations

import asyncio

import pages
import pytest
from salvo.messaging import stop_all_producers
from salvo.messaging.testing import records

PAGE = pages.REPOSITORY / "bindings" / "python" / "README.md"


def test_the_page_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [b for b in pages.blocks_of(PAGE, "README") if b.language == "python"]
    assert len(blocks) == 6

    async def go() -> None:
        for block in blocks:
            await pages.run(block, {"__name__": "readme"})
        (order,) = records("orders.created")
        assert order.json() == {"id": 7, "total": 0.0}
        assert [r.key for r in records("orders")] == [b"1", b"2", None]
        data = [r.json()["data"] for r in records("user-events")[1:]]
        assert data == [{"id": 1}, {"id": 2, "email": "a@example.com"}]
        assert [r.json() for r in records("audit")] == [{"text": "registered"}]
        await stop_all_producers()

    asyncio.run(go())
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("user-events 0 0 ") and printed[1] == "10000 2 0"
    assert printed[2].startswith("orders.created id ")

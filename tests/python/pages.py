# SPDX-License-Identifier: Apache-2.0
"""The code blocks of the documentation's pages, read from where they lie.

Nothing of the pages' text is in the project: a block is named by its page, its heading and its
number under that heading. SALVO_PAGES names the folder; without it ../shared/docs is tried.
"""

from __future__ import annotations

import ast
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("SALVO_PAGES") or REPOSITORY.parent / "shared" / "docs")


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is where it begins in its page."""

    page: str
    heading: str
    number: int
    language: str
    text: str
    line: int

    @property
    def name(self) -> str:
        return f"{self.page}:{self.heading}:{self.number}"


def blocks_of(path: Path, page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    heading, fence, language, start = "", False, "", 0
    numbers: dict[str, int] = {}
    lines: list[str] = []
    for line_number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.strip().startswith("```"):
            if not fence:
                fence, language, start, lines = True, line.strip()[3:], line_number, []
                continue
            fence = False
            number = numbers[heading] = numbers.get(heading, 0) + 1
            text = inspect.cleandoc("\n" + "\n".join(lines)) + "\n"
            found.append(Block(page, heading, number, language, text, start + 1))
        elif fence:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ").strip()
    return found


def all_blocks() -> list[Block]:
    """The blocks of all pages; empty where the pages are absent."""
    pages = sorted(FOLDER.glob("*.md")) if FOLDER.is_dir() else []
    return [block for page in pages for block in blocks_of(page, page.stem)]


def needed() -> dict[str, Block]:
    """The blocks of all pages by name; a test module without them is skipped."""
    blocks = {block.name: block for block in all_blocks()}
    if not blocks:
        pytest.skip(f"the documentation's pages are not in {FOLDER} (SALVO_PAGES names another "
                    "folder)", allow_module_level=True)
    return blocks


def compiled(block: Block) -> CodeType:
    """The printed lines, at their place in the page; with CO_COROUTINE where one awaits."""
    text = "\n" * (block.line - 1) + block.text
    code: CodeType = compile(text, f"{block.page}.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                             dont_inherit=True)
    return code


async def run(block: Block, names: dict[str, Any]) -> dict[str, Any]:
    """Run the printed lines, top-level await included; returns the names they leave."""
    names.setdefault("__name__", f"page_{block.page.replace('-', '_')}")
    outcome = eval(compiled(block), names)
    if inspect.iscoroutine(outcome):
        await outcome
    return names

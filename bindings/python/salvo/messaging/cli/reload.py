# SPDX-License-Identifier: Apache-2.0
"""``--reload``, for development: the command runs in a child process, which is stopped cleanly and
started again when a Python file, core.toml or .env below the current folder changes.

Files are looked at every half second by their times and sizes. A child that failed is started
again with the next change. Ctrl-C and SIGTERM reach the child and end both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salvo.messaging.cli import show

_PERIOD_S = 0.5
_IGNORED = {"__pycache__", "node_modules", "site-packages", "venv"}
Stamps = dict[str, tuple[int, int]]


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in _IGNORED and not f.startswith(".")]
        for file in files:
            if file.endswith(".py") or file in ("core.toml", ".env"):
                yield Path(where, file)


def stamps(folder: Path) -> Stamps:
    """What is watched, with time and size of each."""
    found: Stamps = {}
    for path in _files(folder):
        try:
            state = path.stat()
        except OSError:
            continue  # it has just gone
        found[str(path)] = (state.st_mtime_ns, state.st_size)
    return found


class _Child:
    """The command itself, in a process of its own."""

    def __init__(self, arguments: list[str], deadline: float) -> None:
        self._command = [sys.executable, "-m", "salvo.messaging.cli", *arguments]
        self._deadline = deadline
        self._process = subprocess.Popen(self._command)

    def ended(self) -> int | None:
        return self._process.poll()

    def stop(self, number: int) -> int:
        """Ask it to stop, wait for its deadline and a little more, end it; returns its status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            status = self._process.wait(self._deadline + 5)
        except subprocess.TimeoutExpired:
            show.note("the command did not stop in time and is killed")
            self._process.kill()
            status = self._process.wait()
        return status if status >= 0 else 128 - status


def _signalled(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def supervise(arguments: list[str], deadline: float) -> int:
    """Run ``core ARGUMENT...`` again after each change, until a signal; returns the status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _signalled)
    folder = Path.cwd()
    child = _Child(arguments, deadline)
    show.note(f"watching {folder} for changes")
    try:
        while True:
            child = _next(child, folder, arguments, deadline)
    except SystemExit as ending:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        status = int(str(ending.code))
        child.stop(signal.Signals(status - 128))
        return status


def _next(child: _Child, folder: Path, arguments: list[str], deadline: float) -> _Child:
    """Wait for a change, then a new child in place of this one."""
    before = stamps(folder)
    told = False
    while True:
        time.sleep(_PERIOD_S)
        after = stamps(folder)
        if after != before:
            changed = sorted(name for name in before.keys() | after.keys()
                             if before.get(name) != after.get(name))
            show.note(f"{os.path.relpath(changed[0], folder)} changed: starting again")
            child.stop(signal.SIGTERM)
            return _Child(arguments, deadline)
        if child.ended() is not None and not told:
            told = True
            show.note(f"the command ended with status {child.ended()}; waiting for a change")


def without_reload(arguments: list[str]) -> list[str]:
    """The command line of the child."""
    return [argument for argument in arguments if argument != "--reload"]

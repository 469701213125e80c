# SPDX-License-Identifier: Apache-2.0
"""The ``core`` command: consumers, workers, topics, dead letters and lag from a terminal.

Data goes to standard output, all else to standard error. Exit status: 0 it did what was asked,
1 it failed, 2 it was asked wrongly, 130 and 143 it was ended by Ctrl-C or SIGTERM and stopped
cleanly. It needs typer, the extra ``cli``; without it, it says how to install it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command with the arguments of the process."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit("core: the command needs typer, which is not installed: pip install "
                 "'salvo-core[cli]' (from a clone: pip install './bindings/core[cli]')")
    from salvo.messaging.cli.commands import run

    run()

# SPDX-License-Identifier: Apache-2.0
"""Finds another package named ``core``: beside this one, over it, or mixed into it.

Guarantees: a clear ImportError in place of half of one package and half of another. Not found: a
``core`` that comes first on the path; then this code never runs, and ``core.messaging`` is that
package's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_OURS = {"__init__.py", "_guard.py", "app.py", "viewsets.py", "py.typed", "messaging",
         "__pycache__"}
_ADVICE = ("uninstall one of them, or import salvo.messaging instead, which needs no package "
           "named core")


def _strangers_inside() -> str | None:
    names = sorted(entry.name for entry in _HERE.iterdir() if entry.name not in _OURS)
    return f"{_HERE} also holds {', '.join(names[:5])}" if names else None


def _another_distribution() -> str | None:
    """Another distribution of this folder that says it installed core/__init__.py."""
    for record in sorted(_HERE.parent.glob("*.dist-info/RECORD")):
        if record.parent.name.startswith("salvo_core-"):
            continue
        try:
            lines = record.read_text("utf-8", "replace")
        except OSError:
            continue
        if lines.startswith("core/__init__.py,") or "\ncore/__init__.py," in lines:
            return f"{record.parent.name.removesuffix('.dist-info')} installed one there, too"
    return None


def _another_place() -> str | None:
    for folder in sys.path:
        other = Path(folder or ".") / "core" / "__init__.py"
        try:
            if other.is_file() and other.resolve().parent != _HERE:
                if "SALVO_CORE" not in other.read_text("utf-8", "replace"):
                    return f"there is another in {other.parent}"
        except OSError:
            continue
    return None


def refuse_others() -> None:
    """ImportError if another ``core`` is in the way."""
    reason = _strangers_inside() or _another_distribution() or _another_place()
    if reason is not None:
        raise ImportError(f"salvo-core is not the only package named core: {reason}; {_ADVICE}")

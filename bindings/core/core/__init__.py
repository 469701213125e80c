# SPDX-License-Identifier: Apache-2.0
"""``core``: the alias of ``salvo``, and a small web layer (the extra ``app``, on Starlette).

It refuses to stand in for somebody else's ``core``. The web layer's names are imported at their
first use: without them nothing here needs Starlette.
"""

from typing import TYPE_CHECKING, Any

from core._guard import refuse_others

refuse_others()

from salvo.messaging import Settings, configure  # noqa: E402  (only once we know who we are)

if TYPE_CHECKING:
    from core.app import CoreApp as CoreApp
    from core.viewsets import ModelViewSet as ModelViewSet
    from core.viewsets import ViewSet as ViewSet
    from core.viewsets import action as action

SALVO_CORE = True  # core.messaging looks for it

_WEB = {"CoreApp": "core.app", "ModelViewSet": "core.viewsets", "ViewSet": "core.viewsets",
        "action": "core.viewsets"}

__all__ = ["Settings", "configure"]  # not the web layer's: a star import needs no Starlette


def __getattr__(name: str) -> Any:
    if name not in _WEB:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    import importlib
    import importlib.util

    if importlib.util.find_spec("starlette") is None:
        raise ImportError(f"core.{name} needs Starlette, which is not installed: pip install "
                          "'salvo-core[app]' (from a clone: pip install './bindings/core[app]')")
    value = getattr(importlib.import_module(_WEB[name]), name)
    globals()[name] = value
    return value

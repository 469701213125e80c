# SPDX-License-Identifier: Apache-2.0
"""``core``: the thin alias of ``salvo``. It refuses to stand in for somebody else's ``core``."""

from core._guard import refuse_others

refuse_others()

from salvo.messaging import Settings, configure  # noqa: E402  (only once we know who we are)

SALVO_CORE = True  # core.messaging looks for it

__all__ = ["Settings", "configure"]

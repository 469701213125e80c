# SPDX-License-Identifier: Apache-2.0
"""``core.messaging``: everything of ``salvo.messaging``."""

import core

if not getattr(core, "SALVO_CORE", False):
    raise ImportError(
        "core.messaging belongs to salvo-core, but another package has replaced its "
        f"{core.__file__}: uninstall one of them, or import salvo.messaging instead"
    )

from salvo.messaging import *  # noqa: E402, F403
from salvo.messaging import __all__ as __all__  # noqa: E402

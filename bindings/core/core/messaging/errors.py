# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.errors``: ``salvo.messaging.errors``."""

from salvo.messaging.errors import *  # noqa: F403

# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.base``: ``salvo.messaging.base``."""

from salvo.messaging.base import *  # noqa: F403

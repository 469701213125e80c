# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.redis``: ``salvo.messaging.redis``."""

from salvo.messaging.redis import *  # noqa: F403

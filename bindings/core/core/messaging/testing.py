# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.testing``: ``salvo.messaging.testing``."""

from salvo.messaging.testing import *  # noqa: F403

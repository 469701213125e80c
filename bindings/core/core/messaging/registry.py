# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.registry``: ``salvo.messaging.registry``."""

from salvo.messaging.registry import *  # noqa: F403

# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.schema_registry``: ``salvo.messaging.schema_registry``."""

from salvo.messaging.schema_registry import *  # noqa: F403

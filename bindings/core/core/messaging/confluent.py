# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.confluent``: ``salvo.messaging.confluent``."""

from salvo.messaging.confluent import *  # noqa: F403

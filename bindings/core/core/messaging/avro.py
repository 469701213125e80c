# SPDX-License-Identifier: Apache-2.0
"""``core.messaging.avro``: ``salvo.messaging.avro``."""

from salvo.messaging.avro import *  # noqa: F403

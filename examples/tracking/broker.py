# SPDX-License-Identifier: Apache-2.0
"""Which broker the example uses: the memory broker, unless a setting names one or its address."""

from __future__ import annotations

import os
import sys

from salvo.messaging import ConfigurationError, settings


def chosen_broker() -> str:
    """Its name; MESSAGE_BROKER=memory is put into the environment where nothing is set."""
    try:
        rows = {row[0]: row for row in settings.effective().entries()}
    except ConfigurationError as error:
        sys.exit(str(error))
    if rows["message_broker"][5] == "no broker's address is set":
        os.environ["MESSAGE_BROKER"] = "memory"
        return "memory"
    return str(rows["message_broker"][1])

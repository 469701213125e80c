# SPDX-License-Identifier: Apache-2.0
"""``python -m salvo.messaging.cli``: the ``core`` command where no script is installed."""

from salvo.messaging.cli import main

main()

# SPDX-License-Identifier: Apache-2.0
"""Salvo: messages through the C engine. What people import is ``salvo.messaging``."""

__version__ = "0.1.0"

# SPDX-License-Identifier: Apache-2.0
"""Values that are no JSON: of topics whose class says ``value_serializer = "avro"``.

Guarantees: bytes that cannot be decoded are a BadMessage; a Schema Registry that is away is waited
for, without blocking the loop, and nothing is given up because of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from salvo._engine import Message
from salvo.messaging.errors import BadMessage, RegistryError, SerializationError
from salvo.messaging.topics import get_all_topics

logger = logging.getLogger("salvo.messaging")

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two questions to the registry
_NOT_FOUND = 404


def avro_topics(topics: Iterable[str]) -> frozenset[str]:
    """Those of them whose class says that they hold Avro."""
    classes = get_all_topics()
    return frozenset(topic for topic in topics
                     if topic in classes and classes[topic].value_serializer == "avro")


class Decoded:
    """A message whose ``json()`` is what its Avro bytes hold; else it is as the message."""

    __slots__ = ("_data", "message")

    def __init__(self, message: Message, data: Any) -> None:
        self.message = message
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)

    def json(self) -> Any:
        """What was decoded."""
        return self._data


async def decoded(message: Message) -> Decoded:
    """Decode a message of an Avro topic, Confluent's wire format."""
    from salvo.messaging.avro_wire import decode_confluent_soon

    if message.value is None:
        return Decoded(message, None)
    pause = _FIRST_PAUSE
    while True:
        try:
            return Decoded(message, await decode_confluent_soon(message.value))
        except SerializationError as error:
            raise _bad(message, f"no Avro: {error.reason}") from None
        except RegistryError as error:
            if error.status == _NOT_FOUND:
                raise _bad(message, str(error)) from None
            logger.error("%s[%d]@%d cannot be decoded yet: %s; next question in %g s",
                         message.topic, message.partition, message.offset, error, pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _bad(message: Message, reason: str) -> BadMessage:
    return BadMessage(message.topic, message.partition, message.offset, "$", reason)

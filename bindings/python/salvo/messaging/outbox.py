# SPDX-License-Identifier: Apache-2.0
"""What is sent for messages: their outputs and their dead letters.

Guarantees: a message is acknowledged only after the broker has acknowledged what was sent for it.
What cannot be sent now is sent again, with growing pauses, until it can: meanwhile its message
stays unacknowledged, so commits of its partition stop there, and everything else goes on. What can
never be sent is told (``refused``). Waiting is done in bulk: no round trip per message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from salvo._engine import Message
from salvo.messaging.deadletter import Write
from salvo.messaging.delivery import Delivery
from salvo.messaging.producers import Producer
from salvo.messaging.retry import is_refused

logger = logging.getLogger("salvo.messaging")

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts to send again


class _Sent(NamedTuple):
    message: Message
    write: Write
    delivery: Delivery
    attempts: int


class Owner(Protocol):
    """The runner."""

    settle: Callable[[Any], None]
    held: Callable[[Any], bool]

    def flush(self) -> None: ...


Refused = Callable[[Any, Exception, int], Awaitable[None]]


class Outbox:
    """One row of things under way, in their order; outputs have one, dead letters another.

    ``refused(message, error, attempts)``: it can never be sent; None: such things are tried again
    like all others.
    """

    def __init__(self, name: str, producer: Producer, owner: Owner,
                 refused: Refused | None) -> None:
        self._name = name
        self._producer = producer
        self._owner = owner
        self._refused = refused
        self._sent: deque[_Sent] = deque()
        self._again: deque[tuple[Message, Write]] = deque()
        self._settling = False
        self._more = asyncio.Event()
        self._more_again = asyncio.Event()

    @property
    def blocked(self) -> int:
        """How many are tried again and again."""
        return len(self._again)

    async def put(self, message: Message, write: Write, attempts: int = 1) -> None:
        """Send it. Raises what can never be sent, if that is known at once."""
        try:
            delivery = (self._producer.post(write.topic, write.value, write.key, write.headers)
                        or await self._send(write))
        except Exception as error:
            if self._is_refused(error):
                raise
            self._hold(message, write, error)
        else:
            self._sent.append(_Sent(message, write, delivery, attempts))
            if len(self._sent) == 1:
                self._more.set()

    async def _send(self, write: Write) -> Delivery:
        return await self._producer.send(write.topic, write.value, key=write.key,
                                         headers=write.headers, wait=False)

    def _is_refused(self, error: Exception) -> bool:
        return self._refused is not None and is_refused(error)

    def _hold(self, message: Message, write: Write, error: Exception) -> None:
        logger.error("%s: not sent to %s: %s; %s[%d]@%d is not acknowledged, sending is tried "
                     "again", self._name, write.topic, error, message.topic, message.partition,
                     message.offset)
        self._again.append((message, write))
        self._more_again.set()

    async def settle_all(self) -> None:
        """Settle what the broker has acknowledged, for ever."""
        while True:
            while self._sent:
                self._settling = True
                if self._sent[0].delivery.status == 0:
                    self._owner.settle(self._sent.popleft().message)
                else:
                    await self._settle_first()
            self._settling = False
            self._owner.flush()
            self._more.clear()
            await self._more.wait()

    async def _settle_first(self) -> None:
        message, write, delivery, attempts = self._sent.popleft()
        try:
            await delivery
        except Exception as error:
            if self._refused is not None and is_refused(error):
                await self._refused(message, error, attempts)
            else:
                self._hold(message, write, error)
        else:
            self._owner.settle(message)

    async def insist(self) -> None:
        """Send what could not be sent again, one after the other, for ever."""
        pause = _FIRST_PAUSE
        while True:
            while self._again:
                await asyncio.sleep(pause)
                message, write = self._again[0]
                error = await self._try_again(message, write)
                if error is not None:
                    pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
                    logger.error("%s: still not sent to %s: %s; %d messages wait, next attempt in "
                                 "%g s", self._name, write.topic, error, len(self._again), pause)
                    continue
                pause = 0.0  # it works again: the others at once
                self._again.popleft()
            self._owner.flush()
            pause = _FIRST_PAUSE
            self._more_again.clear()
            await self._more_again.wait()

    async def _try_again(self, message: Message, write: Write) -> Exception | None:
        if not self._owner.held(message):  # another member has it, and sends its own
            return None
        try:
            await (await self._send(write))
        except Exception as error:
            return error
        self._owner.settle(message)
        return None

    async def drain(self, until: float) -> None:
        """Wait for the broker's answers, until a time of ``time.monotonic()``."""
        while (self._sent or self._settling) and time.monotonic() < until:
            await asyncio.sleep(0.005)

# SPDX-License-Identifier: Apache-2.0
"""Exactly once: outputs, dead letters and offsets of a batch in one transaction (Kafka).

What waits, waits outside: handlers run, and failed messages wait for their retries, before a
transaction begins. Messages and what is to be sent for them stand in a row per partition, in the
order of their offsets; a transaction takes from the front of each row what is done, and is open
only while that is sent and committed. A message that waits holds back the ones behind it in its
partition, whose results stay in memory, bounded by what may be in hand.

Guarantees: offsets are committed exactly up to the messages whose outputs are in the transaction.
A failed commit is aborted, and all that is in hand is read and handled again, from what is
committed. FatalError (fenced, beyond repair) ends the run; nothing of its transaction is seen. A
batch that the broker refuses is done again message by message, and the one that is refused by
itself goes to the dead letter topic, if there is one, or is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections import deque
from typing import Any

from salvo import _engine
from salvo.messaging import settings
from salvo.messaging.consuming import Source
from salvo.messaging.deadletter import Write
from salvo.messaging.errors import FatalError, MessageTooLarge, MessagingError, Rejected
from salvo.messaging.retry import is_refused

logger = logging.getLogger("salvo.messaging")

_BATCH_MAX = 5000  # messages of one transaction
_SEND_TIMEOUT, _COMMIT_TIMEOUT, _ABORT_TIMEOUT = 30.0, 30.0, 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds after an abort
_OVERHEAD = 64  # bytes that a message costs the broker beside its own, about

Place = tuple[str, int]  # topic and partition


class _Entry:
    """A message in its row, and what is to be sent for it."""

    __slots__ = ("done", "gone", "message", "writes")

    def __init__(self, message: Any) -> None:
        self.message = message
        self.writes: list[Write] = []
        self.done = False  # handled or given up
        self.gone = False  # it went to another member


class Transactions:
    """A runner's sink; see there."""

    def __init__(self, transaction: _engine.Transaction, source: Source, name: str,
                 max_bytes: int) -> None:
        self.committed = 0  # messages
        self.transactions = self.aborted = 0
        self._transaction = transaction
        self._source = source
        self._name = name
        self._max_bytes = max_bytes
        self._rows: dict[Place, deque[_Entry]] = {}
        self._entries: dict[int, _Entry] = {}
        self._refused: set[tuple[str, int, int]] = set()  # offsets that are given up when they come
        self._singly = 0  # messages that are committed one by one, after a refusal
        self._more = asyncio.Event()
        self._busy = False

    @classmethod
    async def open(cls, config: _engine.Config, source: Source, *, name: str, group: str,
                   id: str | None = None) -> Transactions:
        """A transactional producer of its own. ``id`` None: a fresh one. An id of one's own, one
        for each process, ends what a killed predecessor left open at once, rather than after
        Kafka's transaction timeout."""
        own = id or f"{group}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        transaction = await asyncio.to_thread(_engine.Transaction, config, own)
        return cls(transaction, source, name, settings.value_of(config, "max_message_bytes"))

    # --- what the runner tells ---

    def taken(self, messages: list[Any]) -> None:
        """These are in hand now, in order within a partition."""
        for message in messages:
            entry = _Entry(message)
            self._entries[message.id] = entry
            self._rows.setdefault((message.topic, message.partition), deque()).append(entry)

    def settle(self, message: Any) -> None:
        """It is done, and nothing (more) is to be sent for it."""
        entry = self._entries.get(message.id)
        if entry is not None:
            entry.done = True
            self._more.set()

    async def put(self, message: Any, write: Write, *, is_letter: bool = False) -> None:
        """It is done, with something to be sent. Raises what can never be sent; a dead letter that
        cannot be sent stays, and holds back its partition."""
        place = (message.topic, message.partition, message.offset)
        size = _bytes_of(write)
        if size > self._max_bytes:
            error = MessageTooLarge(f"topic {write.topic}: {size} bytes with headers; "
                                    f"max_message_bytes is {self._max_bytes}")
            if not is_letter:
                raise error
            logger.error("%s: the dead letter of %s[%d]@%d cannot be sent, and nothing behind it "
                         "is committed: %s", self._name, *place, error)
            return
        if not is_letter and place in self._refused:
            self._refused.discard(place)
            raise Rejected(f"topic {write.topic}: the broker refuses this message for good")
        entry = self._entries.get(message.id)
        if entry is not None:
            entry.writes.append(write)
            entry.done = True
            self._more.set()

    def drop(self, message: Any) -> None:
        """It went to another member."""
        entry = self._entries.pop(message.id, None)
        if entry is not None:
            entry.gone = True
            self._more.set()

    # --- committing ---

    async def run(self) -> None:
        """Commit what is done, for ever. FatalError ends it."""
        pause = 0.0
        while True:
            await self._more.wait()
            self._more.clear()
            while batch := self._next_batch():
                self._busy = True
                try:
                    await self._commit(batch)
                    pause = 0.0
                except FatalError:
                    raise
                except MessagingError as error:
                    pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
                    logger.warning("%s: a transaction of %d messages was aborted: %s; they are "
                                   "handled again", self._name, len(batch), error)
                    await self._start_over(batch, error)
                    await asyncio.sleep(pause)
                finally:
                    self._busy = False

    def _next_batch(self) -> list[_Entry]:
        """What is done at the front of each row; taken off. What went elsewhere is left out."""
        batch: list[_Entry] = []
        limit = 1 if self._singly else _BATCH_MAX
        for place in list(self._rows):
            row = self._rows[place]
            while row and len(batch) < limit:
                is_ours = not row[0].gone and self._source.held(row[0].message)
                if is_ours and not row[0].done:
                    break
                entry = row.popleft()
                self._entries.pop(entry.message.id, None)
                if is_ours:
                    batch.append(entry)
            if not row:
                del self._rows[place]
        self._singly = max(0, self._singly - len(batch))
        return batch

    async def _commit(self, batch: list[_Entry]) -> None:
        messages = [entry.message for entry in batch]
        writes = [write for entry in batch for write in entry.writes]
        work = asyncio.ensure_future(asyncio.to_thread(self._transact, messages, writes))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            with contextlib.suppress(MessagingError):  # it is committed, or never was
                await work
            raise
        self.transactions += 1
        self.committed += len(messages)

    def _transact(self, messages: list[Any], writes: list[Write]) -> None:
        """In a thread: all of it or nothing."""
        transaction = self._transaction
        transaction.begin()
        try:
            for write in writes:
                transaction.send(write.topic, write.value, write.key, write.headers, _SEND_TIMEOUT)
            transaction.commit(self._source.consumer, messages, _COMMIT_TIMEOUT)
        except FatalError:
            raise
        except MessagingError:
            self._abort()
            raise

    def _abort(self) -> None:
        try:
            self._transaction.abort(_ABORT_TIMEOUT)
        except FatalError:
            raise
        except MessagingError as error:
            raise FatalError(f"a transaction could not be aborted: {error}") from error

    async def _start_over(self, batch: list[_Entry], error: MessagingError) -> None:
        """After an abort: nothing of it was seen; read on from what is committed."""
        self.aborted += 1
        if is_refused(error):
            if len(batch) == 1:
                message = batch[0].message
                self._refused.add((message.topic, message.partition, message.offset))
            self._singly = len(batch)
        self._rows.clear()
        self._entries.clear()
        await self._source.rewind()

    def stats(self) -> dict[str, int]:
        """Messages whose offsets are committed; transactions that were committed and aborted."""
        return {"committed": self.committed, "transactions": self.transactions,
                "aborted": self.aborted}

    # --- the end ---

    async def drain(self, until: float) -> None:
        """Wait until all that is done is committed, up to a time of ``time.monotonic()``."""
        while (self._busy or self._more.is_set()) and time.monotonic() < until:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """What is open is aborted."""
        await asyncio.to_thread(self._transaction.close, 5.0)


def _bytes_of(write: Write) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in write.headers)
    return len(write.value or b"") + len(write.key or b"") + headers + _OVERHEAD

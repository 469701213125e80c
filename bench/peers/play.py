# SPDX-License-Identifier: Apache-2.0
"""What the peers of script/bench peers that are written in Python share (docs/peers.md).

The schedule, the pace, the measurement and the summary (docs/formats.md). Open loop: each message
has its intended time, and latencies count from it. While a load is played, latencies are kept as
plain numbers; the histograms are made of them afterwards, so that their cost is not the client's.
`play.py --check SCHEDULE` prints what bench/peers/peers_test.sh compares.
"""

from __future__ import annotations

import array
import asyncio
import ctypes
import json
import math
import selectors
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

HEADER_BYTES = 4096
BLOCK_BYTES = 1 << 20
RECORD = struct.Struct("<QII")
VALUE_MOST = 1_000_000
DRAIN_S = 30.0
BURST = 32  # messages that are late and sent without looking at answers
HOUR_NS = 3_600_000_000_000
SECOND_NS = 1_000_000_000


def die(text: str, status: int = 1) -> NoReturn:
    """One line, and the end; status 77: this peer cannot run here."""
    print(f"peer: {text}", file=sys.stderr)
    sys.exit(status)


def payload_block(payload: str, seed: int) -> bytes:
    """The block that values are cut from: xorshift64*, and zeros for a ratio."""
    words = array.array("Q")
    state = seed or 1
    mask = (1 << 64) - 1
    for _ in range(BLOCK_BYTES // 8):
        state ^= state >> 12
        state = (state ^ (state << 25)) & mask
        state ^= state >> 27
        words.append(state * 2685821657736338717 & mask)
    if sys.byteorder != "little":
        words.byteswap()
    block = bytearray(words.tobytes())
    if payload.startswith("ratio:"):
        keep = int(256 / float(payload[6:]) + 0.5)
        for at in range(0, BLOCK_BYTES, 256):
            block[at + keep : at + 256] = bytes(256 - keep)
    elif payload != "random":
        die(f"payload '{payload}'; random and ratio:R are what all peers play")
    return bytes(block)


class Schedule:
    """A schedule file, checked."""

    def __init__(self, path: str) -> None:
        data = Path(path).read_bytes()
        try:
            header = json.loads(data[:HEADER_BYTES])
        except ValueError:
            die(f"{path}: not a schedule file")
        if header.get("format") != "salvo-schedule" or header.get("version") != 1:
            die(f"{path}: not a schedule of version 1")
        self.messages = int(header["messages"])
        if not 0 < self.messages <= (len(data) - HEADER_BYTES) // RECORD.size:
            die(f"{path}: {self.messages} messages are promised, fewer are there")
        self.records = memoryview(data)[HEADER_BYTES : HEADER_BYTES + self.messages * RECORD.size]
        self.warmup_ns = int(header["warmup_s"] * 1e9)
        self.duration_ns = int(header["duration_s"] * 1e9)
        self.block = payload_block(header["payload"], header["seed"])

    def cut(self, index: int, size: int) -> int:
        """Where a message's value lies in the block."""
        return index * 4099 % (BLOCK_BYTES - size)

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """at_ns, value_bytes, key, and where the value lies."""
        last = 0
        for index, (at_ns, size, key) in enumerate(RECORD.iter_unpack(self.records)):
            if at_ns < last or size > VALUE_MOST:
                die("the schedule is damaged: times go backwards or a size is above its bound")
            last = at_ns
            yield at_ns, size, key, self.cut(index, size)

    def values(self, start_unix_ns: int) -> Iterator[tuple[int, bytes, bytes | None]]:
        """at_ns, the value with its stamp, the key."""
        block, stamp = self.block, struct.Struct("<Q").pack
        for at_ns, size, key, at in self:
            value = block[at : at + size]
            if size >= 8:
                value = stamp(start_unix_ns + at_ns) + value[8:]
            yield at_ns, value, str(key).encode() if key else None


def check(path: str) -> None:
    """FNV-1a of the first messages and their values."""
    schedule = Schedule(path)
    state, count = 14695981039346656037, 0
    for at_ns, size, key, at in schedule:
        for byte in RECORD.pack(at_ns, size, key) + schedule.block[at : at + size]:
            state = (state ^ byte) * 1099511628211 & ((1 << 64) - 1)
        count += 1
        if count == 1000:
            break
    print(f"{state:016x} {count}")


class Settings:
    """KEY=VALUE of the command line: all that was given must be asked for."""

    def __init__(self, words: list[str]) -> None:
        self.values = dict(word.split("=", 1) for word in words)
        self.asked: set[str] = set()

    def text(self, key: str) -> str:
        if key not in self.values:
            die(f"the setting {key}=... is missing")
        self.asked.add(key)
        return self.values[key]

    def number(self, key: str) -> int:
        return int(self.text(key))

    def all_asked(self) -> None:
        for key in self.values.keys() - self.asked:
            die(f"{key}={self.values[key]}: not a setting of this peer")


class Player:
    """One run: what a peer is given, and where it tells outcomes."""

    def __init__(self, name: str, version: str) -> None:
        if len(sys.argv) < 3:
            die(f"usage: {sys.argv[0]} SCHEDULE OUT KEY=VALUE...")
        self.name, self.version = name, version
        self.settings = Settings(sys.argv[3:])
        self.schedule = Schedule(sys.argv[1])
        self.offered = self.failed = self.acknowledged_in_all = 0
        self.call, self.accepted = array.array("q"), array.array("q")
        self.acknowledged, self.lateness = array.array("q"), array.array("q")
        self.start_ns = self.last_ns = self.cpu_ns = 0
        self.seconds: list[tuple[int, int, int, int]] = []  # the counts at each one's end
        self.second_end_ns = 1 << 63
        ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: sleeps end in time

    def settled(self, at_ns: int, acknowledged: bool) -> None:
        """An outcome, each accepted message once."""
        now = time.monotonic_ns()
        self.acknowledged_in_all += acknowledged
        if at_ns < self.schedule.warmup_ns:
            return
        self.last_ns = now
        if now >= self.second_end_ns:
            self.end_seconds(now)
        if acknowledged:
            self.acknowledged.append(now - self.start_ns - at_ns)
        else:
            self.failed += 1

    def wait_for_start(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """The messages, once the word is given."""
        self.settings.all_asked()
        self.acknowledged_in_all = 1  # the first message
        print("ready", flush=True)
        if not sys.stdin.readline():
            die("the start never came")
        self.start_ns = time.monotonic_ns()
        return self.schedule.values(time.time_ns())

    def note(self, at_ns: int, begin: int, end: int, accepted: bool) -> None:
        """A message of the measured part was handed over, or refused."""
        due = self.start_ns + at_ns
        if end >= self.second_end_ns:
            self.end_seconds(end)
        self.offered += 1
        self.lateness.append(begin - due)
        self.call.append(end - begin)
        if accepted:
            self.accepted.append(end - due)

    def end_seconds(self, now: int) -> None:
        """Seconds of the measured part are over; the last one stays open."""
        last = math.ceil(self.schedule.duration_ns / SECOND_NS) - 1
        while now >= self.second_end_ns and len(self.seconds) < last:
            self.seconds.append(self.counts())
            self.second_end_ns += SECOND_NS
        if len(self.seconds) == last:
            self.second_end_ns = 1 << 63

    def counts(self) -> tuple[int, int, int, int]:
        """Offered, accepted, acknowledged, failed so far."""
        return self.offered, len(self.accepted), len(self.acknowledged), self.failed

    def over_time(self) -> list[dict[str, object]]:
        """What was known in each second."""
        out: list[dict[str, object]] = []
        names = ("offered", "accepted", "acknowledged", "failed")
        before = (0, 0, 0, 0)
        for after in [*self.seconds, self.counts()]:
            fresh = (b - a for a, b in zip(before, after, strict=True))
            out.append(dict(zip(names, fresh, strict=True)) |
                       {"hdr": encode(self.acknowledged[before[2] : after[2]])})
            before = after
        return out

    def begin_measuring(self) -> None:
        """The warm-up is over: from here the CPU counts."""
        self.cpu_ns = time.process_time_ns()
        self.second_end_ns = self.start_ns + self.schedule.warmup_ns + SECOND_NS

    def finish(self) -> None:
        """Write the summary. CPU is the process's: here the client and the pace share a thread."""
        cpu_ns = time.process_time_ns() - self.cpu_ns
        wall_ns = max(self.schedule.duration_ns,
                      self.last_ns - self.start_ns - self.schedule.warmup_ns)
        summary = {
            "client": self.name, "version": self.version, "offered": self.offered,
            "accepted": len(self.accepted), "acknowledged": len(self.acknowledged),
            "failed": self.failed, "acknowledged_in_all": self.acknowledged_in_all,
            "cpu_ns": cpu_ns, "wall_ns": wall_ns, "call": encode(self.call),
            "accepted_hdr": encode(self.accepted), "acknowledged_hdr": encode(self.acknowledged),
            "lateness": encode(self.lateness), "over_time": self.over_time()}
        Path(sys.argv[2]).write_text(json.dumps(summary), encoding="utf-8")


def encode(values: array.array[int]) -> str:
    """Nanoseconds as HdrHistogram's V2 compressed encoding."""
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, HOUR_NS, 3)
    for value in values:
        histogram.record_value(min(max(value, 0), HOUR_NS))
    return str(histogram.encode().decode())


def play(player: Player, send: Callable[[int, bytes, bytes | None], bool],
         serve: Callable[[float], object], drain: Callable[[float], object],
         burst: int = BURST) -> None:
    """A client without an event loop.

    send: hand over, False where refused. serve: take outcomes for so many seconds, at 0 those that
    are there. burst: messages that are late and sent without serving in between.
    """
    clock, warmup_ns, measuring, late = time.monotonic_ns, player.schedule.warmup_ns, False, 0
    for at_ns, value, key in player.wait_for_start():
        if at_ns >= warmup_ns and not measuring:
            measuring = True
            player.begin_measuring()
        due = player.start_ns + at_ns
        begin = clock()
        late = late + 1 if begin >= due else 0
        if late % burst == burst - 1:
            serve(0)
        while (begin := clock()) < due:
            serve((due - begin) / 1e9)
        accepted = send(at_ns, value, key)
        end = clock()
        if measuring:
            player.note(at_ns, begin, end, accepted)
    drain(DRAIN_S)
    player.finish()


async def play_async(player: Player, send: Callable[[int, bytes, bytes | None], Awaitable[None]],
                     drain: Callable[[], Awaitable[Any]]) -> None:
    """A client on asyncio: send is awaited until the message was handed over."""
    clock, warmup_ns, measuring, late = time.monotonic_ns, player.schedule.warmup_ns, False, 0
    for at_ns, value, key in player.wait_for_start():
        if at_ns >= warmup_ns and not measuring:
            measuring = True
            player.begin_measuring()
        due = player.start_ns + at_ns
        begin = clock()
        late = late + 1 if begin >= due else 0
        if late % BURST == BURST - 1:
            await asyncio.sleep(0)  # an application that never yields would starve the client
        while (begin := clock()) < due:
            await asyncio.sleep((due - begin) / 1e9)
        await send(at_ns, value, key)
        end = clock()
        if measuring:
            player.note(at_ns, begin, end, True)
    try:
        await asyncio.wait_for(drain(), DRAIN_S)
    except TimeoutError:
        print(f"peer: not all was settled in {DRAIN_S:.0f} s", file=sys.stderr)
    player.finish()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """An event loop whose timers are finer than a millisecond, which epoll's are not."""
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(main())
    loop.close()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--check":
        die("usage: play.py --check SCHEDULE")
    check(sys.argv[2])

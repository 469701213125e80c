# SPDX-License-Identifier: Apache-2.0
"""What reading from Kafka into a Python handler costs: script/bench consume.

A topic is filled once; every contestant reads all of it with a group of its own, in a process of
its own, decodes each message with the fastest decoder that it can use (msgspec), reads one field,
and commits. Rounds are interleaved; the figures are medians, with the least and the most beside
them. `with output` is a worker that sends a result for each message and commits what was
acknowledged. A round in which a message was lost ends the bench. A contestant whose library is
missing is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

# name: (module, share of the messages that it reads, what it does). The slow ones read fewer.
CONTESTANTS = {
    "salvo_batch": ("salvo", 1.0, "salvo: @worker, process_batch"),
    "salvo_handler": ("salvo", 0.5, "salvo: one-message async handler"),
    "salvo_worker": ("salvo", 0.5, "salvo: @worker, process"),
    "salvo_output": ("salvo", 0.2, "salvo: @worker with output"),
    "confluent_consume": ("confluent_kafka", 1.0, "confluent: consume(500), msgspec"),
    "confluent_poll": ("confluent_kafka", 0.5, "confluent: poll, msgspec"),
    "aiokafka_handler": ("aiokafka", 0.2, "aiokafka: async for, handler, msgspec"),
    "aiokafka_getmany": ("aiokafka", 0.2, "aiokafka: getmany, handler, msgspec"),
    "faststream_handler": ("faststream", 0.05, "FastStream on confluent: subscriber"),
    "faststream_output": ("faststream", 0.05, "FastStream on confluent: with publisher"),
}
# Ours against the fastest of theirs: of confluent's two loops the one that does better.
RATIOS = {
    "batch_ratio_vs_confluent": ("salvo_batch", ("confluent_consume", "confluent_poll")),
    "single_ratio_vs_aiokafka": ("salvo_handler", ("aiokafka_handler",)),
    "single_ratio_vs_aiokafka_getmany": ("salvo_handler", ("aiokafka_getmany",)),
    "output_ratio_vs_faststream": ("salvo_output", ("faststream_output",)),
}
COLUMNS = ("per_s", "cpu_us")

Rounds = dict[str, dict[str, list[float]]]


def note(text: str) -> None:
    """A line of progress."""
    print(f"bench consume: {text}", file=sys.stderr, flush=True)


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """consume_contestant.py in a process of its own."""
    script = str(Path(__file__).with_name("consume_contestant.py"))
    return subprocess.run([sys.executable, script, *arguments], text=True, capture_output=True,
                          timeout=300, check=False)


def present(options: argparse.Namespace) -> list[str]:
    """Who takes part; says who does not and why."""
    wanted = options.only.split(",") if options.only else list(CONTESTANTS)
    names = []
    for name in wanted:
        if name not in CONTESTANTS:
            sys.exit(f"bench consume: --only {name}: there are: {', '.join(CONTESTANTS)}")
        if importlib.util.find_spec(CONTESTANTS[name][0]) is None:
            note(f"{name}: left out: no {CONTESTANTS[name][0]}")
        else:
            names.append(name)
    return names


def measure(options: argparse.Namespace) -> Rounds:
    """All rounds. The order turns, so that nobody always comes first."""
    names = present(options)
    found: Rounds = {name: {column: [] for column in COLUMNS} for name in names}
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    note(f"filling a topic with {options.messages:,} messages")
    filled = child("fill", options.kafka, topic, str(options.messages))
    if filled.returncode != 0:
        sys.exit(f"bench consume: the topic could not be filled:\n{filled.stderr}")
    for turn in range(options.rounds):
        note(f"round {turn + 1} of {options.rounds}, load average {os.getloadavg()[0]:.1f}")
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            count = int(options.messages * CONTESTANTS[name][1])
            done = child(name, options.kafka, topic, str(count))
            if done.returncode != 0:
                sys.exit(f"bench consume: {name} failed:\n{done.stderr}")
            result = json.loads(done.stdout.strip().splitlines()[-1])
            for column in COLUMNS:
                found[name][column].append(result[column])
    return found


def print_table(table: Rounds, options: argparse.Namespace) -> None:
    """Rates in thousands a second, CPU in microseconds a message, and bars."""
    best = max((statistics.median(row["per_s"]) for row in table.values()), default=1)
    print(f"\n82-byte JSON from Kafka, one field read: medians of {options.rounds} rounds "
          f"(least..most); load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'':42}{'thousands a second':>28}{'CPU us/msg':>12}")
    for name, row in table.items():
        rates = row["per_s"]
        middle = statistics.median(rates)
        span = f"({min(rates) / 1e3:,.1f}..{max(rates) / 1e3:,.1f})"
        bar = "#" * max(1, round(24 * middle / best))
        print(f"{CONTESTANTS[name][2]:42}{middle / 1e3:10,.1f} {span:>17}"
              f"{statistics.median(row['cpu_us']):12.2f}  {bar}")


def median(table: Rounds, name: str, column: str) -> float:
    """Of all rounds."""
    return statistics.median(table[name][column])


def ratios(table: Rounds) -> dict[str, float]:
    """Rates against the peers', and CPU a message."""
    found = {}
    for name, (ours, peers) in RATIOS.items():
        there = [peer for peer in peers if peer in table]
        if ours not in table or not there:
            continue
        best = max(there, key=lambda peer: median(table, peer, "per_s"))
        found[name] = median(table, ours, "per_s") / median(table, best, "per_s")
        found[name.replace("_ratio", "_cpu_ratio")] = (median(table, ours, "cpu_us") /
                                                       median(table, best, "cpu_us"))
    return found


def main() -> None:
    """Measure, print the table, and the ratios as one line of JSON."""
    parser = argparse.ArgumentParser(prog="script/bench consume", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 100,000 messages")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--messages", type=int, default=400_000, help="default 400,000")
    parser.add_argument("--only", help="contestants, separated by commas")
    parser.add_argument("--kafka", help="HOST:PORT; script/bench gives it")
    parser.add_argument("--c-program", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1 or options.messages < 1000:
        parser.error("--rounds: 1 or more; --messages: 1000 or more")
    if not options.kafka:
        parser.error("--kafka HOST:PORT is needed, or run script/bench consume")
    if options.quick:
        options.rounds, options.messages = min(options.rounds, 3), min(options.messages, 100_000)
    table = measure(options)
    print_table(table, options)
    figures = ratios(table)
    print()
    for name, value in figures.items():
        print(f"{name:36}{value:10,.2f}")
    if options.json:
        print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()

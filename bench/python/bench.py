# SPDX-License-Identifier: Apache-2.0
"""What handing events to Kafka costs in Python: script/bench python.

Every contestant sends the same events (82 bytes of JSON) to the same Kafka with the same settings,
in processes of their own, rounds interleaved; the figures are medians, with the least and the most
beside them. Two columns for everybody: `accepted`, a burst that fits everybody's buffer (a round
in which anything was refused or failed ends the bench), and `acknowledged`, the same burst until
the broker has confirmed all of it. Whoever waits for each message has one figure in both. A
contestant whose library is missing is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

Row = dict[str, list[float]]
COLUMNS = ("accepted_per_s", "acknowledged_per_s", "cpu_us", "refused")
C_PROGRAM = "librdkafka_c"

# name: (module that it needs, events of a round, what it does). aiokafka has one open batch, of
# at most 1 MB: its bursts are what fits.
CONTESTANTS = {
    "salvo_batch_dict": ("salvo", 100_000, "salvo: batch of dicts"),
    "salvo_batch_bytes": ("salvo", 100_000, "salvo: batch of bytes"),
    "salvo_faf": ("salvo", 100_000, "salvo: send_fire_and_forget"),
    "salvo_send_nowait": ("salvo", 50_000, "salvo: send(wait=False)"),
    "salvo_send_wait": ("salvo", 1000, "salvo: send(wait=True)"),
    "salvo_gather_wait": ("salvo", 20_000, "salvo: gather of 1,000 waits"),
    "confluent_json": ("confluent_kafka", 100_000, "confluent: produce, json"),
    "confluent_orjson": ("confluent_kafka", 100_000, "confluent: produce, orjson"),
    "confluent_msgspec": ("confluent_kafka", 100_000, "confluent: produce, msgspec"),
    "confluent_callback": ("confluent_kafka", 100_000, "confluent: with callback, json"),
    "confluent_wait": ("confluent_kafka", 1000, "confluent: produce + flush"),
    "confluent_batch_json": ("confluent_kafka", 100_000, "confluent: produce_batch, json"),
    "confluent_batch_orjson": ("confluent_kafka", 100_000, "confluent: produce_batch, orjson"),
    "confluent_aio": ("confluent_kafka", 20_000, "confluent: AIOProducer, json"),
    "confluent_aio_orjson": ("confluent_kafka", 20_000, "confluent: AIOProducer, orjson"),
    "aiokafka_send": ("aiokafka", 10_000, "aiokafka: send, json"),
    "aiokafka_send_orjson": ("aiokafka", 10_000, "aiokafka: send, orjson"),
    "aiokafka_forget": ("aiokafka", 10_000, "aiokafka: send, future dropped"),
    "aiokafka_batch": ("aiokafka", 10_000, "aiokafka: create_batch, json"),
    "aiokafka_wait": ("aiokafka", 500, "aiokafka: send_and_wait"),
    "aiokafka_gather_wait": ("aiokafka", 10_000, "aiokafka: gather, its 16 KB batches"),
    "aiokafka_gather_1mb": ("aiokafka", 10_000, "aiokafka: gather, 1 MB batches"),
    "kafka_python": ("kafka", 20_000, "kafka-python: send, json"),
    "kafka_python_orjson": ("kafka", 20_000, "kafka-python: send, orjson"),
    "confluent_bytes": ("confluent_kafka", 100_000, "confluent: produce, bytes"),
    C_PROGRAM: ("", 100_000, "librdkafka in C, bytes"),
}
# The documented methods, and how each library comes nearest to them.
METHODS = {
    "send(wait=True)": ("salvo_send_wait", "confluent_wait", "aiokafka_wait"),
    "send(wait=False)": ("salvo_send_nowait", "confluent_callback", "aiokafka_send"),
    "send_fire_and_forget": ("salvo_faf", "confluent_json", "aiokafka_forget"),
    "send_batch_fire_and_forget": ("salvo_batch_dict", "confluent_batch_json", "aiokafka_batch"),
}
# Ways to hand over a dict: what was encoded beforehand does not count.
NOT_DICTS = ("confluent_bytes", C_PROGRAM)


def note(text: str) -> None:
    """A line of progress."""
    print(f"bench python: {text}", file=sys.stderr, flush=True)


def command(name: str, options: argparse.Namespace, topic: str, events: int) -> list[str]:
    """What runs one round."""
    if name == C_PROGRAM:
        return [options.c_program, options.kafka, topic, str(events)]
    script = str(Path(__file__).with_name("contestant.py"))
    return [sys.executable, script, name, options.kafka, topic, str(events)]


def run_child(name: str, options: argparse.Namespace, topic: str) -> dict[str, float] | None:
    """One round of one contestant, in a process of its own. None: it cannot run here."""
    events = max(1, int(CONTESTANTS[name][1] * options.scale))
    done = subprocess.run(command(name, options, topic, events), text=True, capture_output=True,
                          timeout=300, check=False)
    if done.returncode == 77:
        note(f"{name}: left out: {done.stderr.strip().splitlines()[-1]}")
        return None
    if done.returncode != 0:
        sys.exit(f"bench python: {name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def present(options: argparse.Namespace) -> list[str]:
    """Who takes part; says who does not and why."""
    wanted = options.only.split(",") if options.only else list(CONTESTANTS)
    names = []
    for name in wanted:
        if name not in CONTESTANTS:
            sys.exit(f"bench python: --only {name}: there are: {', '.join(CONTESTANTS)}")
        module = CONTESTANTS[name][0]
        if name == C_PROGRAM and not options.c_program:
            note(f"{name}: left out: no --c-program (script/bench builds it)")
        elif module and importlib.util.find_spec(module) is None:
            note(f"{name}: left out: no {module}")
        else:
            names.append(name)
    return names


def measure(options: argparse.Namespace) -> dict[str, Row]:
    """All rounds, by contestant and column. The order turns, so that nobody always comes first."""
    names = present(options)
    found: dict[str, Row] = {name: {column: [] for column in COLUMNS} for name in names}
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    for turn in range(options.rounds):
        load = os.getloadavg()[0]
        note(f"round {turn + 1} of {options.rounds}, load average {load:.1f}")
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            result = run_child(name, options, topic) if name in found else None
            if result is None:
                found.pop(name, None)
                continue
            for column in COLUMNS:
                found[name][column].append(result[column])
    return found


def median(row: Row, column: str) -> float:
    """Of all rounds."""
    return statistics.median(row[column])


def ratios(table: dict[str, Row]) -> dict[str, float]:
    """The figures and ratios, where both sides took part."""
    accepted = {name: median(row, "accepted_per_s") for name, row in table.items()}
    acked = {name: median(row, "acknowledged_per_s") for name, row in table.items()}
    others = [rate for name, rate in accepted.items()
              if not name.startswith("salvo") and name not in NOT_DICTS]
    pairs = {  # acked_ratio_vs_c: both sides send bytes; with dicts, JSON comes on top
        "batch_dict_per_s": (accepted.get("salvo_batch_dict"), 1.0),
        "ratio_vs_confluent_json": (accepted.get("salvo_batch_dict"),
                                    accepted.get("confluent_json")),
        "ratio_vs_best_other": (accepted.get("salvo_batch_dict"), max(others, default=None)),
        "ratio_vs_aiokafka": (accepted.get("salvo_batch_dict"), accepted.get("aiokafka_send")),
        "batch_bytes_per_s": (accepted.get("salvo_batch_bytes"), 1.0),
        "faf_per_s": (accepted.get("salvo_faf"), 1.0),
        "wait_ratio_vs_aiokafka": (acked.get("salvo_gather_wait"),
                                   acked.get("aiokafka_gather_wait")),
        "wait_ratio_vs_aiokafka_1mb": (acked.get("salvo_gather_wait"),
                                       acked.get("aiokafka_gather_1mb")),
        "acked_ratio_vs_c": (acked.get("salvo_batch_bytes"), acked.get(C_PROGRAM)),
        "acked_dict_ratio_vs_c": (acked.get("salvo_batch_dict"), acked.get(C_PROGRAM)),
    }
    return {name: top / bottom for name, (top, bottom) in pairs.items() if top and bottom}


def spread(row: Row, column: str) -> str:
    """Median (least..most), in thousands."""
    low, high = min(row[column]), max(row[column])
    return f"{median(row, column) / 1e3:9,.1f} ({low / 1e3:,.1f}..{high / 1e3:,.1f})"


def print_table(table: dict[str, Row], options: argparse.Namespace) -> None:
    """Rates in thousands a second, CPU in microseconds a message."""
    load = os.getloadavg()
    print(f"\n82-byte events to Kafka: medians of {options.rounds} rounds (least..most), thousands "
          f"a second; load average {load[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'':35}{'accepted':32}{'acknowledged':32}{'CPU us/msg':>10} {'refused':>8}")
    for name, row in table.items():
        print(f"{CONTESTANTS[name][2]:35}{spread(row, 'accepted_per_s'):32}"
              f"{spread(row, 'acknowledged_per_s'):32}{median(row, 'cpu_us'):10.2f}"
              f"{sum(row['refused']):9.0f}")
    noisy = [name for name, row in table.items()
             if max(row["accepted_per_s"]) > 1.5 * min(row["accepted_per_s"])]
    if noisy:
        print(f"NOISE: the accepted rate spread by more than half over the rounds for "
              f"{len(noisy)} of {len(table)}; is something else running?")


def print_methods(table: dict[str, Row]) -> None:
    """The documented methods, for the three libraries that have something like each."""
    print(f"\n{'accepted, thousands a second':29}{'salvo':>12}{'confluent':>12}{'aiokafka':>12}")
    for method, names in METHODS.items():
        cells = [f"{median(table[name], 'accepted_per_s') / 1e3:,.1f}" if name in table
                 else "-" for name in names]
        print(f"{method:29}" + "".join(f"{cell:>12}" for cell in cells))


def print_bars(table: dict[str, Row]) -> None:
    """Accepted rates, each # a quarter more than the one before."""
    print("\nAccepted a second (each # is a quarter more)")
    for name, row in sorted(table.items(), key=lambda item: -median(item[1], "accepted_per_s")):
        rate = median(row, "accepted_per_s")
        bar = "#" * (1 + max(0, int(math.log(rate / 100) / math.log(1.25))))
        print(f"  {CONTESTANTS[name][2]:35} {bar} {rate:,.0f}")


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(prog="script/bench python", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="3 rounds of fewer events")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--scale", type=float, default=1.0,
                        help="fewer events a round: more than 0, at most 1 (bursts fit buffers)")
    parser.add_argument("--only", help="contestants, separated by commas")
    parser.add_argument("--kafka", help="HOST:PORT; bench/python.sh gives it")
    parser.add_argument("--c-program", help="rdkafka_loop; bench/python.sh gives it")
    options = parser.parse_args()
    if options.rounds < 1 or not 0 < options.scale <= 1:
        parser.error("--rounds: 1 or more; --scale: more than 0, at most 1")
    if not options.kafka:
        parser.error("--kafka HOST:PORT is needed, or run script/bench python")
    if options.quick:
        options.rounds, options.scale = min(options.rounds, 3), min(options.scale, 0.5)
    return options


def main() -> None:
    """Measure, print the tables and bars, and the figures as one line of JSON."""
    options = arguments()
    table = measure(options)
    print_table(table, options)
    print_methods(table)
    print_bars(table)
    figures = ratios(table)
    print()
    for name, value in figures.items():
        print(f"{name:28}{value:14,.2f}")
    if options.json:
        print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()

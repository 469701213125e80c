# SPDX-License-Identifier: Apache-2.0
"""python bench/python/bench.py --kafka HOST:PORT: what handing events to Kafka costs in Python.

Every contestant sends the same events (82 bytes of JSON) to the same Kafka, in processes of their
own, rounds interleaved; the figures are medians. Two columns for everybody: `accepted`, a burst
that fits everybody's buffer (a round in which anything was refused or failed is an error), and
`acknowledged`, the same burst until the broker has confirmed all of it. A contestant whose library
is missing is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

# name: (module that it needs, events of a round)
CONTESTANTS = {
    "salvo_batch_dict": ("salvo", 100_000),
    "salvo_batch_bytes": ("salvo", 100_000),
    "salvo_faf": ("salvo", 100_000),
    "salvo_send_nowait": ("salvo", 20_000),
    "salvo_send_wait": ("salvo", 500),
    "salvo_gather_wait": ("salvo", 20_000),
    "confluent_json": ("confluent_kafka", 100_000),
    "confluent_orjson": ("confluent_kafka", 100_000),
    "confluent_msgspec": ("confluent_kafka", 100_000),
    "confluent_produce_batch": ("confluent_kafka", 100_000),
    "confluent_aio": ("confluent_kafka", 20_000),
    "confluent_wait": ("confluent_kafka", 500),
    "aiokafka_send": ("aiokafka", 20_000),
    "aiokafka_send_and_wait": ("aiokafka", 200),
    "aiokafka_gather_wait": ("aiokafka", 20_000),
    "kafka_python": ("kafka", 20_000),
    "confluent_bytes": ("confluent_kafka", 100_000),
}


def run_child(name: str, events: int, options: argparse.Namespace, topic: str
              ) -> dict[str, float] | None:
    """One round of one contestant, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("contestant.py")), name,
         options.kafka, topic, str(max(1, int(events * options.scale)))],
        text=True, capture_output=True, timeout=300)
    if done.returncode == 77:
        print(f"{name}: left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    if done.returncode != 0:
        sys.exit(f"{name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of all rounds, by contestant."""
    found: dict[str, list[dict[str, float]]] = {}
    wanted = options.only.split(",") if options.only else list(CONTESTANTS)
    for name in wanted:
        if importlib.util.find_spec(CONTESTANTS[name][0]) is None:
            print(f"{name}: left out: no {CONTESTANTS[name][0]}", file=sys.stderr)
        else:
            found[name] = []
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    for _ in range(options.rounds):
        for name in list(found):
            result = run_child(name, CONTESTANTS[name][1], options, topic)
            if result is None:
                del found[name]
            else:
                found[name].append(result)
    return {name: {column: statistics.median(r[column] for r in rounds)
                   for column in ("accepted_per_s", "acknowledged_per_s")}
            for name, rounds in found.items()}


def ratios(table: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures of the issue, where both sides took part."""
    accepted = {name: row["accepted_per_s"] for name, row in table.items()}
    acked = {name: row["acknowledged_per_s"] for name, row in table.items()}
    # Ways to hand over a dict: what was encoded beforehand does not count.
    others = [v for k, v in accepted.items() if not k.startswith(("salvo", "confluent_bytes"))]
    figures = {"batch_dict_per_s": accepted.get("salvo_batch_dict"),
               "batch_bytes_per_s": accepted.get("salvo_batch_bytes"),
               "faf_per_s": accepted.get("salvo_faf")}

    def ratio(name: str, top: float | None, bottom: float | None) -> None:
        if top and bottom:
            figures[name] = top / bottom

    dicts = accepted.get("salvo_batch_dict")
    ratio("ratio_vs_confluent_json", dicts, accepted.get("confluent_json"))
    ratio("ratio_vs_best_other", dicts, max(others, default=None))
    ratio("ratio_vs_aiokafka", dicts, accepted.get("aiokafka_send"))
    ratio("wait_ratio_vs_aiokafka", acked.get("salvo_gather_wait"),
          acked.get("aiokafka_gather_wait"))
    ratio("acked_ratio_vs_confluent_bytes", acked.get("salvo_batch_bytes"),
          acked.get("confluent_bytes"))
    return {name: value for name, value in figures.items() if value is not None}


def main() -> None:
    """Measure, print the table, and the figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True, help="HOST:PORT (script/broker kafka start)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fewer or more events a round")
    parser.add_argument("--only", help="contestants, separated by commas")
    options = parser.parse_args()
    table = measure(options)
    print(f"{'':26}{'accepted/s':>14}{'acknowledged/s':>16}")
    for name, row in table.items():
        print(f"{name:26}{row['accepted_per_s']:14,.0f}{row['acknowledged_per_s']:16,.0f}")
    print(json.dumps({name: round(value, 3) for name, value in ratios(table).items()}))


if __name__ == "__main__":
    main()

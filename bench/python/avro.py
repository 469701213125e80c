# SPDX-License-Identifier: Apache-2.0
"""What a message as Avro costs in Python: script/bench avro.

CPU nanoseconds of this process a message: a flat record of seven fields and one with nested
records, from a dict, a pydantic model and a msgspec struct, to bytes with Confluent's header. The
peers are fastavro's schemaless_writer, which is what others build on, and Confluent's own
serializer. `sent` is the whole way of the producing path into a producer that throws everything
away (broker `null`): the same record by send_avro's encoder, and by fastavro. Rounds are
interleaved; the figures are medians with the least and the most beside them. Before anything is
measured all contestants must have made the same bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time


def measure(rounds: int, count: int) -> dict[str, list[float]]:
    """CPU nanoseconds a message, of each round. The order turns."""
    from avro_contestant import contestants  # not needed for --help

    run = contestants()
    names = list(run)
    found: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        run[name](1000)
    for turn in range(rounds):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            gc.collect()
            began = time.thread_time_ns()
            run[name](count)
            found[name].append((time.thread_time_ns() - began) / count)
    return found


PAIRS = {"avro_ratio_vs_fastavro": ("fastavro_dict", "salvo_dict"),
         "avro_pydantic_ratio_vs_fastavro": ("fastavro_pydantic", "salvo_pydantic"),
         "avro_nested_ratio_vs_fastavro": ("fastavro_nested", "salvo_nested"),
         "avro_sent_ratio_vs_fastavro": ("fastavro_sent", "salvo_sent"),
         "avro_ratio_vs_confluent": ("confluent_dict", "salvo_dict")}


def main() -> None:
    """Measure, print the table, and the figures as one line of JSON."""
    parser = argparse.ArgumentParser(prog="script/bench avro", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="3 rounds of fewer messages")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default 9)")
    options = parser.parse_args()
    rounds, count = (3, 5000) if options.quick else (options.rounds, 50_000)
    if rounds < 1:
        parser.error("--rounds: 1 or more")
    table = measure(rounds, count)
    medians = {name: statistics.median(row) for name, row in table.items()}
    print(f"CPU ns a message: medians of {rounds} rounds (least..most); load average "
          f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for name, row in table.items():
        print(f"{name:20}{medians[name]:10,.0f} ({min(row):,.0f}..{max(row):,.0f})")
    figures = {f"{name}_ns": value for name, value in medians.items()}
    for name, (top, bottom) in PAIRS.items():
        if top in medians:
            figures[name] = medians[top] / medians[bottom]
            print(f"{name:34}{figures[name]:8.2f}")
    if options.json:
        print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()

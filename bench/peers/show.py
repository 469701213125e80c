# SPDX-License-Identifier: Apache-2.0
"""Results of script/bench peers: a peer's summary as a result (docs/formats.md), medians, table.

Percentiles are over the messages offered: what was refused, failed or never settled is infinite,
so that nothing lost can make a client look better.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50_ns": 50.0, "p90_ns": 90.0, "p99_ns": 99.0, "p999_ns": 99.9, "p9999_ns": 99.99,
               "max_ns": 100.0}
Result = dict[str, Any]


def histogram(encoded: str, infinite: int) -> dict[str, Any]:
    """The object H of docs/formats.md."""
    h = HdrHistogram.decode(encoded)
    finite = h.get_total_count()
    total = finite + infinite
    out: dict[str, Any] = {"count": total, "infinite": infinite,
                           "min_ns": h.get_min_value() if finite else None,
                           "mean_ns": round(h.get_mean_value()) if finite else None}
    for name, percentile in PERCENTILES.items():
        rank = max(1, math.floor(percentile / 100 * total + 0.5))
        out[name] = (h.get_value_at_percentile(100 * rank / finite)
                     if finite and rank <= finite else None)
    out["hdr"] = encoded
    return out


def too_late(lateness: dict[str, Any], column: dict[str, Any]) -> bool:
    """More than a tenth of the column's p99, or of p90 or p50 where that is infinite."""
    for name in ("p99_ns", "p90_ns", "p50_ns"):
        if column[name] is not None:
            return bool((lateness["p99_ns"] or 0) * 10 > column[name])
    return False


def over_time(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A result's seconds: what became known in each."""
    out = []
    for at_s, second in enumerate(summary["over_time"]):
        refused = second["offered"] - second["accepted"]
        shown = histogram(second["hdr"], refused + second["failed"])
        out.append({"at_s": at_s, "offered": second["offered"], "accepted": second["accepted"],
                    "acknowledged": second["acknowledged"], "refused": refused,
                    "p50_ns": shown["p50_ns"], "p99_ns": shown["p99_ns"]})
    return out


def as_result(summary: dict[str, Any], frame: Result) -> Result:
    """A peer's summary as a result; frame: what is not the peer's (load, machine, settings)."""
    lost = {"call": 0, "accepted": summary["offered"] - summary["accepted"],
            "acknowledged": summary["offered"] - summary["acknowledged"]}
    encoded = {"call": summary["call"], "accepted": summary["accepted_hdr"],
               "acknowledged": summary["acknowledged_hdr"]}
    columns = {name: histogram(text, lost[name]) for name, text in encoded.items()}
    lateness = histogram(summary["lateness"], 0)
    late = [name for name in columns if name != "call" and too_late(lateness, columns[name])]
    for name in late:
        columns[name]["invalid"] = True
    seconds = summary["wall_ns"] / 1e9
    pending = summary["accepted"] - summary["acknowledged"] - summary["failed"]
    why = (f"calls began late (p99 {time_text(lateness['p99_ns'])}): the client held the sending "
           "thread up, or the machine did; latencies count from the intended time all the same")
    return frame | {
        "client": summary["client"], "client_version": summary["version"],
        "ledger": {"offered": summary["offered"], "accepted": summary["accepted"],
                   "refused_full": summary["offered"] - summary["accepted"], "refused_other": 0,
                   "acknowledged": summary["acknowledged"], "failed": summary["failed"],
                   "maybe_delivered": 0, "expired": 0, "dropped": 0, "pending": pending},
        "offered_per_s": summary["offered"] / frame["duration_s"],
        "accepted_per_s": summary["accepted"] / seconds,
        "acknowledged_per_s": summary["acknowledged"] / seconds,
        "bytes_per_s": summary["accepted"] * frame["mean_bytes"] / seconds,
        "cpu_ns_per_message": summary["cpu_ns"] / max(1, summary["accepted"]),
        "columns": columns, "generator": {"lateness": lateness},
        "valid": "acknowledged" not in late,
        "invalid_because": why if "acknowledged" in late else None, "over_time": over_time(summary)}


def time_text(ns: float | None) -> str:
    """A time for people."""
    if ns is None or ns == math.inf:
        return "lost"
    for unit, of in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= of:
            return f"{ns / of:.3g} {unit}"
    return f"{ns:.0f} ns"


def figures(result: Result) -> dict[str, float]:
    """What the table has a column for."""
    columns, ledger = result["columns"], result["ledger"]

    def at(column: str, name: str) -> float:
        value = columns.get(column, {}).get(name)
        return math.inf if value is None else float(value)

    return {"offered_per_s": result["offered_per_s"],
            "acknowledged_per_s": result["acknowledged_per_s"],
            "p50_ns": at("acknowledged", "p50_ns"), "p99_ns": at("acknowledged", "p99_ns"),
            "p999_ns": at("acknowledged", "p999_ns"), "call_p50_ns": at("call", "p50_ns"),
            "accepted_p99_ns": at("accepted", "p99_ns"),
            "late_p99_ns": float(result["generator"]["lateness"]["p99_ns"] or 0),
            "cpu_ns": result["cpu_ns_per_message"],
            "refused": ledger["refused_full"] + ledger["refused_other"],
            "failed": columns["acknowledged"]["infinite"] - columns["call"]["count"]
                      + columns["accepted"]["count"] - columns["accepted"]["infinite"],
            "lost": result["lost"], "late": float(not result["valid"])}


def medians(results: list[Result]) -> dict[str, Any]:
    """Medians of the rounds; counts are sums; spread: least and most of a few."""
    rounds = [figures(r) for r in results]
    out: dict[str, Any] = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    for key in ("refused", "failed", "lost"):
        out[key] = int(sum(r[key] for r in rounds))
    out["late"] = int(sum(r["late"] for r in rounds))
    out["rounds"] = len(rounds)
    for key in ("acknowledged_per_s", "p50_ns", "p99_ns", "cpu_ns"):
        out[f"{key}_spread"] = [min(r[key] for r in rounds), max(r[key] for r in rounds)]
    return out


def spread(row: dict[str, Any], key: str) -> str:
    """A time with its least and most."""
    least, most = (time_text(v) for v in row[f"{key}_spread"])
    return f"{time_text(row[key])} ({least}..{most})"


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """One table; peers with the most and then the fastest acknowledgements come first."""
    heads = ("", "acked/s", "p50 (least..most)", "p99 (least..most)", "p99.9", "call p50",
             "accepted p99", "late p99", "CPU/message", "refused", "failed", "lost")
    lines = [heads]
    for name, row in sorted(rows.items(), key=rank):
        lines.append((name, f"{row['acknowledged_per_s']:,.0f}", spread(row, "p50_ns"),
                      spread(row, "p99_ns"), time_text(row["p999_ns"]),
                      time_text(row["call_p50_ns"]), time_text(row["accepted_p99_ns"]),
                      time_text(row["late_p99_ns"]) + ("*" if row["late"] else ""),
                      time_text(row["cpu_ns"]), f"{row['refused']:,}", f"{row['failed']:,}",
                      f"{row['lost']:,}"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    text = ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in lines]
    return "\n".join([title, *text])


def rank(item: tuple[str, dict[str, Any]]) -> tuple[float, float]:
    """Who keeps up (within 5 %) is ordered by latency, the others follow by their rate."""
    _, row = item
    behind = row["acknowledged_per_s"] < 0.95 * row["offered_per_s"]
    return (-row["acknowledged_per_s"] if behind else -math.inf, row["p99_ns"])


def bars(rows: dict[str, dict[str, Any]]) -> str:
    """p50 to p99 of the acknowledged latency on a log axis, a line a peer."""
    known = [v for r in rows.values() for v in (r["p50_ns"], r["p99_ns"]) if 0 < v < math.inf]
    if not known:
        return ""
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    width, wide = 60, max(len(name) for name in rows)
    steps = max(1, high - low)

    def place(ns: float) -> int:
        part = (math.log10(max(ns, 1)) - low) / steps if ns < math.inf else 1.0
        return min(width - 1, max(0, round(part * (width - 1))))

    lines = []
    for name, row in sorted(rows.items(), key=rank):
        first, last = place(row["p50_ns"]), place(row["p99_ns"])
        bar = " " * first + "█" * (last - first + 1)
        lines.append(f"{name.ljust(wide)}  {bar.ljust(width)}  {time_text(row['p99_ns'])}")
    axis = [" "] * (width + 8)
    for i in range(steps + 1):
        at = round(i / steps * (width - 1))
        label = time_text(10.0 ** (low + i))
        axis[at : at + len(label)] = label
    lines.append(" " * (wide + 2) + "".join(axis).rstrip())
    return "\n".join(["from the intended time to acknowledged, p50 to p99:", *lines])

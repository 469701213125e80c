# SPDX-License-Identifier: Apache-2.0
"""script/bench peers: Salvo and other clients play the same schedule, against real servers.

One table a sink: what was acknowledged, latencies from the intended time of each message until
its acknowledgement, what the call costs, the client's CPU a message, what was refused, failed or
lost (acknowledged and not on the server). Rounds are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import hdrlog
import show
from host import Host
from play import encode
from sinks import SINKS, Sink

HERE = Path(__file__).resolve().parent
READY_S, DRAIN_S = 90, 90
PERF_BYTES_MOST = 1_000_000


def die(text: str) -> NoReturn:
    """One line, and the end."""
    print(f"peers: {text}", file=sys.stderr)
    sys.exit(1)


def say(text: str) -> None:
    """Progress."""
    print(f"peers: {text}", file=sys.stderr, flush=True)


class LeftOut(Exception):
    """This peer cannot run here."""


class Failed(Exception):
    """This peer did not do what it should."""


@dataclass
class Bench:
    """A run of the whole."""

    options: argparse.Namespace
    out: Path
    classes: str | None  # where the Java peers are
    classpath: str
    machine: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def salvo(self) -> str:
        """The salvo command."""
        return str(Path(self.options.build) / "bindings/cli/salvo")

    def broker(self, sink: Sink, *words: str) -> str:
        """script/broker, with this run's instance."""
        done = subprocess.run(
            [str(HERE.parent.parent / "script/broker"), sink.name, words[0], "--name",
             f"peers-{os.getpid()}", *words[1:]], text=True, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            die(f"script/broker {sink.name} {words[0]} failed, see above")
        return done.stdout.strip()


def peers_of(sink: str) -> dict[str, Path]:
    """SINK_NAME.* of this folder."""
    found = sorted(p for p in HERE.glob(f"{sink}_*") if p.suffix in (".c", ".py", ".java"))
    return {p.stem.removeprefix(f"{sink}_"): p for p in found}


def command(bench: Bench, source: Path) -> list[str]:
    """How a peer is started."""
    if source.suffix == ".py":
        return [sys.executable, str(source)]
    if source.suffix == ".c":
        return [str(Path(bench.options.build) / "bench/peers" / source.stem)]
    if not bench.classes:
        raise LeftOut("Java is missing, see above")
    return ["java", "-cp", f"{bench.classes}/{source.stem}:{bench.classpath}", "Peer"]


def write_schedule(bench: Bench, sink: Sink) -> Path:
    """The load, as a file that all play."""
    o = bench.options
    path = bench.out / f"schedule-{sink.name}.bin"
    done = subprocess.run(
        [bench.salvo, "bench", "--write-schedule", str(path), "--quiet", "--rate", sink.rate,
         "--size", o.size, "--payload", o.payload, "--arrivals", o.arrivals, "--keys", o.keys,
         "--warmup", f"{o.warmup}s", "--duration", f"{o.seconds}s"], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return path


def run_salvo(bench: Bench, sink: Sink, address: str, topic: str, schedule: Path, log: Path
              ) -> show.Result:
    """Salvo, through its own load generator."""
    out = bench.out / "salvo.json"
    sets = sink.salvo | {sink.address_key: address}
    words = [bench.salvo, "bench", "--quiet", "--broker", sink.name, "--schedule", str(schedule),
             "--existing", topic, "--out", str(out), "--hdr", str(log)]
    for key, value in sets.items():
        words += ["--set", f"{key}={value}"]
    done = subprocess.run(words, cwd=bench.out, text=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Failed(last_line(done.stderr))
    result: show.Result = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    bench.machine = result["machine"]
    result["acknowledged_in_all"] = result["ledger"]["acknowledged"] + 1  # and the first
    return result


def last_line(text: str) -> str:
    """What a program said last."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def run_peer(bench: Bench, sink: Sink, source: Path, address: str, topic: str, schedule: Path,
             hdr_log: Path) -> show.Result:
    """One peer, one round: PEER SCHEDULE OUT KEY=VALUE... (docs/formats.md)."""
    out = bench.out / "summary.json"
    out.unlink(missing_ok=True)
    settings = sink.settings | {"address": address, "topic": topic}
    words = [*command(bench, source), str(schedule), str(out),
             *(f"{key}={value}" for key, value in settings.items())]
    log, host = bench.out / f"{source.stem}.log", Host()
    with log.open("w", encoding="utf-8") as errors, subprocess.Popen(
            words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as peer:
        try:
            wait_until_ready(peer, log)
            assert peer.stdin
            peer.stdin.write("go\n")
            peer.stdin.flush()
            started = time.time()
            host.start(bench.options.warmup)
            peer.wait(bench.options.warmup + bench.options.seconds + DRAIN_S)
        except subprocess.TimeoutExpired:
            raise Failed("it did not end in time") from None
        finally:
            host.stop()
            peer.kill()
    if peer.returncode != 0 or not out.exists():
        raise Failed(last_line(log.read_text(encoding="utf-8")))
    summary = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    if log.stat().st_size == 0:
        log.unlink()
    hdrlog.write(hdr_log, started, bench.options.warmup, summary)
    result = peer_result(bench, sink, summary, schedule)
    result["generator"] |= {"hiccups": show.histogram(encode(host.hiccups), 0),
                            "steal_percent": round(host.steal_percent, 3)}
    return result


def wait_until_ready(peer: subprocess.Popen[str], log: Path) -> None:
    """Its line `ready`; a peer that says nothing for long is ended by an alarm."""
    def late(*_: object) -> None:
        peer.kill()

    signal.signal(signal.SIGALRM, late)
    signal.alarm(READY_S)
    assert peer.stdout
    line = peer.stdout.readline()
    signal.alarm(0)
    if line.strip() == "ready":
        return
    status = peer.wait()
    text = log.read_text(encoding="utf-8")
    missing = re.search(r"No module named '([^']+)'", text)
    if status == 77 or missing or status == 127:
        raise LeftOut(missing[0] if missing else last_line(text))
    raise Failed(last_line(text))


def peer_result(bench: Bench, sink: Sink, summary: dict[str, Any], schedule: Path) -> show.Result:
    """The summary as a result."""
    with schedule.open("rb") as file:
        header = json.loads(file.read(4096))
    load = header["load"] | {"schedule": str(schedule), "threads": 1, "topics": 1}
    frame = {"format": "salvo-result", "version": 1, "broker": sink.name,
             "started_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
             "warmup_s": header["warmup_s"], "duration_s": header["duration_s"], "processes": 1,
             "settings": sink.settings, "load": load, "machine": bench.machine,
             "mean_bytes": mean_bytes(schedule)}
    result = show.as_result(summary, frame)
    del result["mean_bytes"]
    result["acknowledged_in_all"] = summary["acknowledged_in_all"]
    return result


def mean_bytes(schedule: Path) -> float:
    """Of all values of a schedule."""
    import array

    fields = array.array("I")
    data = schedule.read_bytes()[4096:]
    fields.frombytes(data)
    sizes = fields[2::4]
    return sum(sizes) / len(sizes)


def one(bench: Bench, sink: Sink, name: str, source: Path | None, address: str, schedule: Path,
        round_number: int) -> show.Result:
    """One client, one round, on a topic of its own; written as a result file."""
    topic = f"peers-{os.getpid()}-{round_number}-{name}"
    path = bench.out / f"{sink.name}-{name}-{round_number}.json"
    log = path.with_suffix(".hlog")
    if source:
        result = run_peer(bench, sink, source, address, topic, schedule, log)
    else:
        result = run_salvo(bench, sink, address, topic, schedule, log)
    deadline = time.monotonic() + 10  # a RabbitMQ queue's length follows its confirms
    try:
        while (stored := sink.stored(address, topic)) < result["acknowledged_in_all"]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        sink.remove(address, topic)
    except Exception as why:  # any of three clients' own
        raise Failed(f"the server would not say what it has: {why}") from why
    result["lost"] = max(0, result.pop("acknowledged_in_all") - stored)
    if result["lost"]:
        bench.failures.append(f"{sink.name}: {name}, round {round_number}: {result['lost']} "
                              "acknowledged messages are not on the server")
    result["name"] = f"{sink.name} {result['client']}, round {round_number}"
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result


def producer_performance(bench: Bench, address: str, sink: Sink) -> float | None:
    """Kafka's own ProducerPerformance: its rate, as fast as it can, closed loop."""
    if not bench.classes or not bench.options.size.isdigit():
        return None
    count = 100_000 if bench.options.quick else 1_000_000
    size = max(1, int(bench.options.size))
    count = min(count, max(1000, PERF_BYTES_MOST * 200 // size))
    s = sink.settings
    done = subprocess.run(
        ["java", "-cp", bench.classpath, "org.apache.kafka.tools.ProducerPerformance", "--topic",
         f"peers-{os.getpid()}-perf", "--num-records", str(count), "--record-size", str(size),
         "--throughput", "-1", "--producer-props", f"bootstrap.servers={address}",
         f"acks={s['acks']}", f"enable.idempotence={s['idempotence']}",
         f"compression.type={s['compression']}", f"batch.size={s['batch_bytes']}",
         f"buffer.memory={s['buffer_bytes']}", f"linger.ms={int(s['linger_us']) // 1000}",
         f"max.in.flight.requests.per.connection={s['in_flight']}"],
        text=True, capture_output=True, check=False)
    found = re.findall(r"([0-9.]+) records/sec", done.stdout)
    if done.returncode != 0 or not found:
        bench.failures.append(f"ProducerPerformance: {last_line(done.stderr)}")
        return None
    return float(found[-1])


def measure(bench: Bench, sink: Sink, address: str, schedule: Path
            ) -> dict[str, list[show.Result]]:
    """All rounds of one sink, interleaved: each begins with another client."""
    clients: dict[str, Path | None] = {"salvo": None, **peers_of(sink.name)}
    wanted = bench.options.only.split(",") if bench.options.only else list(clients)
    results: dict[str, list[show.Result]] = {n: [] for n in clients if n in wanted}
    for r in range(bench.options.rounds):
        names = list(results)
        for name in names[r % len(names):] + names[: r % len(names)] if names else []:
            say(f"{sink.name}: round {r + 1} of {bench.options.rounds}: {name}")
            try:
                results[name].append(
                    one(bench, sink, name, clients[name], address, schedule, r + 1))
            except LeftOut as why:
                say(f"{sink.name}: {name} is left out: {why}")
                del results[name]
            except Failed as why:
                bench.failures.append(f"{sink.name}: {name}, round {r + 1}: {why}")
                say(bench.failures[-1])
    return {name: list_ for name, list_ in results.items() if list_}


def bench_sink(bench: Bench, sink: Sink) -> dict[str, Any]:
    """Start the server, measure, print; the rows go into the JSON."""
    o = bench.options
    schedule = write_schedule(bench, sink)
    say(f"{sink.name}: starting a server")
    sets = [word for line in sink.server for word in ("--set", line)]
    address = bench.broker(sink, "start", "--owner", str(os.getpid()), *sets)
    try:
        results = measure(bench, sink, address, schedule)
        rate = None
        if sink.name == "kafka" and not o.only:
            say("kafka: ProducerPerformance")
            rate = producer_performance(bench, address, sink)
    finally:
        bench.broker(sink, "stop")
    rows = {runs[0]["client"]: show.medians(runs) for runs in results.values()}
    title = (f"{sink.name}: {sink.rate} messages/s of {o.size} B ({o.arrivals}), {o.seconds} s x "
             f"{o.rounds} rounds, medians; {sink.about}; load average {os.getloadavg()[0]:.1f}")
    print(f"\n{show.table(title, rows)}")
    if any(row["late"] for row in rows.values()):
        print("*: calls began late by more than a tenth of the acknowledged p99: the client held "
              "the sending\n   thread up, or the machine did. Latencies count from the intended "
              "time all the same.")
    print(f"\n{show.bars(rows)}")
    if rate:
        print(f"ProducerPerformance, as fast as it can, closed loop: {rate:,.0f} messages/s")
        rows["ProducerPerformance"] = {"acknowledged_per_s": rate}
    sys.stdout.flush()
    return rows


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="script/bench peers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--sink", default="kafka,redis,rabbitmq", help="default: %(default)s")
    parser.add_argument("--rate", help="messages a second, as `salvo bench` takes it: 50k, "
                        "10k:5s,50k:5s; default 10k, RabbitMQ 2k")
    parser.add_argument("--size", default="100", help="bytes, as `salvo bench` takes it")
    parser.add_argument("--arrivals", default="poisson",
                        help="constant, poisson (default), burst:N")
    parser.add_argument("--payload", default="random", help="random (default) or ratio:R")
    parser.add_argument("--keys", default="0", help="0 (default), 1000, 1000:zipf")
    parser.add_argument("--seconds", type=int, help="measured; default 10")
    parser.add_argument("--warmup", type=int, help="seconds before it; default 3")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--linger-us", type=int, default=5000, help="Kafka: default %(default)s")
    parser.add_argument("--compression", default="none", help="Kafka: none (default), gzip, lz4, "
                        "zstd, snappy")
    parser.add_argument("--only", help="these clients: salvo,librdkafka")
    parser.add_argument("--out", help="folder for the results, one a client and round, for "
                        "`salvo report`; default build/peers/results")
    parser.add_argument("--quick", action="store_true",
                        help="1 round of 2 s at 2k/s, where not said otherwise")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    usual = {"rate": (None, "2k"), "seconds": (10, 2), "warmup": (3, 1), "rounds": (5, 1)}
    for key, values in usual.items():
        if getattr(options, key) is None:
            setattr(options, key, values[options.quick])
    for name in options.sink.split(","):
        if name not in SINKS:
            parser.error(f"--sink {name}: there are {', '.join(SINKS)}")
    if min(options.seconds, options.rounds) < 1 or options.warmup < 0 or options.linger_us < 0:
        parser.error("--seconds and --rounds are at least 1, --warmup and --linger-us at least 0")
    if options.linger_us % 1000:
        parser.error("--linger-us: KafkaProducer knows whole milliseconds: 5000")
    return options


def java(build: Path) -> tuple[str | None, str]:
    """Compile the Java peers: their folder and their class path, or None."""
    classes = build / "bench/peers/classes"
    done = subprocess.run([str(HERE / "java.sh"), str(classes)], text=True, capture_output=True,
                          check=False)
    if done.returncode != 0:
        say(f"Java is left out: {last_line(done.stderr)}")
        return None, ""
    return str(classes), done.stdout.strip()


def finite(value: Any) -> Any:
    """JSON has no infinity: null."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if value == math.inf else value


def main() -> None:
    """Measure each sink, print the tables."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = Path(options.out or HERE.parent.parent / "build/peers/results").resolve()
    out.mkdir(parents=True, exist_ok=True)
    kafka = "kafka" in options.sink
    classes, classpath = java(Path(options.build)) if kafka else (None, "")
    bench = Bench(options, out, classes, classpath)
    tables = {}
    for old in out.iterdir():  # of earlier runs
        if re.fullmatch(rf"({'|'.join(SINKS)})-\w+-\d+\.(json|hlog)", old.name):
            old.unlink()
    for name in options.sink.split(","):
        sink = SINKS[name](options.linger_us, options.compression)
        sink.rate = options.rate or sink.rate
        tables[name] = bench_sink(bench, sink)
    print(f"\nresults, one a client and round: {out} (salvo report {out}/*-1.json --out FILE.html)")
    for failure in bench.failures:
        print(f"FAILED: {failure}")
    lost = sum(row.get("lost", 0) for rows in tables.values() for row in rows.values())
    if options.json:
        print(json.dumps(finite({
            "size": options.size, "rounds": options.rounds,
            "seconds": options.seconds, "load_average": os.getloadavg()[0],
            "failures": len(bench.failures), "lost": lost, "sinks": tables})))
    sys.exit(1 if bench.failures else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

# SPDX-License-Identifier: Apache-2.0
"""Predicted and measured, side by side; started by bench/plan.sh, which has the help.

Guarantees: predictions are complete in a file before any load runs; rounds are interleaved, so
that drift of the machine spreads over all points; a point that does not repeat has no say.
"""
import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys
import time

# linger in us, batch_bytes: none of them is the probe's (no linger, the engine's batch size).
COMBINATIONS = [(2000, 16384), (5000, 65536), (10000, 262144), (20000, 131072)]
LOADS = [0.50, 0.70, 0.85]
SIZE = 100
WARM_UP = 800_000  # messages a second, in runs of 10 s
# Until three runs are alike; a Kafka's p50 doubles for a while after its first minute of load.
WARM_UP_RUNS = {"kafka": (8, 16), "redis": (3, 6)}
OVERLOAD = 20_000_000  # a generator that never sleeps, as where more is offered than goes through
UNRESOLVED = 0.15
STOLEN = 2.0  # per cent of the processors: what the host above a virtual machine takes is not ours
TRIES = 3     # for a probe, or a load of the limit's, that the host leaves in peace
LEAST_RESOLVED = 8
LEAST_ROUNDS = 3  # of a point that has a say
ADDRESS_KEY = {"kafka": "kafka_bootstrap_servers", "redis": "redis_url"}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def salvo(options, *arguments):
    done = subprocess.run([options.salvo, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"plan: salvo {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def settings(linger_us, batch_bytes):
    return ["-s", f"linger_us={linger_us}", "-s", f"batch_bytes={batch_bytes}"]


def bench(options, target, rate, seconds, *more):
    """One load; its result. Room for the limit's search: a full buffer blocks, never refuses."""
    driver, address = target
    path = options.out / "result.json"
    where = ["-s", f"{ADDRESS_KEY[driver]}={address}"] if address else []
    salvo(options, "bench", "--quiet", "-b", driver, *where, "-s", "full_policy=block",
          "--rate", str(int(rate)), "--size", str(SIZE), "--arrivals", "poisson",
          "--duration", f"{seconds}s", "--warmup", "2s", "--drain", "60", "--out", str(path), *more)
    return json.loads(path.read_text())


def stolen(got):
    return got["generator"]["steal_percent"]


def calm_bench(*arguments):
    """Of some tries the load that the host disturbed least; the first calm one ends them."""
    best = None
    for _ in range(TRIES):
        got = bench(*arguments)
        best = min(best or got, got, key=stolen)
        if stolen(best) <= STOLEN:
            break
    return best


def warm_up(options, target):
    p50s = []
    least, most = WARM_UP_RUNS[target[0]]
    while len(p50s) < least or (len(p50s) < most and max(p50s[-3:]) > 1.1 * min(p50s[-3:])):
        got = bench(options, target, WARM_UP, 10, *settings(*COMBINATIONS[1]))
        p50s.append(got["columns"]["acknowledged"]["p50_ns"] or float("inf"))


def measure_limit(options, target, combination, seconds, rate):
    """The most that is acknowledged a second: half as much again is offered until it does not go
    through, then a little more than what did, because an overload may cost more than it brings."""
    def through(rate):
        return calm_bench(options, target, rate, seconds,
                          *settings(*combination))["acknowledged_per_s"]

    best = through(rate)
    while best > 0.8 * rate and rate < OVERLOAD:
        rate *= 1.5
        best = max(best, through(rate))
    return max([best] + [through(best * share) for share in (1.1, 1.2)])


def with_generator(options, model):
    """The model for a host on which the generator runs too: its own work a message, measured over
    `null`, is that of the application's threads. On two cores it is a good part of all. Beside a
    producer at work it is as much dearer as the probe found its calls to be."""
    got = calm_bench(options, ("null", None), OVERLOAD, 2)
    model = json.loads(model.read_text())
    dearer = model.get("at_work", {}).get("send_permille", 1000) / 1000
    options.generator_ns = got["generator"]["cpu_ns_per_message"]
    model["client"]["send"]["call_ps"] += int(options.generator_ns * dearer * 1000)
    path = options.out / "model-with-generator.json"
    path.write_text(json.dumps(model))
    return path


def naps(options, rate):
    """Cores that the generator takes for its sleeps between messages, beside that work."""
    got = calm_bench(options, ("null", None), rate, 2)
    more = got["generator"]["cpu_ns_per_message"] - options.generator_ns
    return max(0, round(rate * more / 1e9, 3))


def predict(options, model, combination, rate, busy):
    cores = ["--app-busy", str(busy)] if busy > 0 else []
    return json.loads(salvo(options, "plan", "predict", "--json", "--broker-model", str(model),
                            "--rate", str(int(rate)), "--size", str(SIZE), *cores,
                            "-s", "full_policy=block", *settings(*combination)))


def predict_all(options, model, combination, measured, busy):
    """The limit and what is at each of the loads, which are shares of the measured limit."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        beyond, *at_loads = pool.map(
            lambda case: predict(options, model, combination, measured * case[0], case[1]),
            zip([1] + LOADS, busy))
    return beyond["limit_per_s"], at_loads


def probe(options, target, name="model"):
    """The model of the probe that the host disturbed least; the first calm one ends it."""
    driver, address = target
    model, attempt = (options.out / f"{which}-{driver}.json" for which in (name, "attempt"))
    model.unlink(missing_ok=True)
    for _ in range(TRIES):
        say(f"{driver}: salvo probe")
        salvo(options, "probe", "--quiet", "-b", driver, "-s", f"{ADDRESS_KEY[driver]}={address}",
              "--size", str(SIZE), "--seconds", "30" if options.quick else "110",
              "--out", str(attempt))
        taken = json.loads(attempt.read_text())["steal_permille"] / 10
        if not model.exists() or taken < least:
            attempt.replace(model)
            least = taken
        if taken <= STOLEN:
            break
        say(f"{driver}: the host took {taken:.0f} % of the processors meanwhile")
    return model


def play(options, target, point):
    """One load of a point. False: the host took too much meanwhile, the load has no say."""
    got = bench(options, target, point["rate"], options.seconds,
                *settings(point["linger_us"], point["batch_bytes"]))
    if stolen(got) > STOLEN:
        point["disturbed"] += 1
        return False
    column = got["columns"]["acknowledged"]
    if not got["valid"]:
        point["invalid"] += 1  # the generator was late: nothing was measured
        return True
    for name in ("p50_ns", "p99_ns"):  # none: more failed than that, which is infinite
        point[name].append(float("inf") if column[name] is None else column[name])
    return True


def play_rounds(options, target, points):
    """Disturbed loads come again after the last round, as many as one round has at most."""
    again = []
    for turn in range(options.rounds):
        say(f"{target[0]}: round {turn + 1} of {options.rounds}")
        again += [point for point in points if not play(options, target, point)]
    if again:
        say(f"{target[0]}: the host disturbed {len(again)} loads, once more")
    for point in again[:len(points)]:
        play(options, target, point)


def run_broker(options, target):
    driver, _ = target
    say(f"{driver}: warming up")
    warm_up(options, target)
    model = probe(options, target)
    probed = json.loads(model.read_text())
    naive_ns = probed["sweep"][0]["p99_ns"]
    model = with_generator(options, model)
    # The limits first: the loads are shares of what was measured. Then every prediction, to disk.
    limits, points = [], []
    for combination in COMBINATIONS:
        say(f"{driver}: the limit with a linger of {combination[0]} us, {combination[1]} B")
        measured = measure_limit(options, target, combination, 3 if options.quick else 10,
                                 probed["limit"]["messages_per_s"])
        busy = [0] + [naps(options, measured * load) for load in LOADS]
        limit, predictions = predict_all(options, model, combination, measured, busy)
        limits.append({"linger_us": combination[0], "batch_bytes": combination[1],
                       "measured_per_s": measured, "predicted_per_s": limit, "busy": busy})
        for load, said in zip(LOADS, predictions):
            points.append({"broker": driver, "linger_us": combination[0],
                           "batch_bytes": combination[1], "load": load, "rate": measured * load,
                           "predicted_p50_ns": said["p50_ns"], "predicted_p99_ns": said["p99_ns"],
                           "naive_p99_ns": combination[0] * 1000 + naive_ns,
                           "p50_ns": [], "p99_ns": [], "disturbed": 0, "invalid": 0})
    (options.out / f"predictions-{driver}.json").write_text(
        json.dumps({"made_at": time.time(), "limits": limits, "points": points}, indent=1))
    play_rounds(options, target, points)
    predict_again(options, target, limits, points)
    return limits, points


def predict_again(options, target, limits, points):
    """By a probe after the rounds: what the machine's change meanwhile did to the predictions."""
    model = with_generator(options, probe(options, target, "model-afterwards"))
    for row in limits:
        combination = (row["linger_us"], row["batch_bytes"])
        own = [p for p in points if (p["linger_us"], p["batch_bytes"]) == combination]
        row["afterwards_per_s"], predictions = predict_all(options, model, combination,
                                                           row["measured_per_s"], row["busy"])
        for point, said in zip(own, predictions):
            point.update(afterwards_p50_ns=said["p50_ns"], afterwards_p99_ns=said["p99_ns"])


def repeat_error(values):
    """Each round against the median of the others; the median of these."""
    if len(values) < LEAST_ROUNDS:
        return float("inf")
    errors = []
    for i, value in enumerate(values):
        others = statistics.median(values[:i] + values[i + 1:])
        infinite = float("inf") in (value, others)
        errors.append(float("inf") if infinite else abs(value - others) / others)
    return statistics.median(errors)


def off(predicted, measured):
    if predicted is None or measured == float("inf"):
        return float("inf")
    return abs(predicted - measured) / measured


def judge(point):
    """Errors of one point; p99's repeat error decides whether it is resolved."""
    point["repeat_error"] = max(repeat_error(point["p50_ns"]), repeat_error(point["p99_ns"]))
    point["resolved"] = point["repeat_error"] <= UNRESOLVED
    if point["p50_ns"]:
        p50, p99 = statistics.median(point["p50_ns"]), statistics.median(point["p99_ns"])
        point.update(measured_p50_ns=p50, measured_p99_ns=p99,
                     p50_error=off(point["predicted_p50_ns"], p50),
                     p99_error=off(point["predicted_p99_ns"], p99),
                     naive_error=off(point["naive_p99_ns"], p99))


def ms(ns):
    return "-" if ns in (None, float("inf")) else f"{ns / 1e6:.2f}"


def table(limits, points):
    print("limit, messages/s     linger us  batch B   predicted    measured    off")
    for driver, rows in limits.items():
        for row in rows:
            share = row["predicted_per_s"] / row["measured_per_s"] - 1
            print(f"{driver:<20} {row['linger_us']:>10} {row['batch_bytes']:>8} "
                  f"{row['predicted_per_s']:>11,.0f} {row['measured_per_s']:>11,.0f} "
                  f"{share:>+6.0%}")
    print("\nlatency, ms   linger us  batch B load  p50 predicted measured   "
          "p99 predicted measured  naive  repeat")
    for p in points:
        print(f"{p['broker']:<12} {p['linger_us']:>10} {p['batch_bytes']:>8} {p['load']:>4.0%} "
              f"{ms(p['predicted_p50_ns']):>14} {ms(p.get('measured_p50_ns')):>8} "
              f"{ms(p['predicted_p99_ns']):>15} {ms(p.get('measured_p99_ns')):>8} "
              f"{ms(p['naive_p99_ns']):>6} {p['repeat_error']:>6.0%}"
              f"{'' if p['resolved'] else '  unresolved'}")


def drift(limits, points):
    """Of predictions between the two probes; medians."""
    moved = {
        "limit": median(off(r["afterwards_per_s"], r["predicted_per_s"])
                           for rows in limits.values() for r in rows),
        "p50": median(off(p["afterwards_p50_ns"], p["predicted_p50_ns"] or float("inf"))
                         for p in points),
        "p99": median(off(p["afterwards_p99_ns"], p["predicted_p99_ns"] or float("inf"))
                         for p in points)}
    print("\na probe after the rounds predicts otherwise by: " +
          ", ".join(f"{name} {told(by)}" for name, by in moved.items()))
    return finite(moved)


def finite(point):
    """For JSON, which has no infinity."""
    def known(v):
        return None if v == float("inf") else v
    return {k: [known(x) for x in v] if isinstance(v, list) else known(v)
            for k, v in point.items()}


def median(values):
    """None: of nothing. What never comes, where it was predicted or measured to, is infinite."""
    values = list(values)
    return round(statistics.median(values), 4) if values else None


def told(error):
    return "no point" if error is None else "infinite" if error == float("inf") else f"{error:.0%}"


def verdict(limits, points):
    resolved = [p for p in points if p["resolved"]]
    calm = [p for p in resolved if p["load"] < 0.8]
    high = [p for p in resolved if p["load"] >= 0.8]
    summary = {
        "bench": "plan",
        "throughput_error": median(off(r["predicted_per_s"], r["measured_per_s"])
                                   for rows in limits.values() for r in rows),
        "p50_error": median(p["p50_error"] for p in resolved),
        "p99_error": median(p["p99_error"] for p in calm),
        "p99_error_at_85": median(p["p99_error"] for p in high),
        "naive_error": median(p["naive_error"] for p in resolved),
        "repeat_error": median(p["repeat_error"] for p in points),
        "unresolved": len(points) - len(resolved),
        "disturbed": sum(p["disturbed"] for p in points),
        "invalid": sum(p["invalid"] for p in points)}
    if summary["invalid"]:
        print(f"\n{summary['invalid']} loads were invalid: the generator was late")
    if summary["disturbed"]:
        print(f"\n{summary['disturbed']} loads have no say: the host took more than {STOLEN:.0f} % "
              "of the processors meanwhile")
    summary["verdict"] = judge_all(summary, resolved, len(points))
    return summary


def judge_all(summary, resolved, count):
    goals = {"throughput_error": 0.15, "p50_error": 0.15, "p99_error": 0.25,
             "p99_error_at_85": 0.40}
    if len(resolved) < LEAST_RESOLVED:
        print(f"\nno verdict: {len(resolved)} of {count} points are resolved, "
              f"{LEAST_RESOLVED} are needed; is the machine busy?")
        return "none"
    missed = [f"{name} {told(summary[name])} (goal {goal:.0%})" for name, goal in goals.items()
              if summary[name] is None or summary[name] > goal]
    ours = median(p["p99_error"] for p in resolved)
    if ours >= summary["naive_error"]:
        missed.append(f"p99 off by {told(ours)}, the naive guess by "
                      f"{told(summary['naive_error'])}")
    print("\ngoals met" if not missed else "\nmissed: " + "; ".join(missed))
    return "missed" if missed else "met"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--salvo", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int)
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (5 if options.quick else 30)
    limits, points = {}, []
    for target in options.target:
        driver, address = target.split("=", 1)
        limits[driver], more = run_broker(options, (driver, address))
        points += more
    for point in points:
        judge(point)
    table(limits, points)
    moved = drift(limits, points)
    summary = {**finite(verdict(limits, points)), "drift": moved}
    (options.out / "plan.json").write_text(
        json.dumps({"summary": summary, "limits": limits,
                    "points": [finite(p) for p in points]}, indent=1))
    if options.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()

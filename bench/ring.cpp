// SPDX-License-Identifier: Apache-2.0
/* The ring against concurrencykit's ring in its multi-producer mode and a mutex queue, 1 to 8
 * producers and one consumer, 100 B copied in and out (google-benchmark); then 1 to 64 threads
 * through the engine into `null`.
 * Guarantees: equal bounds, equal consumer; a put that found its queue full yields and is tried
 * again inside the measured time, and the share of such puts is printed; medians of repetitions
 * in random order. */
#include "ring_queues.h"

extern "C" {
#include "harness.h"
}

#include <atomic>
#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstring>
#include <map>
#include <sched.h>
#include <string>
#include <thread>
#include <vector>

namespace {

uint64_t window_ns = 200000000; // of one measurement

struct queue_run { // of the benchmark that runs now
    void *queue = nullptr;
    std::atomic<bool> stop{false};
    std::thread consumer;
} run;

void consume(const queue_ops *ops)
{
    while (!run.stop.load(std::memory_order_relaxed)) {
        if (ops->take(run.queue) == 0) {
            struct timespec nap = {0, 20000};
            nanosleep(&nap, nullptr);
        }
    }
    while (ops->take(run.queue) != 0) {
    }
}

void put_values(benchmark::State &state, const queue_ops *ops)
{
    if (state.thread_index() == 0) { // the others wait at the loop's start
        run.queue = ops->open();
        run.stop = false;
        run.consumer = std::thread(consume, ops);
    }
    unsigned char value[QUEUE_VALUE_BYTES] = {0};
    int64_t full = 0, items = 0;
    for (auto _ : state) { // once: bounded by time, a queue may all but stop with many threads
        const uint64_t until_ns = bench_now_ns() + window_ns;
        do {
            for (int i = 0; i < 16; i++, items++) {
                while (ops->put(run.queue, value) != 0) {
                    full++;
                    sched_yield();
                }
            }
        } while (bench_now_ns() < until_ns);
    }
    state.SetItemsProcessed(items);
    state.counters["full"] = benchmark::Counter(
        static_cast<double>(full) / static_cast<double>(items), benchmark::Counter::kAvgThreads);
    if (state.thread_index() == 0) { // after the loop's end, where the others have come, too
        run.stop = true;
        run.consumer.join();
        ops->close(run.queue);
    }
}

// Prints as google-benchmark does and keeps the medians for the JSON line.
class keeper : public benchmark::ConsoleReporter {
public:
    std::map<std::string, double> per_second;

    keeper() : ConsoleReporter(OO_Tabular) {}

    void ReportRuns(const std::vector<Run> &runs) override
    {
        ConsoleReporter::ReportRuns(runs);
        for (const Run &r : runs) {
            auto rate = r.counters.find("items_per_second");
            if (rate != r.counters.end() && r.aggregate_name == "median")
                per_second[r.run_name.function_name + "_" + std::to_string(r.threads)] =
                    rate->second.value;
        }
    }
};

void print_engine(const engine_point *points, bench_json *json)
{
    std::printf("\nthrough the engine into null, 100 B, timer included\n"
                "threads  paced p50     p99   saturated p50       p99    calls/s  refused\n");
    for (int i = 0; i < ENGINE_POINTS; i++) {
        const engine_point &p = points[i];
        char text[4][32], name[40];
        std::printf("%7d  %9s %7s   %13s %9s %10.0f %8llu\n", p.threads,
                    bench_time_text(p.paced_p50_ns, text[0], sizeof text[0]),
                    bench_time_text(p.paced_p99_ns, text[1], sizeof text[1]),
                    bench_time_text(p.full_p50_ns, text[2], sizeof text[2]),
                    bench_time_text(p.full_p99_ns, text[3], sizeof text[3]), p.full_per_second,
                    p.refused);
        std::snprintf(name, sizeof name, "engine_p50_ns_%d", p.threads);
        bench_json_number(json, name, p.paced_p50_ns);
        std::snprintf(name, sizeof name, "engine_p99_ns_%d", p.threads);
        bench_json_number(json, name, p.paced_p99_ns);
    }
}

} // namespace

int main(int argc, char **argv)
{
    bool quick = false, json_wanted = false;
    double repetitions = 5, calls = 400e3, rate = 200e3;
    const char *set = nullptr;
    const bench_option options[] = {
        {"quick", nullptr, &quick, nullptr, 0, 0, "shorter, for development"},
        {"json", nullptr, &json_wanted, nullptr, 0, 0, "one JSON object as the last line"},
        {"rounds", &repetitions, nullptr, nullptr, 1, 50, "repetitions"},
        {"calls", &calls, nullptr, nullptr, 1e4, 1e8, "through the engine, a point"},
        {"rate", &rate, nullptr, nullptr, 1e3, 1e7, "of all threads together, paced"},
        {"set", nullptr, nullptr, &set, 0, 0, "key=value,... of Salvo's configuration"},
    };
    bench_options(argc, argv, "The ring beside other queues; the engine with many threads.",
                  options, sizeof options / sizeof options[0]);
    if (quick) {
        repetitions = 2;
        calls = 100e3;
        window_ns = 30000000;
    }
    bench_time_init();

    std::string many = "--benchmark_repetitions=" + std::to_string(static_cast<int>(repetitions));
    char random[] = "--benchmark_enable_random_interleaving=true",
         only[] = "--benchmark_report_aggregates_only=true";
    char *arguments[] = {argv[0], many.data(), random, only, nullptr};
    int count = 4;
    benchmark::Initialize(&count, arguments);
    for (const queue_ops *ops : {&queue_salvo_ring, &queue_ck_ring, &queue_mutex})
        benchmark::RegisterBenchmark(ops->name, put_values, ops)
            ->ThreadRange(1, 8)
            ->Iterations(1)
            ->UseRealTime();
    keeper reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);

    bench_json json = {};
    std::printf("\nputs a second, all producers together\n");
    for (const auto &[name, value] : reporter.per_second) {
        bench_bar(name.c_str(), value, 1e5, 1e8, "/s");
        bench_json_number(&json, (name + "_per_second").c_str(), value);
    }
    engine_point points[ENGINE_POINTS];
    engine_scaling(points, static_cast<int>(calls), rate, set);
    print_engine(points, &json);
    if (json_wanted)
        bench_json_print(&json);
    return 0;
}

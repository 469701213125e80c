/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo record`: a trace of a running producer's traffic, from outside (salvo/tape.h). What came
 * too fast to be recorded is counted; refusals and blocking are in it, so that demand that was
 * throttled is seen. Payloads and keys are not.
 */
#include "record.h"

#include "load_draw.h"
#include "load_pace.h"
#include "load_source.h"

#include <salvo/tape.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define BLOCKED_STEP_NS UINT64_C(1000)
enum { PRODUCERS = 256, AT_ONCE = 4096, BEGIN_MS = 3000, RAW_PER_BYTE = 4, POLL_MS = 5 };

static const char help[] =
    "usage: salvo record [PID|NAME] --out FILE [OPTION...]\n"
    "       salvo record --from-csv FILE --out FILE [--scale X]\n"
    "\n"
    "Records when a running producer of this user sends, how much and to which topic, for\n"
    "`salvo plan --trace` and `salvo bench --trace`: without payloads, keys as hashes with a salt\n"
    "that is stored nowhere, in gzip. NAME is the program's or its client id; with one producer\n"
    "on the host none is needed. Ctrl-C ends a recording early and keeps it.\n"
    "Status 0 written; 1 failed; 2 usage.\n"
    "\n"
    "  -o, --out FILE       the trace\n"
    "      --seconds N      to record; default 60\n"
    "      --max-bytes N    of the file at most: 64M (default), 500k\n"
    "      --scale X        write times divided by X: X times as fast\n"
    "      --from-csv FILE  make a trace of a file with columns at_s (or at_ms, at_us, at_ns),\n"
    "                       bytes, and optionally key, key_bytes, topic, fate; - for standard\n"
    "                       input. Not with --seconds, --dir\n"
    "      --dir DIR        the producers' stats_dir, where it is not the default\n"
    "  -q, --quiet          no progress\n";

enum { OPT_SECONDS = CLI_LONG_ONLY, OPT_MAX, OPT_SCALE, OPT_CSV, OPT_DIR };

typedef struct recording {
    const char *out, *csv, *directory, *who;
    double seconds;
    bool quiet;
    const char *live_only; /* an option that CSV has no use for */
    salvo_trace trace;
    salvo_watch *watch;     /* the producer's counters */
    salvo_tape_entry *held; /* word of blocked messages */
    size_t held_count, held_room;
} recording;

static bool take(recording *r, int option)
{
    const char *end;
    double number;
    switch (option) {
    case 'o': r->out = optarg; return true;
    case 'q': r->quiet = true; return true;
    case OPT_CSV: r->csv = optarg; return true;
    case OPT_DIR: r->directory = optarg; r->live_only = "--dir"; return true;
    case OPT_SECONDS:
        r->live_only = "--seconds";
        if (salvo_load_seconds(optarg, &end, &r->seconds) && *end == '\0' && r->seconds > 0)
            return true;
        salvo_cli_usage("record", "--seconds: `%s` is not a time such as 60 or 10m", optarg);
        return false;
    case OPT_MAX:
        if (salvo_load_number(optarg, &end, &number) && *end == '\0' && number >= 1e5 &&
            number <= 1e12) {
            r->trace.max_bytes = (uint64_t)number;
            return true;
        }
        salvo_cli_usage("record", "--max-bytes: `%s` is not a size from 100k on", optarg);
        return false;
    case OPT_SCALE:
        if (salvo_load_number(optarg, &end, &number) && *end == '\0' && number >= 0.001 &&
            number <= 1000) {
            r->trace.scale = number;
            return true;
        }
        salvo_cli_usage("record", "--scale: `%s` is not from 0.001 to 1000", optarg);
        return false;
    default: return false;
    }
}

static int parse(int argc, char **argv, recording *r)
{
    static const struct option options[] = {
        {"out", required_argument, NULL, 'o'}, {"seconds", required_argument, NULL, OPT_SECONDS},
        {"max-bytes", required_argument, NULL, OPT_MAX},
        {"scale", required_argument, NULL, OPT_SCALE},
        {"from-csv", required_argument, NULL, OPT_CSV}, {"dir", required_argument, NULL, OPT_DIR},
        {"quiet", no_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'}, {0}};
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "record", "o:qh", options)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?' || !take(r, option))
            return CLI_USAGE;
    }
    if (optind < argc)
        r->who = argv[optind++];
    if (optind < argc)
        return salvo_cli_usage("record", "unexpected argument `%s`", argv[optind]);
    if (r->out == NULL || *r->out == '\0')
        return salvo_cli_usage("record", "where to? --out FILE");
    if (r->csv != NULL && r->who != NULL)
        return salvo_cli_usage("record", "--from-csv and `%s` exclude each other", r->who);
    if (r->csv != NULL && r->live_only != NULL)
        return salvo_cli_usage("record", "%s is for a running producer, not for --from-csv",
                               r->live_only);
    return 0;
}

static bool is_meant(const recording *r, const salvo_watch_info *info)
{
    char pid[24];
    snprintf(pid, sizeof pid, "%lld", (long long)info->pid);
    return info->alive && (r->who == NULL || strcmp(r->who, pid) == 0 ||
                           strcmp(r->who, info->program) == 0 ||
                           strcmp(r->who, info->client_id) == 0);
}

/* The one that is meant; more than one: the pids are told. */
static bool find(const recording *r, salvo_watch_info *found)
{
    salvo_watch_info *infos = salvo_cli_alloc(PRODUCERS * sizeof *infos);
    int n = salvo_watch_list(r->directory, infos, PRODUCERS), alike = 0;
    char pids[200] = "";
    for (int i = 0; i < n && i < PRODUCERS; i++) {
        if (!is_meant(r, &infos[i]))
            continue;
        *found = infos[i];
        alike++;
        size_t length = strlen(pids);
        snprintf(pids + length, sizeof pids - length, "%s%lld", length != 0 ? ", " : "",
                 (long long)infos[i].pid);
    }
    free(infos);
    if (alike == 1)
        return true;
    if (n < 0)
        salvo_cli_say("record: %s", salvo_last_error());
    else if (alike > 1)
        salvo_cli_say("record: %d producers are meant; name one by its process: %s", alike, pids);
    else
        salvo_cli_say(r->who != NULL ? "record: no running producer is `%s`; see `salvo top`"
                                     : "record: no producer of this user runs on this host%s",
                      r->who != NULL ? r->who : "");
    return false;
}

static void hold(recording *r, const salvo_tape_entry *e)
{
    if (r->held_count == r->held_room) {
        r->held_room = r->held_room != 0 ? 2 * r->held_room : 256;
        r->held = salvo_cli_realloc(r->held, r->held_room * sizeof *r->held);
    }
    if (r->held_count < r->trace.most)
        r->held[r->held_count++] = *e;
}

static void take_entries(recording *r, const salvo_tape_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const salvo_tape_entry *e = &entries[i];
        if (e->fate != SALVO_TAPE_ACCEPTED && e->fate < SALVO_TAPE_REFUSED_LATE) {
            hold(r, e);
            continue;
        }
        (void)salvo_trace_add(&r->trace, &(salvo_trace_message){
                                             .at_ns = e->stamp_ns, .value_bytes = e->value_bytes,
                                             .key = e->key, .topic = e->topic,
                                             .key_bytes = e->key_bytes, .fate = e->fate});
    }
}

static int by_stamp(const void *a, const void *b)
{
    const salvo_tape_entry *x = a, *y = b;
    return x->stamp_ns != y->stamp_ns ? (x->stamp_ns > y->stamp_ns) - (x->stamp_ns < y->stamp_ns)
                                      : (x->topic > y->topic) - (x->topic < y->topic);
}

/* What the producer's stamps can tell apart, which come from this clock or from the TSC below it.
 * The kernel says 1 ns of any timer, so it is looked: one that stands still between calls is
 * coarser than a call takes. */
static uint64_t clock_step_ns(void)
{
    enum { LOOKS = 1000 };
    uint64_t least_ns = UINT64_MAX, last_ns = salvo_cli_now_ns();
    unsigned still = 0;
    for (unsigned i = 0; i < LOOKS; i++) {
        uint64_t now_ns = salvo_cli_now_ns(), step_ns = now_ns - last_ns;
        still += step_ns == 0;
        if (step_ns != 0 && step_ns < least_ns)
            least_ns = step_ns;
        last_ns = now_ns;
    }
    struct timespec told;
    clock_getres(CLOCK_MONOTONIC, &told);
    uint64_t told_ns = (uint64_t)told.tv_sec * SECOND + (uint64_t)told.tv_nsec;
    return still > LOOKS / 10 && least_ns > told_ns && least_ns != UINT64_MAX ? least_ns : told_ns;
}

/* Messages that were blocked began earlier than their stamps, by whole us. */
static void apply_held(recording *r)
{
    if (r->held_count == 0)
        return;
    qsort(r->held, r->held_count, sizeof *r->held, by_stamp);
    for (size_t i = 0; i < r->trace.count; i++) {
        salvo_trace_message *m = &r->trace.list[i];
        salvo_tape_entry key = {.stamp_ns = m->at_ns, .topic = m->topic};
        const salvo_tape_entry *word = m->fate != 0 ? NULL
            : bsearch(&key, r->held, r->held_count, sizeof *r->held, by_stamp);
        if (word == NULL)
            continue;
        uint64_t waited_ns = (uint64_t)word->fate * BLOCKED_STEP_NS;
        m->fate = word->fate;
        m->at_ns -= waited_ns < m->at_ns ? waited_ns : m->at_ns;
        if (r->trace.resolution_ns < BLOCKED_STEP_NS)
            r->trace.resolution_ns = BLOCKED_STEP_NS;
    }
}

/* Names of the topics, as the producer's counters have them, also when it has ended. False: there
 * are too many. */
static bool take_names(recording *r)
{
    salvo_ledger ledger;
    const char *name;
    char number[32];
    uint16_t most = 0;
    bool good = salvo_watch_update(r->watch) == 0;
    for (size_t i = 0; i < r->trace.count; i++)
        most = r->trace.list[i].topic > most ? r->trace.list[i].topic : most;
    for (unsigned i = 0; i <= most; i++) {
        snprintf(number, sizeof number, "topic-%u", i);
        bool known = good && salvo_watch_get_topic(r->watch, i, &name, &ledger) == 0;
        if (salvo_trace_topic(&r->trace, known ? name : number) != (int)i)
            break;
    }
    return r->trace.topic_count == (size_t)most + 1;
}

static bool lives(const recording *r)
{
    salvo_watch_info now = {.size = sizeof now};
    return salvo_watch_get_info(r->watch, &now) == 0 && now.alive != 0;
}

static void show_progress(const recording *r, uint64_t left_ns)
{
    if (r->quiet || isatty(STDERR_FILENO) == 0)
        return;
    fprintf(stderr, "\r\033[K%zu messages, %llu lost, %llu s left", r->trace.count,
            (unsigned long long)r->trace.lost, (unsigned long long)(left_ns / SECOND));
    fflush(stderr);
    salvo_cli_progress_shown(true);
}

static void listen_to(recording *r, salvo_tape *tape)
{
    salvo_tape_entry *entries = salvo_cli_alloc(AT_ONCE * sizeof *entries);
    uint64_t now_ns = salvo_cli_now_ns(), shown_ns = now_ns;
    uint64_t end_ns = now_ns + (uint64_t)(r->seconds * 1e9);
    while (now_ns < end_ns && salvo_cli_signals() == 0 && !r->trace.truncated) {
        size_t n = salvo_tape_read(tape, entries, AT_ONCE, &r->trace.lost);
        take_entries(r, entries, n);
        now_ns = salvo_cli_now_ns();
        if (now_ns - shown_ns > SECOND) {
            shown_ns = now_ns;
            show_progress(r, end_ns - now_ns);
            if (n == 0 && !lives(r)) {
                salvo_cli_say("record: the producer has ended; what it sent until then is kept");
                break;
            }
        }
        if (n < AT_ONCE / 2) {
            struct timespec nap = {0, POLL_MS * 1000000L};
            nanosleep(&nap, NULL);
        }
    }
    take_entries(r, entries, salvo_tape_read(tape, entries, AT_ONCE, &r->trace.lost));
    salvo_cli_progress_shown(false);
    if (!r->quiet && isatty(STDERR_FILENO) != 0)
        fputs("\r\033[K", stderr);
    free(entries);
}

static int record(recording *r)
{
    salvo_watch_info info = {.size = sizeof info};
    salvo_tape *tape = NULL;
    if (!find(r, &info))
        return CLI_FAILED;
    salvo_cli_catch_signals();
    /* The watch is kept from here on: a producer that ends takes the path of its counters along. */
    if (salvo_watch_open(info.path, &r->watch) != 0 ||
        salvo_tape_open(&info, BEGIN_MS, &tape) != 0) {
        salvo_cli_say("record: process %lld: %s", (long long)info.pid, salvo_last_error());
        return CLI_FAILED;
    }
    r->trace.started_at_ms = salvo_load_unix_ns() / MS;
    listen_to(r, tape);
    salvo_tape_close(tape);
    if (r->trace.count == 0) {
        salvo_cli_say("record: process %lld sent nothing", (long long)info.pid);
        return CLI_FAILED;
    }
    r->trace.resolution_ns = clock_step_ns();
    apply_held(r);
    if (!take_names(r)) {
        salvo_cli_say("record: process %lld has more topics than a trace can name",
                      (long long)info.pid);
        return CLI_FAILED;
    }
    return 0;
}

static int unwritable(const char *path, const char *why)
{
    salvo_cli_say("record: cannot write %s: %s", path, why);
    return CLI_FAILED;
}

/* Before a recording that nobody can repeat: whatever would fail at its end. 0, or a status. */
static int check_out(const char *path, const char *csv)
{
    char part[TRACE_PATH];
    struct stat st, source;
    if (!salvo_trace_part(path, part))
        return unwritable(path, "the path is too long");
    bool there = stat(path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        return unwritable(path, "it is a directory; name a file");
    if (there && !S_ISREG(st.st_mode))
        return unwritable(path, "it is no regular file");
    if (there && csv != NULL && stat(csv, &source) == 0 && source.st_dev == st.st_dev &&
        source.st_ino == st.st_ino)
        return unwritable(path, "it is what --from-csv reads");
    FILE *file = fopen(part, "we");
    if (file == NULL)
        return unwritable(path, strerror(errno));
    fclose(file);
    unlink(part);
    return 0;
}

static void tell(const recording *r)
{
    const salvo_trace *t = &r->trace;
    size_t refused = 0, blocked = 0;
    for (size_t i = 0; i < t->count; i++) {
        refused += t->list[i].fate >= SALVO_TAPE_REFUSED_LATE;
        blocked += t->list[i].fate != 0 && t->list[i].fate < SALVO_TAPE_REFUSED_LATE;
    }
    double seconds = (double)t->list[t->count - 1].at_ns / 1e9 / t->scale;
    salvo_cli_say("%s: %zu messages of %zu topics in %.1f s, %zu refused, %zu blocked, %llu lost%s",
                  r->out, t->count, t->topic_count, seconds, refused, blocked,
                  (unsigned long long)t->lost, t->truncated ? "; cut by --max-bytes" : "");
}

/* Also with --quiet: what is planned from such a trace is off. */
static void warn(const recording *r)
{
    const salvo_trace *t = &r->trace;
    if (t->lost != 0)
        salvo_cli_say("record: %llu of %llu messages came too fast to be recorded: record again "
                      "with a core free for it, or plan with --scale %.2f",
                      (unsigned long long)t->lost, (unsigned long long)(t->count + t->lost),
                      1.0 + (double)t->lost / (double)t->count);
    if (t->truncated)
        salvo_cli_say("record: --max-bytes %llu was full after %.1f s; what came later is not in "
                      "it: raise it%s", (unsigned long long)t->max_bytes,
                      (double)t->list[t->count - 1].at_ns / 1e9,
                      r->csv == NULL ? ", or record fewer --seconds" : "");
}

static int run(int argc, char **argv)
{
    recording r = {.seconds = 60, .trace = {.max_bytes = 64000000, .scale = 1}};
    int status = parse(argc, argv, &r);
    r.trace.started_at_ms = salvo_load_unix_ns() / MS;
    r.trace.most = (size_t)(r.trace.max_bytes / TRACE_RECORD * RAW_PER_BYTE);
    if (status == 0)
        status = check_out(r.out, r.csv);
    if (status == 0)
        status = r.csv != NULL ? salvo_trace_from_csv(&r.trace, r.csv) : record(&r);
    if (status == 0) {
        salvo_trace_sort(&r.trace);
        status = salvo_trace_write(&r.trace, r.out);
    }
    if (status == 0 && !r.quiet)
        tell(&r);
    if (status == 0)
        warn(&r);
    salvo_watch_close(r.watch);
    free(r.held);
    salvo_trace_free(&r.trace);
    return status < 0 ? CLI_OK : status;
}

const salvo_cli_command salvo_cli_record = {"record", "a trace of a running producer", help, run};

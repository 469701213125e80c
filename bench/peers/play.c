/* SPDX-License-Identifier: Apache-2.0
 *
 * The C peers' common part. Open loop: each message has its intended time, and latencies count
 * from it. The generator's own CPU (waiting for due times, making values ready) is not the
 * client's: the sending thread counts with its calls only, unless it serves the connection too.
 */
#include "play.h"

#include "load_pace.h"
#include "load_payload.h"
#include "load_source.h"

#include <math.h>
#include <salvo/histogram.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_MS 30000u
#define BURST 32u /* messages that are late and sent without looking at answers */
#define CHECKED 1000u

typedef struct play_counts {
    uint64_t offered, accepted, acknowledged, failed, settled_in_all, acknowledged_in_all;
} play_counts;

/* What was known in one second of the measured part: the sending thread counts the first two, the
 * one that takes outcomes the others. The last second has what came after it, too. */
typedef struct play_second {
    uint64_t offered, accepted, failed;
    salvo_histogram *acknowledged;
} play_second;

struct play {
    const play_client *client;
    char **settings;
    int setting_count;
    bool asked[64];
    salvo_load load;
    unsigned char *block;
    uint64_t start_ns, start_unix_ns, warmup_ns;
    play_counts counts;
    uint64_t call_ns, last_ns; /* of the last outcome */
    salvo_histogram *call, *accepted, *lateness;
    play_second *seconds;
    size_t second_count;
};

void play_die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("peer: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(1);
}

uint64_t play_now_ns(void)
{
    return salvo_load_now_ns();
}

const char *play_text(play *p, const char *key)
{
    size_t length = strlen(key);
    for (int i = 0; i < p->setting_count; i++) {
        if (strncmp(p->settings[i], key, length) != 0 || p->settings[i][length] != '=')
            continue;
        p->asked[i] = true;
        return p->settings[i] + length + 1;
    }
    play_die("the setting %s=... is missing", key);
}

uint64_t play_number(play *p, const char *key)
{
    char *end;
    const char *text = play_text(p, key);
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end || *text == '-')
        play_die("%s=%s: a whole number is wanted", key, text);
    return number;
}

void play_queue_init(play_queue *queue, uint64_t room)
{
    *queue = (play_queue){.at_ns = calloc(room, sizeof *queue->at_ns), .room = room};
    if (room == 0 || !queue->at_ns)
        play_die("a window of %llu messages: no memory", (unsigned long long)room);
}

static play_second *second_of(const play *p, uint64_t now_ns)
{
    uint64_t from_ns = p->start_ns + p->warmup_ns;
    size_t i = now_ns > from_ns ? (size_t)((now_ns - from_ns) / 1000000000u) : 0;
    return &p->seconds[i < p->second_count ? i : p->second_count - 1];
}

void play_settled(play *p, uint64_t at_ns, bool acknowledged)
{
    uint64_t now = salvo_load_now_ns();
    p->counts.settled_in_all++;
    p->counts.acknowledged_in_all += acknowledged;
    if (at_ns < p->warmup_ns)
        return;
    p->last_ns = now;
    play_second *second = second_of(p, now);
    if (!acknowledged) {
        p->counts.failed++;
        second->failed++;
        return;
    }
    p->counts.acknowledged++;
    salvo_histogram_record(second->acknowledged, now - p->start_ns - at_ns, 1);
}

/* --- the load ------------------------------------------------------------------------------ */

static void open_schedule(play *p, const char *path)
{
    char error[512];
    if (!salvo_load_open_file(&p->load, path, error, sizeof error))
        play_die("%s", error);
    const char *payload = p->load.payload_text;
    if (strcmp(payload, "random") != 0 && strncmp(payload, "ratio:", 6) != 0)
        play_die("%s: payload '%s'; random and ratio:R are what all peers play", path, payload);
    p->block = malloc(SALVO_LOAD_BLOCK_BYTES);
    if (!p->block || !salvo_payload_fill(p->block, payload, p->load.seed, error, sizeof error))
        play_die("%s", p->block ? error : "no memory");
    p->warmup_ns = (uint64_t)(p->load.warmup_s * 1e9);
}

static uint64_t hash(uint64_t h, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        h = (h ^ bytes[i]) * UINT64_C(1099511628211);
    return h;
}

/* What the test compares with the other languages' players: FNV-1a of the first messages. */
static int check_schedule(const char *path)
{
    play p = {0};
    salvo_load_message m;
    uint64_t index, h = UINT64_C(14695981039346656037);
    open_schedule(&p, path);
    salvo_load_source source = salvo_load_begin(&p.load);
    while (source.index < CHECKED && salvo_load_next(&source, &m, &index)) {
        unsigned char fields[16];
        salvo_payload_stamp(fields, m.at_ns);
        salvo_payload_stamp(fields + 8, m.value_bytes | (uint64_t)m.key << 32);
        h = hash(h, fields, sizeof fields);
        h = hash(h, salvo_payload_at(p.block, index, m.value_bytes), m.value_bytes);
    }
    if (source.damaged)
        play_die("%s: damaged", path);
    printf("%016llx %llu\n", (unsigned long long)h, (unsigned long long)source.index);
    free(p.block);
    salvo_load_free(&p.load);
    return 0;
}

/* --- playing ------------------------------------------------------------------------------- */

static void sleep_until(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* Returns when the message is due, or at once where that is over. */
static uint64_t wait_for(play *p, void *state, uint64_t due_ns, uint64_t index)
{
    uint64_t now = salvo_load_now_ns();
    if (now >= due_ns && p->client->serve && index % BURST == 0)
        p->client->serve(state, 0);
    while (now < due_ns) {
        if (p->client->serve)
            p->client->serve(state, due_ns);
        else
            sleep_until(due_ns);
        now = salvo_load_now_ns();
    }
    return salvo_load_now_ns();
}

static void note(play *p, uint64_t at_ns, uint64_t begin, uint64_t end, bool accepted)
{
    uint64_t due_ns = p->start_ns + at_ns;
    play_second *second = second_of(p, end);
    p->counts.offered++;
    second->offered++;
    p->call_ns += end - begin;
    salvo_histogram_record(p->lateness, begin - due_ns, 1);
    salvo_histogram_record(p->call, end - begin, 1);
    if (!accepted)
        return;
    p->counts.accepted++;
    second->accepted++;
    salvo_histogram_record(p->accepted, end - due_ns, 1);
}

static void send_one(play *p, void *state, const salvo_load_message *m, uint64_t index)
{
    unsigned char saved[8] = {0}, *value = salvo_payload_at(p->block, index, m->value_bytes);
    char key[12];
    play_message message = {.at_ns = m->at_ns, .value = value, .value_len = m->value_bytes};
    if (m->key) {
        message.key = key;
        message.key_len = (size_t)snprintf(key, sizeof key, "%u", m->key);
    }
    bool stamped = m->value_bytes >= sizeof saved;
    if (stamped) { /* the block must stay as it is for those whose values overlap */
        memcpy(saved, value, sizeof saved);
        salvo_payload_stamp(value, p->start_unix_ns + m->at_ns);
    }
    uint64_t begin = wait_for(p, state, p->start_ns + m->at_ns, index);
    bool accepted = p->client->send(state, &message);
    uint64_t end = salvo_load_now_ns();
    if (stamped)
        memcpy(value, saved, sizeof saved);
    if (m->at_ns >= p->warmup_ns)
        note(p, m->at_ns, begin, end, accepted);
}

typedef struct cpu {
    uint64_t process_ns, thread_ns;
} cpu;

static cpu cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (cpu){(uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                 salvo_load_thread_cpu_ns()};
}

/* The CPU time at the end of the warm-up is written to *from. */
static void play_load(play *p, void *state, cpu *from)
{
    salvo_load_source source = salvo_load_begin(&p->load);
    salvo_load_message m;
    uint64_t index;
    bool measuring = false;
    *from = cpu_now();
    while (salvo_load_next(&source, &m, &index)) {
        if (!measuring && m.at_ns >= p->warmup_ns) {
            *from = cpu_now();
            measuring = true;
        }
        send_one(p, state, &m, index);
    }
    if (source.damaged)
        play_die("the schedule is damaged: times go backwards or a size is above its bound");
    p->client->drain(state, DRAIN_MS);
}

/* --- the summary --------------------------------------------------------------------------- */

static void add_histogram(json_t *summary, const char *name, const salvo_histogram *h)
{
    char *text;
    if (salvo_histogram_encode(h, &text) != 0)
        play_die("no memory");
    json_object_set_new(summary, name, json_string(text));
    free(text);
}

/* The seconds, and all acknowledgements as their sum. */
static void add_seconds(json_t *summary, const play *p)
{
    salvo_histogram *sum = salvo_histogram_new(3);
    json_t *seconds = json_array();
    for (size_t i = 0; i < p->second_count && sum; i++) {
        const play_second *s = &p->seconds[i];
        json_t *second = json_pack(
            "{s:I, s:I, s:I, s:I}", "offered", (json_int_t)s->offered, "accepted",
            (json_int_t)s->accepted, "acknowledged",
            (json_int_t)salvo_histogram_count(s->acknowledged), "failed", (json_int_t)s->failed);
        add_histogram(second, "hdr", s->acknowledged);
        json_array_append_new(seconds, second);
        salvo_histogram_add(sum, s->acknowledged);
    }
    if (!sum)
        play_die("no memory");
    add_histogram(summary, "acknowledged_hdr", sum);
    json_object_set_new(summary, "over_time", seconds);
    salvo_histogram_free(sum);
}

static void write_summary(const play *p, const char *path, uint64_t cpu_ns)
{
    uint64_t begin = p->start_ns + p->warmup_ns, wall = (uint64_t)(p->load.duration_s * 1e9);
    if (p->last_ns > begin + wall)
        wall = p->last_ns - begin;
    const play_counts *c = &p->counts;
    json_t *summary = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "client", p->client->name, "version",
        p->client->version(), "offered", (json_int_t)c->offered, "accepted",
        (json_int_t)c->accepted, "acknowledged", (json_int_t)c->acknowledged, "failed",
        (json_int_t)c->failed, "acknowledged_in_all", (json_int_t)c->acknowledged_in_all, "cpu_ns",
        (json_int_t)cpu_ns, "wall_ns", (json_int_t)wall);
    if (!summary)
        play_die("no memory");
    add_histogram(summary, "call", p->call);
    add_histogram(summary, "accepted_hdr", p->accepted);
    add_seconds(summary, p);
    add_histogram(summary, "lateness", p->lateness);
    if (json_dump_file(summary, path, 0) != 0)
        play_die("cannot write %s", path);
    json_decref(summary);
}

static void get_ready(play *p)
{
    p->call = salvo_histogram_new(3);
    p->accepted = salvo_histogram_new(3);
    p->lateness = salvo_histogram_new(3);
    p->second_count = (size_t)ceil(p->load.duration_s);
    p->seconds = calloc(p->second_count, sizeof *p->seconds);
    if (!p->call || !p->accepted || !p->lateness || !p->seconds)
        play_die("no memory");
    for (size_t i = 0; i < p->second_count; i++)
        if (!(p->seconds[i].acknowledged = salvo_histogram_new(3)))
            play_die("no memory");
    salvo_pace_attach();
}

static void wait_for_start(play *p)
{
    for (int i = 0; i < p->setting_count; i++)
        if (!p->asked[i])
            play_die("%s: not a setting of %s", p->settings[i], p->client->name);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF)
        play_die("the start never came");
    p->start_ns = salvo_load_now_ns();
    p->start_unix_ns = salvo_load_unix_ns();
}

int play_main(int argc, char **argv, const play_client *client)
{
    play p = {.client = client};
    cpu from, to;
    if (argc == 3 && strcmp(argv[1], "--check") == 0)
        return check_schedule(argv[2]);
    if (argc < 3 || argc - 3 > (int)(sizeof p.asked / sizeof p.asked[0]))
        play_die("usage: %s SCHEDULE OUT KEY=VALUE..., or --check SCHEDULE", client->name);
    p.settings = argv + 3;
    p.setting_count = argc - 3;
    open_schedule(&p, argv[1]);
    get_ready(&p);
    void *state = client->open(&p);
    p.counts = (play_counts){.acknowledged_in_all = 1}; /* the first message */
    wait_for_start(&p);
    play_load(&p, state, &from);
    to = cpu_now();
    uint64_t cpu_ns = to.process_ns - from.process_ns, own = to.thread_ns - from.thread_ns;
    if (!client->serve) {
        uint64_t calls = p.call_ns < own ? p.call_ns : own;
        cpu_ns = (cpu_ns > own ? cpu_ns - own : 0) + calls;
    }
    client->close(state);
    write_summary(&p, argv[2], cpu_ns);
    salvo_histogram_free(p.call);
    salvo_histogram_free(p.accepted);
    salvo_histogram_free(p.lateness);
    for (size_t i = 0; i < p.second_count; i++)
        salvo_histogram_free(p.seconds[i].acknowledged);
    free(p.seconds);
    free(p.block);
    salvo_load_free(&p.load);
    return 0;
}

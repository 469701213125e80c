/* SPDX-License-Identifier: Apache-2.0
 *
 * Input of `salvo produce`: arbitrary bytes as lines, as lines with keys and as NDJSON, through
 * the whole reader thread. Whatever they are: the reader ends, every value and key is a span that
 * may be read, lines that are not JSON are told or skipped and counted.
 */
#include "fuzz.h"
#include "produce.h"

#include <sys/mman.h>
#include <unistd.h>

void salvo_produce_thread_ended(produce_job *job)
{
    (void)job; /* nobody waits for it here */
}

static size_t look(produce_queue *queue)
{
    size_t lines = 0;
    for (produce_parcel *parcel; (parcel = salvo_produce_queue_pop(queue)) != NULL;) {
        for (size_t i = 0; i < parcel->count; i++) {
            fuzz_touch(parcel->values[i].data, parcel->values[i].len);
            if (parcel->keys && parcel->keys[i].data)
                fuzz_touch(parcel->keys[i].data, parcel->keys[i].len);
            fuzz_check(parcel->lines[i] > 0, "a line has a number");
        }
        lines += parcel->count;
        salvo_produce_parcel_free(parcel);
    }
    return lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static produce_job job;
    char path[64];
    char *files[] = {path};
    uint8_t mode = size > 0 ? data[0] : 0;
    int fd = memfd_create("input", 0);
    if (fd < 0 || size == 0 || size > 1 << 16) /* nobody empties the queue meanwhile: it is short */
        return fd < 0 ? 0 : close(fd);
    fuzz_check(write(fd, data + 1, size - 1) == (ssize_t)(size - 1), "the input is written");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    produce_options options = {.files = files, .file_count = 1, .threads = 1,
                               .ndjson = (mode & 1) != 0, .skip_invalid = (mode & 1) != 0,
                               .skip_empty = (mode & 2) != 0};
    if (options.ndjson && (mode & 4))
        options.key_field = (mode & 8) ? "a.b" : "id";
    if (!options.ndjson && (mode & 4)) {
        options.key_delimiter = "::";
        options.key_delimiter_len = 2;
    }
    memset(&job, 0, sizeof job);
    job.options = &options;
    job.max_message_bytes = (mode & 16) ? 64 : 1 << 20;
    atomic_store(&job.failed, true); /* told already: a fuzzer needs no lines of text */
    salvo_produce_queue_init(&job.queues[0]);
    (void)salvo_produce_read(&job);
    size_t lines = look(&job.queues[0]);
    fuzz_check(lines == job.handed, "what was handed over came");
    fuzz_check(lines + job.skipped_invalid + job.skipped_empty <= job.lines, "lines add up");
    return close(fd);
}

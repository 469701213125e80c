/* SPDX-License-Identifier: Apache-2.0
 *
 * Recording, on the recorder's side: see tape.h. What the producer's memory holds is copied and
 * checked before it is believed.
 */
#include "tape.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 20 };

struct salvo_tape {
    salvo_tape_ring *ring;
    uint64_t next;
    int request_fd;
    char request[sizeof((salvo_watch_info *)0)->path + 16];
    char tape[sizeof((salvo_watch_info *)0)->path + 16];
};

static int failed(int err, const char *what, const char *path)
{
    salvo_error_set("%s: %s: %s", path, what, strerror(errno));
    return err;
}

static int ask(salvo_tape *t)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    for (;;) {
        t->request_fd = open(t->request, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (t->request_fd < 0)
            return failed(SALVO_ERR_IO, "cannot ask for a recording", t->request);
        bool locked = fcntl(t->request_fd, F_SETLK, &lock) == 0;
        if (locked && fstat(t->request_fd, &st) == 0 && st.st_nlink != 0)
            return 0;
        close(t->request_fd);
        t->request_fd = -1;
        if (!locked)
            break;
        /* Its last recorder removed it after we opened it: the producer would not see our lock. */
    }
    salvo_error_set("another one records this producer already");
    return SALVO_ERR_LIMIT;
}

/* True when the producer's tape is there and complete. */
static bool attach(salvo_tape *t)
{
    struct stat st;
    int fd = open(t->tape, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    void *at = MAP_FAILED;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
        st.st_size == (off_t)sizeof(salvo_tape_ring))
        at = mmap(NULL, sizeof(salvo_tape_ring), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return false;
    t->ring = at;
    /* Acquire: pairs with the release in start(). */
    if (atomic_load_explicit(&t->ring->magic, memory_order_acquire) == SALVO_TAPE_MAGIC)
        return true;
    munmap(at, sizeof(salvo_tape_ring));
    t->ring = NULL;
    return false;
}

int salvo_tape_open(const salvo_watch_info *producer, uint32_t timeout_ms, salvo_tape **out)
{
    salvo_error_clear();
    if (out == NULL || producer == NULL)
        return SALVO_ERR_INVALID;
    *out = NULL;
    salvo_tape *t = calloc(1, sizeof *t);
    if (t == NULL)
        return SALVO_ERR_NOMEM;
    snprintf(t->request, sizeof t->request, "%s.request", producer->path);
    snprintf(t->tape, sizeof t->tape, "%s.tape", producer->path);
    t->request_fd = -1;
    int err = ask(t);
    if (err == 0)
        unlink(t->tape); /* of an earlier recording: the producer makes a new one */
    uint64_t until_ns = salvo_clock_monotonic_ns() + timeout_ms * UINT64_C(1000000);
    while (err == 0 && !attach(t)) {
        struct timespec nap = {0, LOOK_MS * 1000000L};
        nanosleep(&nap, NULL);
        if (salvo_clock_monotonic_ns() < until_ns)
            continue;
        salvo_error_set("the producer did not begin to record within %u ms: it is stopped, or its "
                        "Salvo is older than `salvo record`", timeout_ms);
        err = SALVO_ERR_TIMEOUT;
    }
    if (err != 0) {
        salvo_tape_close(t);
        return err;
    }
    *out = t;
    return 0;
}

void salvo_tape_close(salvo_tape *t)
{
    if (t == NULL)
        return;
    if (t->request_fd >= 0) {
        unlink(t->tape); /* while nobody else can ask: the next one's would be lost to it */
        unlink(t->request);
        close(t->request_fd);
    }
    if (t->ring != NULL)
        munmap(t->ring, sizeof *t->ring);
    free(t);
}

/* 1: read; 0: not there yet; -1: overwritten. */
static int read_slot(const salvo_tape *t, salvo_tape_entry *e)
{
    const salvo_tape_slot *slot = &t->ring->slots[t->next % SALVO_TAPE_SLOTS];
    uint64_t words[3], check;
    /* Acquire: pairs with the release of turn in put(). */
    uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);
    if (turn != t->next + 1)
        return turn > t->next + 1 ? -1 : 0;
    /* Acquire: a word of a later lap brings its `turn` along. */
    for (int i = 0; i < 3; i++)
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
    check = atomic_load_explicit(&slot->check, memory_order_acquire);
    if (atomic_load_explicit(&slot->turn, memory_order_relaxed) != turn ||
        check != (words[0] ^ words[1] ^ words[2] ^ t->next))
        return -1;
    *e = (salvo_tape_entry){.stamp_ns = words[0], .value_bytes = (uint32_t)(words[1] >> 32),
                            .key = (uint32_t)words[1], .topic = (uint16_t)(words[2] >> 48),
                            .key_bytes = (uint16_t)(words[2] >> 32), .fate = (uint32_t)words[2]};
    return 1;
}

size_t salvo_tape_read(salvo_tape *t, salvo_tape_entry *entries, size_t max, uint64_t *lost)
{
    size_t count = 0;
    uint64_t next = atomic_load_explicit(&t->ring->next, memory_order_relaxed); /* a hint */
    if (next > t->next + SALVO_TAPE_SLOTS) {
        *lost += next - SALVO_TAPE_SLOTS - t->next;
        t->next = next - SALVO_TAPE_SLOTS;
    }
    while (count < max && t->next < next) {
        int got = read_slot(t, &entries[count]);
        if (got == 0)
            break;
        *lost += got < 0;
        count += got > 0;
        t->next++;
    }
    return count;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Recording, on the producer's side: see tape.h.
 */
#include "tape.h"

#include "producer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 100 };

/* Unless a writer of a later lap was here: a turn that went back would hold its reader up, who
 * would wait for one that was complete already. */
static bool set_turn(salvo_tape_slot *slot, uint64_t position, uint64_t turn, memory_order order)
{
    uint64_t now = atomic_load_explicit(&slot->turn, memory_order_relaxed);
    while (now <= position)
        if (atomic_compare_exchange_weak_explicit(&slot->turn, &now, turn, order,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static void put(salvo_tape_ring *ring, const uint64_t words[3])
{
    /* Relaxed: the position alone; `turn` publishes. */
    uint64_t position = atomic_fetch_add_explicit(&ring->next, 1, memory_order_relaxed);
    salvo_tape_slot *slot = &ring->slots[position % SALVO_TAPE_SLOTS];
    if (!set_turn(slot, position, 0, memory_order_relaxed))
        return; /* overtaken by a whole lap: a later one's is there */
    /* Release: a reader that meets one of these words also sees that turn is not what it was. */
    for (int i = 0; i < 3; i++)
        atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
    atomic_store_explicit(&slot->check, words[0] ^ words[1] ^ words[2] ^ position,
                          memory_order_release);
    /* Release: pairs with the acquire in salvo_tape_read(). */
    (void)set_turn(slot, position, position + 1, memory_order_release);
}

static void put_entry(salvo_tape_ring *ring, const salvo_tape_entry *e)
{
    const uint64_t words[3] = {e->stamp_ns, (uint64_t)e->value_bytes << 32 | e->key,
                               (uint64_t)e->topic << 48 | (uint64_t)e->key_bytes << 32 | e->fate};
    put(ring, words);
}

static uint32_t hash(uint64_t salt, const unsigned char *key, uint32_t length)
{
    uint64_t h = salt ^ UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < length; i++) {
        h = (h ^ key[i]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    h = (h ^ salt) * UINT64_C(0xbf58476d1ce4e5b9);
    h ^= h >> 32;
    return (uint32_t)h != 0 ? (uint32_t)h : 1;
}

void salvo_taping_drained(const salvo *p, salvo_tape_ring *ring, uint32_t topic, uint64_t stamp,
                          uint32_t flags, const void *payload, uint32_t length)
{
    salvo_record_head head;
    if (!salvo_record_sound(payload, length, flags, &head) || topic > UINT16_MAX)
        return;
    salvo_tape_entry e = {.stamp_ns = salvo_clock_ns(&p->clock, stamp),
                          .value_bytes = salvo_record_span(head.value_len) + head.headers_len,
                          .topic = (uint16_t)topic};
    if (head.key_len != SALVO_NULL_LEN) {
        const unsigned char *key = (const unsigned char *)payload + salvo_record_prefix(flags);
        uint64_t salt = atomic_load_explicit(&p->taping.salt, memory_order_relaxed);
        e.key = hash(salt, key, head.key_len);
        e.key_bytes = head.key_len < UINT16_MAX ? (uint16_t)head.key_len : UINT16_MAX;
    }
    put_entry(ring, &e);
}

void salvo_taping_full(const salvo *p, uint32_t topic, uint32_t n, uint32_t bytes,
                       uint64_t begin_ns, uint64_t stamp, uint32_t fate)
{
    /* Acquire: pairs with the release in start(), for the mapping. */
    salvo_tape_ring *ring = atomic_load_explicit(&p->taping.ring, memory_order_acquire);
    if (ring == NULL || topic > UINT16_MAX)
        return;
    salvo_tape_entry e = {.stamp_ns = begin_ns, .value_bytes = bytes, .topic = (uint16_t)topic,
                          .fate = fate};
    if (fate == SALVO_TAPE_ACCEPTED) { /* the drained records tell the rest */
        e.stamp_ns = salvo_clock_ns(&p->clock, stamp);
        uint64_t us = e.stamp_ns > begin_ns ? (e.stamp_ns - begin_ns) / 1000 : 0;
        e.fate = us < 1 ? 1 : us < SALVO_TAPE_REFUSED_LATE ? (uint32_t)us
                                                           : SALVO_TAPE_REFUSED_LATE - 1;
        n = 1;
    }
    for (uint32_t i = 0; i < n; i++)
        put_entry(ring, &e);
}

/* Of the producer's own user, and held by a recorder that lives. */
static bool is_asked(const char *path)
{
    struct stat st;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bool asked = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
                 fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return asked;
}

static void start(salvo *p, const char *path)
{
    salvo_taping *t = &p->taping;
    size_t bytes = sizeof(salvo_tape_ring);
    uint64_t salt;
    unlink(path); /* an old one: its reader has it mapped */
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    void *at = MAP_FAILED;
    if (posix_fallocate(fd, 0, (off_t)bytes) == 0 &&
        getrandom(&salt, sizeof salt, GRND_NONBLOCK) == sizeof salt)
        at = mmap(t->kept, bytes, PROT_READ | PROT_WRITE,
                  MAP_SHARED | (t->kept != NULL ? MAP_FIXED : 0), fd, 0);
    close(fd);
    if (at == MAP_FAILED) {
        unlink(path);
        return;
    }
    (void)madvise(at, bytes, MADV_DONTFORK);
    atomic_store_explicit(&t->salt, salt, memory_order_relaxed);
    t->kept = at;
    /* Release: pairs with the acquire in salvo_tape_open(). */
    atomic_store_explicit(&t->kept->magic, SALVO_TAPE_MAGIC, memory_order_release);
    atomic_store_explicit(&t->ring, t->kept, memory_order_release); /* with salt and mapping */
}

void salvo_taping_look(salvo *p, uint64_t now_ns)
{
    char path[sizeof p->segment.path + 16];
    salvo_taping *t = &p->taping;
    if (p->segment.fd < 0 || now_ns < t->next_look_ns)
        return;
    t->next_look_ns = now_ns + LOOK_EVERY_MS * UINT64_C(1000000);
    snprintf(path, sizeof path, "%s.request", p->segment.path);
    bool on = atomic_load_explicit(&t->ring, memory_order_relaxed) != NULL; /* ours to write */
    bool asked = access(path, F_OK) == 0 && is_asked(path);
    snprintf(path, sizeof path, "%s.tape", p->segment.path);
    if (!asked && on) {
        atomic_store_explicit(&t->ring, NULL, memory_order_relaxed); /* it stays mapped */
        unlink(path); /* a killed recorder's; or made while its recorder went */
    }
    if (!asked)
        return;
    if (!on || access(path, F_OK) != 0) /* another recorder removed the last one's */
        start(p, path);
}

void salvo_taping_close(salvo *p)
{
    char path[sizeof p->segment.path + 16];
    salvo_taping *t = &p->taping;
    atomic_store_explicit(&t->ring, NULL, memory_order_relaxed);
    if (t->kept == NULL)
        return;
    snprintf(path, sizeof path, "%s.tape", p->segment.path);
    unlink(path);
    munmap(t->kept, sizeof *t->kept);
    t->kept = NULL;
}

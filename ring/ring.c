/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring's cold half: its memory, and what a claim does when the ring looks full.
 *
 * Guarantee: after salvo_ring_open() every page is present in every mapping (but for what the
 * system swaps out later), so that a send does not fault; the counters start where asked, and
 * no slot looks ready. See ring.h for the protocol.
 */
#include "ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_MAGIC 0x31676e69726f766cu /* changes with the layout of the segment */

typedef struct layout {
    uint64_t desc_offset, bytes_offset, size, bytes;
} layout;

static uint64_t round_to(uint64_t n, uint64_t page)
{
    return (n + page - 1) / page * page;
}

static uint64_t round_to_page(uint64_t n)
{
    return round_to(n, (uint64_t)sysconf(_SC_PAGESIZE));
}

/* Header, descriptors, payload; each begins on a page, as the second mapping needs. What can lie in
 * huge pages ends on one, too: the tail would be left in small ones. */
static layout lay_out(const salvo_ring_options *options)
{
    layout l = {.bytes = options->bytes};
    l.desc_offset = round_to_page(sizeof(salvo_ring_segment));
    l.bytes_offset =
        l.desc_offset + round_to_page((uint64_t)options->descriptors * sizeof(salvo_ring_desc));
    l.size = l.bytes_offset + l.bytes;
    if ((options->flags & SALVO_RING_UNMIRRORED) && l.bytes >= SALVO_RING_HUGE_BYTES)
        l.size = round_to(l.size, SALVO_RING_HUGE_BYTES);
    return l;
}

static bool power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static bool options_valid(const salvo_ring_options *options)
{
    return power_of_two(options->bytes) && options->bytes >= SALVO_RING_MIN_BYTES &&
           options->bytes % (uint32_t)sysconf(_SC_PAGESIZE) == 0 &&
           power_of_two(options->descriptors) &&
           options->descriptors >= SALVO_RING_MIN_DESCRIPTORS &&
           options->descriptors <= SALVO_RING_MAX_DESCRIPTORS &&
           (options->flags & ~SALVO_RING_UNMIRRORED) == 0;
}

/* The segment, then the payload once more right behind it. NULL with errno. */
static unsigned char *map_mirrored(const layout *l)
{
    int fd = memfd_create("salvo-ring", MFD_CLOEXEC);
    if (fd < 0)
        return NULL;
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    unsigned char *base = MAP_FAILED;
    if (ftruncate(fd, (off_t)l->size) == 0)
        base = mmap(NULL, l->size + l->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base != MAP_FAILED &&
        (mmap(base, l->size, protection, flags, fd, 0) == MAP_FAILED ||
         mmap(base + l->size, l->bytes, protection, flags, fd, (off_t)l->bytes_offset) ==
             MAP_FAILED)) {
        int error = errno;
        munmap(base, l->size + l->bytes);
        errno = error;
        base = MAP_FAILED;
    }
    int error = errno;
    close(fd); /* the mappings keep the memory */
    errno = error;
    return base == MAP_FAILED ? NULL : base;
}

/* Aligned to huge pages and offered to them: with pages of 4 KiB every thirtieth send of 100 B
 * meets one whose translation the processor no longer holds (p99 of a send at 200k/s and 4 MiB:
 * 303 ns mirrored, 196 ns here, on two virtual processors). Where the kernel gives none, nothing
 * is lost. */
static unsigned char *map_single(const layout *l)
{
    size_t size = l->size + SALVO_RING_HUGE_BYTES;
    unsigned char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                               -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    size_t skip = -(uintptr_t)base & (SALVO_RING_HUGE_BYTES - 1);
    if (skip)
        munmap(base, skip);
    munmap(base + skip + l->size, SALVO_RING_HUGE_BYTES - skip);
    (void)madvise(base + skip, l->size, MADV_HUGEPAGE);
    return base + skip;
}

static void init_segment(salvo_ring *ring, const salvo_ring_options *options, const layout *l)
{
    salvo_ring_segment *segment = ring->segment;
    segment->size = l->size;
    segment->desc_offset = l->desc_offset;
    segment->bytes_offset = l->bytes_offset;
    segment->descriptors = options->descriptors;
    segment->units = options->bytes / SALVO_RING_UNIT;
    segment->flags = options->flags;
    uint64_t start = salvo_ring_pack(options->start_sequence, options->start_position);
    /* Relaxed and init: whoever hands the ring to other threads synchronizes with them. */
    atomic_init(&segment->tail, start);
    atomic_init(&segment->cached_head, start);
    atomic_init(&segment->head, start);
    for (uint32_t k = 0; k < options->descriptors; k++) {
        uint32_t index = options->start_sequence + k;
        atomic_init(&ring->desc[index & ring->desc_mask].sequence,
                    index + 1 - options->descriptors);
    }
    segment->magic = RING_MAGIC;
}

/* A write to every page of both mappings: MAP_POPULATE promises only an attempt. */
static void touch_pages(salvo_ring *ring)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned char *base = (unsigned char *)ring->segment;
    for (uint64_t at = ring->segment->bytes_offset; at < ring->mapped; at += page)
        base[at] = 0;
}

int salvo_ring_open(salvo_ring *ring, const salvo_ring_options *options)
{
    *ring = (salvo_ring){0};
    if (!options_valid(options))
        return -EINVAL;
    layout l = lay_out(options);
    bool single = (options->flags & SALVO_RING_UNMIRRORED) != 0;
    unsigned char *base = single ? map_single(&l) : map_mirrored(&l);
    if (!base)
        return -errno;
    *ring = (salvo_ring){
        .segment = (salvo_ring_segment *)(void *)base,
        .desc = (salvo_ring_desc *)(void *)(base + l.desc_offset),
        .bytes = base + l.bytes_offset,
        .desc_mask = options->descriptors - 1,
        .unit_mask = options->bytes / SALVO_RING_UNIT - 1,
        .max_descriptors = options->descriptors / 4,
        .max_units = options->bytes / SALVO_RING_UNIT / 4,
        .flags = options->flags,
        .mapped = single ? l.size : l.size + l.bytes,
    };
    init_segment(ring, options, &l);
    touch_pages(ring);
    return 0;
}

void salvo_ring_close(salvo_ring *ring)
{
    if (ring->segment)
        munmap(ring->segment, ring->mapped);
    *ring = (salvo_ring){0};
}

uint64_t salvo_ring_footprint(const salvo_ring_options *options)
{
    return lay_out(options).size;
}

int salvo_ring_refresh(salvo_ring *ring, uint64_t *tail, uint64_t seen)
{
    salvo_ring_segment *segment = ring->segment;
    /* Edge F1: pairs with salvo_ring_release. Also keeps the load of tail behind it. */
    uint64_t head = atomic_load_explicit(&segment->head, memory_order_acquire);
    uint64_t now = atomic_load_explicit(&segment->tail, memory_order_acquire);
    if (now != *tail) { /* somebody claimed meanwhile: what we computed is void */
        *tail = now;
        return 0;
    }
    if (head == seen)
        return SALVO_RING_FULL;
    /* Edge F2: pairs with the load in salvo_ring_claim_n; release hands on what F1 acquired.
     * Failure is fine and needs no order: somebody else moved it, and the claim loads it again. */
    atomic_compare_exchange_strong_explicit(&segment->cached_head, &seen, head,
                                            memory_order_release, memory_order_relaxed);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The heap that fails once; see once.h. The C library's names are taken over by this program's
 * own, which lead to the C library's inner ones; so libraries' allocations are counted and fail
 * like ours. Blocks that were made while armed are remembered until they are freed.
 */
#include "once.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { PLACES = 1 << 18, FREED = 1 };

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *p);
void *malloc(size_t n);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t n);
void *aligned_alloc(size_t alignment, size_t n);
void *memalign(size_t alignment, size_t n);
int posix_memalign(void **out, size_t alignment, size_t n);
void free(void *p);

static struct {
    pthread_mutex_t lock;
    bool on, remembers;
    uint64_t count, fail_at, alive;
    uintptr_t place[PLACES]; /* open addressing; FREED keeps a chain together */
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t place_of(uintptr_t p)
{
    return (uint32_t)((p >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 40) % PLACES;
}

static bool may_allocate(void)
{
    pthread_mutex_lock(&heap.lock);
    bool fails = heap.on && ++heap.count == heap.fail_at;
    pthread_mutex_unlock(&heap.lock);
    if (fails)
        errno = ENOMEM;
    return !fails;
}

static void *remember(void *p)
{
    pthread_mutex_lock(&heap.lock);
    if (heap.on && p != NULL) {
        uint32_t i = place_of((uintptr_t)p);
        while (heap.place[i] > FREED)
            i = (i + 1) % PLACES;
        heap.place[i] = (uintptr_t)p;
        heap.alive++;
    }
    pthread_mutex_unlock(&heap.lock);
    return p;
}

static void forget(void *p)
{
    pthread_mutex_lock(&heap.lock);
    for (uint32_t i = place_of((uintptr_t)p); heap.remembers && p != NULL && heap.place[i] != 0;
         i = (i + 1) % PLACES)
        if (heap.place[i] == (uintptr_t)p) {
            heap.place[i] = FREED;
            heap.alive--;
            break;
        }
    pthread_mutex_unlock(&heap.lock);
}

void *malloc(size_t n) { return may_allocate() ? remember(__libc_malloc(n)) : NULL; }

void *calloc(size_t count, size_t size)
{
    return may_allocate() ? remember(__libc_calloc(count, size)) : NULL;
}

void *realloc(void *old, size_t n)
{
    if (!may_allocate())
        return NULL;
    forget(old);
    return remember(__libc_realloc(old, n));
}

void *memalign(size_t alignment, size_t n)
{
    return may_allocate() ? remember(__libc_memalign(alignment, n)) : NULL;
}

void *aligned_alloc(size_t alignment, size_t n) { return memalign(alignment, n); }

int posix_memalign(void **out, size_t alignment, size_t n)
{
    *out = memalign(alignment, n);
    return *out != NULL ? 0 : ENOMEM;
}

void free(void *p)
{
    forget(p);
    __libc_free(p);
}

void fault_heap_arm(uint64_t n)
{
    pthread_mutex_lock(&heap.lock);
    memset(heap.place, 0, sizeof heap.place);
    heap.count = heap.alive = 0;
    heap.fail_at = n;
    heap.on = heap.remembers = true;
    pthread_mutex_unlock(&heap.lock);
}

void fault_heap_disarm(uint64_t *count, uint64_t *alive)
{
    pthread_mutex_lock(&heap.lock);
    heap.on = heap.remembers = false;
    *count = heap.count;
    *alive = heap.alive;
    pthread_mutex_unlock(&heap.lock);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The two streams of a connection. Guarantees: out.put - out.taken <= out.limit and
 * in.arrived - in.consumed <= in.limit; bytes in a mirror stay where they are until they are taken
 * or consumed; there is a segment for every byte that has room, because neighbouring copies share
 * one and short stable pieces are copied. Not thread-safe.
 */
#include "io_internal.h"

#include <assert.h>
#include <salvo/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LEAST_BYTES = 4096, MOST_BYTES = 1 << 30 };

static int map_twice(salvo_io_mirror *mirror, int fd)
{
    const salvo_io_sys_table *sys = salvo_io_sys;
    size_t n = mirror->bytes;
    uint8_t *base = sys->mmap(NULL, 2 * n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return SALVO_ERR_NOMEM;
    int flags = MAP_SHARED | MAP_FIXED, both = PROT_READ | PROT_WRITE;
    if (sys->mmap(base, n, both, flags, fd, 0) == MAP_FAILED ||
        sys->mmap(base + n, n, both, flags, fd, 0) == MAP_FAILED) {
        munmap(base, 2 * n);
        return SALVO_ERR_NOMEM;
    }
    madvise(base, 2 * n, MADV_DONTFORK); /* a child has no business with its parent's sockets */
    mirror->base = base;
    return 0;
}

static int mirror_open(salvo_io_mirror *mirror, size_t bytes)
{
    size_t n = (size_t)sysconf(_SC_PAGESIZE);
    while (n < bytes)
        n *= 2;
    mirror->bytes = n;
    int fd = salvo_io_sys->memfd_create("salvo-io", MFD_CLOEXEC);
    if (fd < 0)
        return SALVO_ERR_NOMEM;
    int err = salvo_io_sys->ftruncate(fd, (off_t)n) == 0 ? map_twice(mirror, fd)
                                                        : SALVO_ERR_NOMEM;
    salvo_io_sys->close(fd); /* the mappings keep it */
    return err;
}

static void mirror_close(salvo_io_mirror *mirror)
{
    if (mirror->base != NULL)
        munmap(mirror->base, 2 * mirror->bytes);
    mirror->base = NULL;
}

/* --- out ----------------------------------------------------------------------------------- */

int salvo_io_out_open(salvo_io_out *out, size_t bytes)
{
    if (bytes == 0 || bytes > MOST_BYTES)
        return SALVO_ERR_INVALID;
    out->limit = bytes < LEAST_BYTES ? LEAST_BYTES : bytes;
    /* Stable segments are at least SALVO_IO_COPY_BELOW long, and one copy fits between two;
     * a first one that is nearly sent may be shorter, and a copy may stand at each end. */
    size_t wanted = 2 * (out->limit / SALVO_IO_COPY_BELOW) + 4, count = 64;
    while (count < wanted)
        count *= 2;
    out->segments = salvo_io_sys->alloc(count, sizeof *out->segments);
    if (out->segments == NULL)
        return SALVO_ERR_NOMEM;
    out->mask = (uint32_t)count - 1;
    return mirror_open(&out->mirror, out->limit);
}

void salvo_io_out_close(salvo_io_out *out)
{
    mirror_close(&out->mirror);
    free(out->segments);
    out->segments = NULL;
}

static size_t room(const salvo_io_out *out)
{
    return out->limit - (size_t)(out->put - out->taken);
}

static uint8_t *owned_space(const salvo_io_out *out)
{
    return out->mirror.base + (out->owned & (out->mirror.bytes - 1));
}

static void append(salvo_io_out *out, const uint8_t *base, size_t n, bool stable)
{
    salvo_io_segment *last = &out->segments[(out->last - 1) & out->mask];
    if (!stable && out->last != out->first && !last->stable) {
        last->len += (uint32_t)n; /* the mirror makes neighbours of all copies */
    } else {
        assert(out->last - out->first <= out->mask);
        out->segments[out->last++ & out->mask] =
            (salvo_io_segment){base, (uint32_t)n, stable};
    }
    out->put += n;
}

int salvo_io_out_spans(const salvo_io_out *out, struct iovec *spans, int max)
{
    int n = 0;
    for (uint32_t i = out->first; i != out->last && n < max; i++, n++) {
        const salvo_io_segment *segment = &out->segments[i & out->mask];
        /* sendmsg only reads; its interface shares a type with recvmsg */
        spans[n].iov_base = (void *)(uintptr_t)segment->base;
        spans[n].iov_len = segment->len;
    }
    return n;
}

void salvo_io_out_take(salvo_io_out *out, size_t n)
{
    assert(n <= out->put - out->taken);
    out->taken += n;
    while (n > 0) {
        salvo_io_segment *segment = &out->segments[out->first & out->mask];
        size_t part = n < segment->len ? n : segment->len;
        segment->len -= (uint32_t)part;
        segment->base += part;
        /* Keep a copy's beginning in the first half: it may grow by a whole mirror from there. */
        if (!segment->stable && segment->base >= out->mirror.base + out->mirror.bytes)
            segment->base -= out->mirror.bytes;
        if (segment->len == 0)
            out->first++;
        n -= part;
    }
}

size_t salvo_io_room(const salvo_io_conn *conn)
{
    return conn->phase == SALVO_IO_PHASE_DOWN ? 0 : room(&conn->out);
}

void *salvo_io_reserve(salvo_io_conn *conn, size_t n)
{
    return n <= salvo_io_room(conn) ? owned_space(&conn->out) : NULL;
}

void salvo_io_commit(salvo_io_conn *conn, size_t n)
{
    if (n == 0)
        return;
    assert(n <= room(&conn->out));
    append(&conn->out, owned_space(&conn->out), n, false);
    conn->out.owned += n;
}

bool salvo_io_put(salvo_io_conn *conn, const void *bytes, size_t n)
{
    void *space = salvo_io_reserve(conn, n);
    if (space == NULL)
        return false;
    if (n > 0)
        memcpy(space, bytes, n);
    salvo_io_commit(conn, n);
    return true;
}

bool salvo_io_put_stable(salvo_io_conn *conn, const void *bytes, size_t n)
{
    if (n < SALVO_IO_COPY_BELOW)
        return salvo_io_put(conn, bytes, n);
    if (n > salvo_io_room(conn))
        return false;
    append(&conn->out, bytes, n, true);
    return true;
}

uint64_t salvo_io_bytes_put(const salvo_io_conn *conn)
{
    return conn->out.put;
}

uint64_t salvo_io_bytes_sent(const salvo_io_conn *conn)
{
    /* With TLS, bytes are taken when they are encrypted; what flies then are records. */
    return conn->out.taken + (conn->tls == NULL ? conn->flying_bytes : 0);
}

uint64_t salvo_io_bytes_released(const salvo_io_conn *conn)
{
    return conn->out.taken;
}

/* --- in ------------------------------------------------------------------------------------ */

int salvo_io_in_open(salvo_io_in *in, size_t bytes)
{
    if (bytes == 0 || bytes > MOST_BYTES)
        return SALVO_ERR_INVALID;
    in->limit = bytes < LEAST_BYTES ? LEAST_BYTES : bytes;
    return mirror_open(&in->mirror, in->limit);
}

void salvo_io_in_close(salvo_io_in *in)
{
    mirror_close(&in->mirror);
}

void *salvo_io_in_space(const salvo_io_in *in, size_t *n)
{
    *n = in->limit - (size_t)(in->arrived - in->consumed);
    return in->mirror.base + (in->arrived & (in->mirror.bytes - 1));
}

size_t salvo_io_input(salvo_io_conn *conn, const void **bytes)
{
    *bytes = conn->in.mirror.base + (conn->in.consumed & (conn->in.mirror.bytes - 1));
    return (size_t)(conn->in.arrived - conn->in.consumed);
}

void salvo_io_consume(salvo_io_conn *conn, size_t n)
{
    salvo_io_in *in = &conn->in;
    assert(n <= in->arrived - in->consumed);
    bool was_full = in->arrived - in->consumed == in->limit;
    in->consumed += n;
    if (!was_full || n == 0)
        return;
    if (conn->added)
        conn->io->backend->room(conn);
    if (conn->unread_records) /* the kernel has nothing for us, so no descriptor would tell */
        salvo_io_wake(conn->io);
}

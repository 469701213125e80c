/* SPDX-License-Identifier: Apache-2.0
 *
 * Exactly once: resends that leave no duplicates and keep the order, by a function on the server.
 *
 * Each handle has a random name, each of its messages of a stream a sequence, each of its
 * connections an epoch. A hash on the server (salvo:once:<stream>:<name>) keeps `epoch`, `last`
 * and the ranges of sequences `refused` for good, written together with the entries. Guarantees:
 *   - append decides on a message only after the one sent before it (else SALVOGAP), and skips
 *     what it has; so what is refused for now holds back all behind it, and a retry in order
 *     stays so. What is refused for good holds nothing back.
 *   - sync, the first word of a connection on a stream, fences all earlier connections off and
 *     tells what is decided: what was in flight up to `last` is stored but for `refused`, the rest
 *     surely is not and never will be. So after a reconnect nothing is guessed.
 * Not guaranteed: anything once the server forgets the hash but not the stream (a week after the
 * producer's last message; DEL, FLUSHALL, a failover that lost writes) while messages are in
 * flight, or once this process ends; nor what a server that is killed while it writes its log
 * makes of half a transaction (docs/redis.md).
 */
#include "redis_internal.h"

#include "error.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { GROUP_BYTES = 32 << 10, HEAD_BYTES = 1024 };

const char salvo_redis_once_function[] =
    "#!lua name=salvo_once_1\n"
    "local week, most = 604800000, 1000\n"
    "local function text(n) return string.format('%.0f', n) end\n"
    "local function fenced()\n"
    "  return redis.error_reply('SALVOFENCED another connection of this producer came later')\n"
    "end\n"
    "local function sync(keys, args)\n"
    "  local state = redis.call('HMGET', keys[1], 'epoch', 'last', 'refused')\n"
    "  if state[1] and tonumber(state[1]) > tonumber(args[1]) then return fenced() end\n"
    "  redis.call('HSET', keys[1], 'epoch', args[1])\n"
    "  redis.call('PEXPIRE', keys[1], week)\n"
    "  local all = {tonumber(state[2] or 0)}\n"
    "  for n in string.gmatch(state[3] or '', '%d+') do all[#all + 1] = tonumber(n) end\n"
    "  return all\n"
    "end\n"
    "local function keep(ranges, list, known)\n"
    "  for a, b in string.gmatch(list, '(%d+)-(%d+)') do\n"
    "    if tonumber(b) > known then ranges[#ranges + 1] = a .. '-' .. b end\n"
    "  end\n"
    "end\n"
    "local function append(keys, args)\n"
    "  local state = redis.call('HMGET', keys[2], 'epoch', 'last', 'refused')\n"
    "  if state[1] ~= args[1] then return fenced() end\n"
    "  local last, seq = tonumber(state[2] or 0), tonumber(args[3])\n"
    "  if last < seq and last ~= tonumber(args[2]) then\n"
    "    return redis.error_reply('SALVOGAP a message before this one is missing')\n"
    "  end\n"
    "  local ids, at, n, ranges, from = {}, 5, 0, nil, nil\n"
    "  while at <= #args do\n"
    "    local size, id = tonumber(args[at]), ''\n"
    "    if seq > last then\n"
    "      id = redis.pcall('XADD', keys[1], unpack(args, at + 1, at + size))\n"
    "      if not id then id = redis.error_reply('SALVONOSTREAM there is no such stream') end\n"
    "    end\n"
    "    n = n + 1\n"
    "    ids[n] = id\n"
    "    if type(id) == 'table' then\n"
    "      if not ranges then\n"
    "        ranges = {}\n"
    "        keep(ranges, state[3] or '', tonumber(args[4]))\n"
    "      end\n"
    "      local final = string.match(id.err, '^%-?ERR ') or string.match(id.err, '^%-?WRONG') or\n"
    "                    string.match(id.err, '^%-?SALVO')\n"
    "      if not final or #ranges >= most then\n"
    "        if final then ids[n] = redis.error_reply('SALVOGAP too many were refused') end\n"
    "        break\n"
    "      end\n"
    "      from = from or seq\n"
    "    elseif from then\n"
    "      ranges[#ranges + 1] = text(from) .. '-' .. text(seq - 1)\n"
    "      from = nil\n"
    "    end\n"
    "    if seq > last then last = seq end\n"
    "    at, seq = at + size + 1, seq + 1\n"
    "  end\n"
    "  if from then ranges[#ranges + 1] = text(from) .. '-' .. text(seq - 1) end\n"
    "  if ranges then redis.call('HSET', keys[2], 'refused', table.concat(ranges, ' ')) end\n"
    "  redis.call('HSET', keys[2], 'last', text(last))\n"
    "  redis.call('PEXPIRE', keys[2], week)\n"
    "  return ids\n"
    "end\n"
    "redis.register_function{function_name='salvo_sync_1', callback=sync, flags={'allow-oom'}}\n"
    "redis.register_function('salvo_append_1', append)\n";

int salvo_redis_once_open(salvo_redis *h)
{
    unsigned char noise[16];
    if (getrandom(noise, sizeof noise, 0) != (ssize_t)sizeof noise)
        return SALVO_ERR_IO;
    for (size_t i = 0; i < sizeof noise; i++)
        sprintf(h->producer + 2 * i, "%02x", noise[i]);
    return 0;
}

void salvo_redis_once_connected(salvo_redis *h)
{
    snprintf(h->epoch, sizeof h->epoch, "%llu", (unsigned long long)h->connects);
}

static char *put_text(char *at, const char *text)
{
    return salvo_redis_put_bulk(at, text, strlen(text));
}

static void send_sync(salvo_redis *h, uint32_t topic)
{
    salvo_redis_topic *t = &h->topics[topic];
    char command[HEAD_BYTES], *at = salvo_redis_put_count(command, 5);
    uint64_t put_at = salvo_io_bytes_put(h->link.conn);
    at = put_text(at, "FCALL");
    at = put_text(at, "salvo_sync_1");
    at = put_text(at, "1");
    at = put_text(at, t->state_key);
    at = put_text(at, h->epoch);
    if (!salvo_io_put(h->link.conn, command, (size_t)(at - command)))
        return;
    t->syncing = true;
    salvo_redis_take_off(h, SALVO_REDIS_SYNC, topic, NULL)->put_at = put_at;
}

typedef struct group { /* of messages that go by one call of the function */
    uint32_t count, args;
    size_t used;               /* of h->scratch */
    const salvo_redis_item *apart; /* the last one's value follows without a copy; or NULL */
} group;

/* 1: added; 0: it does not belong to this group; < 0: it fails with this status. */
static int add_item(salvo_redis *h, salvo_redis_entry *e, group *g, salvo_redis_item *item)
{
    const salvo_redis_template *t = &h->topics[e->batch.topic].xadd;
    int32_t status = salvo_redis_next_item(h, e, item);
    if (status != 0)
        return status;
    bool apart = item->value_len >= SALVO_REDIS_STABLE && item->value != h->packed;
    size_t bound = salvo_redis_bound(t, item) + (apart ? 0 : item->value_len);
    if (bound + (apart ? item->value_len : 0) + HEAD_BYTES > h->out_bytes)
        return SALVO_ERR_TOO_LARGE;
    if (g->count > 0 && (apart || g->used + bound > GROUP_BYTES))
        return 0; /* a large one alone: the server may refuse it for its size */
    if (!salvo_redis_scratch(&h->scratch, &h->scratch_room, g->used + bound))
        return 0;
    uint32_t args;
    char *at = h->scratch + g->used;
    g->used += (size_t)(salvo_redis_format(at, t, item, apart, &args) - at);
    g->args += args;
    g->count++;
    g->apart = apart ? item : NULL;
    return 1;
}

/* 0, or the status with which the message behind the group fails. */
static int32_t gather(salvo_redis *h, salvo_redis_entry *e, group *g, salvo_redis_item *item)
{
    int what = 1;
    uint32_t first = e->sent;
    while (what == 1 && !g->apart && g->count < SALVO_REDIS_GROUP &&
           first + g->count < e->limit && h->in_flight + g->count < h->window) {
        salvo_driver_cursor before = e->cursor;
        what = add_item(h, e, g, item);
        if (what != 1) {
            e->cursor = before;
            e->at = first + g->count;
        }
    }
    return what < 0 ? what : 0;
}

static char *put_call(char *at, const salvo_redis *h, const salvo_redis_entry *e, uint32_t args)
{
    const salvo_redis_topic *t = &h->topics[e->batch.topic];
    at = salvo_redis_put_count(at, 9 + (uint64_t)args);
    at = put_text(at, "FCALL");
    at = put_text(at, "salvo_append_1");
    at = put_text(at, "2");
    at = put_text(at, t->name);
    at = put_text(at, t->state_key);
    at = put_text(at, h->epoch);
    at = salvo_redis_put_number(at, t->last_seq);
    at = salvo_redis_put_number(at, e->seq + e->sent);
    return salvo_redis_put_number(at, t->known_seq);
}

/* False: no room now. */
static bool put_group(salvo_redis *h, salvo_redis_entry *e, const group *g)
{
    char head[HEAD_BYTES];
    salvo_io_conn *conn = h->link.conn;
    salvo_redis_topic *t = &h->topics[e->batch.topic];
    size_t head_len = (size_t)(put_call(head, h, e, g->args) - head);
    size_t apart = g->apart ? g->apart->value_len + 2 : 0;
    uint64_t put_at = salvo_io_bytes_put(conn);
    if (salvo_io_room(conn) < head_len + g->used + apart)
        return false;
    salvo_io_put(conn, head, head_len);
    salvo_io_put(conn, h->scratch, g->used);
    if (g->apart) {
        salvo_io_put_stable(conn, g->apart->value, g->apart->value_len);
        e->stable_end = salvo_io_bytes_put(conn);
        salvo_io_put(conn, "\r\n", 2);
    }
    salvo_redis_flight *f = salvo_redis_take_off(h, SALVO_REDIS_APPEND, e->batch.topic, e);
    f->put_at = put_at;
    f->count = g->count;
    f->seq = e->seq + e->sent;
    h->in_flight += g->count - 1;
    e->sent += g->count;
    t->last_seq = e->seq + e->sent - 1;
    return true;
}

static void give_numbers(salvo_redis_topic *t, salvo_redis_entry *e)
{
    if (e->seq != 0)
        return;
    e->seq = t->next_seq;
    t->next_seq += e->batch.count;
}

bool salvo_redis_once_send(salvo_redis *h, salvo_redis_entry *e)
{
    salvo_redis_topic *t = &h->topics[e->batch.topic];
    if (!t->synced) {
        if (!t->syncing)
            send_sync(h, e->batch.topic);
        return false;
    }
    give_numbers(t, e);
    while (e->sent < e->limit && h->in_flight < h->window) {
        group g = {0};
        salvo_redis_item item;
        salvo_driver_cursor before = e->cursor;
        int32_t status = gather(h, e, &g, &item);
        if (g.count > 0) {
            if (!put_group(h, e, &g)) {
                e->cursor = before;
                e->at = e->sent;
                return false;
            }
        } else if (status != 0) {
            salvo_redis_take_off(h, SALVO_REDIS_LOCAL, e->batch.topic, e)->status = status;
            e->sent++;
            (void)salvo_redis_catch_up(e); /* a batch that is too short fails at its next message */
        } else {
            return false; /* no memory now */
        }
    }
    return e->sent == e->limit;
}

static bool was_refused(const salvo_redis_reply *told, uint64_t seq)
{
    for (uint32_t i = 1; i + 1 < told->count; i += 2)
        if ((uint64_t)told->parts[i].number <= seq && seq <= (uint64_t)told->parts[i + 1].number)
            return true;
    return false;
}

/* Messages [settled, to) were decided by the server, but for those that it was never asked. */
static void settle_decided(salvo_redis *h, salvo_redis_entry *e, uint32_t to,
                           const salvo_redis_reply *told)
{
    const salvo_redis_template *t = &h->topics[e->batch.topic].xadd;
    for (uint32_t i = e->settled; i < to; i++) {
        salvo_redis_item item;
        e->sent = i;
        int32_t status = salvo_redis_catch_up(e) ? salvo_redis_next_item(h, e, &item)
                                                 : SALVO_ERR_REJECTED;
        if (status == 0 &&
            salvo_redis_bound(t, &item) + item.value_len + HEAD_BYTES > h->out_bytes)
            status = SALVO_ERR_TOO_LARGE;
        if (status == 0 && was_refused(told, e->seq + i))
            status = SALVO_ERR_REJECTED;
        e->sent = i + 1;
        salvo_redis_settle(h, e, i + 1, status, -1);
    }
}

bool salvo_redis_once_synced(salvo_redis *h, uint32_t topic, const salvo_redis_reply *told)
{
    salvo_redis_topic *t = &h->topics[topic];
    if (told->count == 0 || told->count > SALVO_REDIS_PARTS)
        return false;
    for (uint32_t i = 0; i < told->count; i++)
        if (told->parts[i].type != REDIS_REPLY_INTEGER || told->parts[i].number < 0)
            return false;
    uint64_t last = (uint64_t)told->parts[0].number;
    t->synced = true;
    t->last_seq = t->known_seq = last;
    if (t->next_seq <= last)
        t->next_seq = last + 1;
    for (salvo_redis_entry *e = h->first, *next; e; e = next) {
        next = e->next;
        if (e->batch.topic != topic || e->seq == 0)
            continue;
        uint64_t decided = last < e->seq ? 0 : last - e->seq + 1;
        uint32_t to = decided < e->maybe ? (uint32_t)decided : e->maybe;
        if (to > e->settled)
            settle_decided(h, e, to, told);
        e->sent = e->maybe = e->settled;
    }
    h->sending = h->first;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * One AMQP 0-9-1 connection, from the socket to connection.open-ok and for its life, for the
 * driver and for readers. The bytes travel by io.h; rabbitmq-c encodes and decodes methods and
 * properties, and nothing else of it is used: frames are cut here, since amqp_handle_input copies
 * each frame and keeps a pool for every channel number that a server cares to name.
 *
 * Guarantees: no frame is larger than SALVO_RABBITMQ_FRAME_MAX, no byte is looked at beyond what
 * arrived; what a frame decodes to lives until the next frame, so memory does not grow with what a
 * server sends; the password appears in no text. One thread.
 */
#ifndef SALVO_RABBITMQ_LINK_H
#define SALVO_RABBITMQ_LINK_H

#include "driver.h"
#include "io.h"
#include "url.h"
#include <amqp.h>
#include <amqp_framing.h>

enum {
    SALVO_RABBITMQ_FRAME_MAX = 131072,
    SALVO_RABBITMQ_FRAME_MIN = 4096,
    SALVO_RABBITMQ_FRAME_HEAD = 7, /* type, channel, size; after the payload one more byte */
    SALVO_RABBITMQ_FRAME_COST = 8,
    SALVO_RABBITMQ_FRAME_END = 0xCE,
    SALVO_RABBITMQ_IN_BYTES = 4 * SALVO_RABBITMQ_FRAME_MAX,
    SALVO_RABBITMQ_TEXT_BYTES = 384
};

typedef enum salvo_rabbitmq_stage {
    SALVO_RABBITMQ_DOWN,
    SALVO_RABBITMQ_CONNECTING, /* the protocol's header is on its way */
    SALVO_RABBITMQ_STARTED,    /* start-ok is: waiting for tune */
    SALVO_RABBITMQ_TUNED,      /* open is: waiting for open-ok */
    SALVO_RABBITMQ_OPEN,
    SALVO_RABBITMQ_CLOSING     /* our connection.close is on its way */
} salvo_rabbitmq_stage;

typedef struct salvo_rabbitmq_frame {
    uint8_t type; /* AMQP_FRAME_METHOD, _HEADER or _BODY */
    uint16_t channel;
    const uint8_t *payload;
    uint32_t size;
    amqp_method_t method; /* of AMQP_FRAME_METHOD */
} salvo_rabbitmq_frame;

typedef struct salvo_rabbitmq_link {
    salvo_io *io;
    salvo_io_conn *conn; /* NULL when DOWN */
    salvo_rabbitmq_stage stage;
    uint32_t frame_max; /* as negotiated */
    bool paused;        /* by on_frame: the rest of the frames waits for the next step */
    bool held;          /* by the owner: frames wait, and the server with them, until it is not */
    bool blocked;
    char blocked_why[SALVO_RABBITMQ_TEXT_BYTES];
    int error; /* of the last DOWN: SALVO_ERR_UNREACHABLE, _AUTH, ... */
    uint64_t down_sent; /* and how many bytes the kernel may have taken until then */
    char why[SALVO_RABBITMQ_TEXT_BYTES];

    /* What a frame on a channel is given to. It may bring the link down. */
    void (*on_frame)(void *context, const salvo_rabbitmq_frame *frame);
    void *context;

    uint64_t (*now_ns)(void *clock);
    void *clock;
    salvo_url url;
    const salvo_config *config;
    size_t out_bytes;
    uint32_t heartbeat_s, timeout_ms;
    uint64_t login_until_ns, received_ns, sent_ns, put_before;
    amqp_pool_t pool;
} salvo_rabbitmq_link;

/* Reads the address and opens the io; connects nothing. 0, or an error with its text. */
int salvo_rabbitmq_link_open(salvo_rabbitmq_link *link, const salvo_config *config,
                             const salvo_io_options *io, size_t out_bytes, char *error,
                             size_t error_size);
void salvo_rabbitmq_link_free(salvo_rabbitmq_link *link);

/* Begin to connect and log in. It ends in OPEN, or in DOWN with `why`. */
void salvo_rabbitmq_link_connect(salvo_rabbitmq_link *link);

/* As far as it goes without blocking: bytes, frames, heartbeats, deadlines. > 0: it did work. */
int salvo_rabbitmq_link_step(salvo_rabbitmq_link *link);
/* Only hands to the kernel what was put; answers wait for the next step. */
void salvo_rabbitmq_link_send(salvo_rabbitmq_link *link);

/* Give the connection up, with a text for people. */
void salvo_rabbitmq_link_fail(salvo_rabbitmq_link *link, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A method in one frame. False: no room now, nothing was put. */
bool salvo_rabbitmq_put_method(salvo_rabbitmq_link *link, uint16_t channel, amqp_method_number_t id,
                               void *method);

/* Say good-bye and wait for the answer, up to timeout_ms; DOWN afterwards. Blocks. */
void salvo_rabbitmq_link_bye(salvo_rabbitmq_link *link, uint32_t timeout_ms);

/* Cut one frame off `bytes`: its length, 0 when it is not complete, -1 when it is no frame.
 * The method is not decoded. */
int64_t salvo_rabbitmq_cut(const uint8_t *bytes, size_t n, salvo_rabbitmq_frame *frame);

/* A frame with the encoded method into `room` bytes; its length, or 0 when it does not fit. */
size_t salvo_rabbitmq_encode(uint8_t *at, size_t room, uint16_t channel, amqp_method_number_t id,
                             void *method);

/* Text of a server for people: at most what fits, control characters replaced. */
const char *salvo_rabbitmq_text(char *to, size_t size, amqp_bytes_t from);

/* From on_frame: no further frame before the next step. */
static inline void salvo_rabbitmq_link_pause(salvo_rabbitmq_link *link)
{
    link->paused = true;
}

static inline amqp_bytes_t salvo_rabbitmq_bytes(const char *text)
{
    return amqp_cstring_bytes(text);
}

static inline uint8_t *salvo_rabbitmq_be(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;)
        *at++ = (uint8_t)(value >> (8 * i));
    return at;
}

static inline uint64_t salvo_rabbitmq_get_be(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | *at++;
    return value;
}

#endif

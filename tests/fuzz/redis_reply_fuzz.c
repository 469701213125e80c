/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Redis server may send: arbitrary bytes, in pieces whose sizes come from the first byte.
 * Whatever they are: each reply that is told is within its bounds and printable, the parser ends
 * with a text where it ends early, and after a reset it reads a good reply.
 */
#include "fuzz.h"
#include "redis_reply.h"

#include <salvo/err.h>

static int look(void *context, const salvo_redis_reply *reply)
{
    unsigned *left = context;
    size_t length = strnlen(reply->text, sizeof reply->text);
    fuzz_check(length < sizeof reply->text, "a text ends");
    for (size_t i = 0; i < length; i++)
        fuzz_check(reply->text[i] >= ' ' && reply->text[i] < 127, "a text is printable");
    if (reply->whole.type == REDIS_REPLY_ERROR) {
        salvo_redis_verdict verdict = salvo_redis_judge(reply->text);
        fuzz_check(verdict.status < 0, "an error is no success");
    }
    return (*left)-- == 0 ? 7 : 0; /* a driver that has enough */
}

static void run(salvo_redis_parser *p, const uint8_t *data, size_t size)
{
    unsigned left = data[0] & 0x80 ? 3 : 1000000;
    size_t piece = 1 + (data[0] & 0x7f) * 8;
    for (size_t at = 1; at < size; at += piece) {
        size_t n = piece < size - at ? piece : size - at;
        int err = salvo_redis_parser_run(p, data + at, n, look, &left);
        fuzz_check(err == 0 || err == 7 || (err == SALVO_ERR_INVALID && p->error[0]),
                   "it says why it ends");
        if (err != 0)
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char good[] = "*2\r\n$15\r\n1700000000000-5\r\n:7\r\n";
    salvo_redis_parser parser;
    unsigned left = 1;
    if (size == 0 || salvo_redis_parser_open(&parser) != 0)
        return 0;
    run(&parser, data, size);
    (void)salvo_redis_offset((const char *)data, size);
    fuzz_check(salvo_redis_parser_reset(&parser) == 0, "a reset");
    fuzz_check(salvo_redis_parser_run(&parser, good, sizeof good - 1, look, &left) == 0 &&
                   left == 0 && parser.reply.count == 2 && parser.reply.parts[1].number == 7,
               "after a reset a good reply is read");
    salvo_redis_parser_close(&parser);
    return 0;
}

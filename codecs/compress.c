/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of codecs; each is a file of its own beside this one.
 */
#include "compress.h"

#include "codecs.h"

#include <string.h>
#include <strings.h>

static const salvo_codec *const codecs[] = {
    &salvo_codec_gzip,
    &salvo_codec_lz4,
    &salvo_codec_zstd,
    &salvo_codec_snappy,
};

const salvo_codec *salvo_codec_find(const char *name)
{
    if (name == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++)
        if (strcmp(codecs[i]->name, name) == 0)
            return codecs[i];
    return NULL;
}

/* Names of content codings are case-insensitive. */
const salvo_codec *salvo_codec_for_encoding(const char *encoding, size_t length)
{
    if (encoding == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        const char *known = codecs[i]->content_encoding;
        if (strlen(known) == length && strncasecmp(known, encoding, length) == 0)
            return codecs[i];
    }
    return NULL;
}

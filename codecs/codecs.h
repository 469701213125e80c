/* SPDX-License-Identifier: Apache-2.0
 *
 * The codecs of this build; what they promise is in compress.h.
 */
#ifndef SALVO_CODECS_H
#define SALVO_CODECS_H

#include "compress.h"

extern const salvo_codec salvo_codec_gzip, salvo_codec_lz4, salvo_codec_zstd, salvo_codec_snappy;

#endif

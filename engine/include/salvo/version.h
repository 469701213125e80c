/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of these headers, and of the library that is linked.
 */
#ifndef SALVO_VERSION_H
#define SALVO_VERSION_H

#include <salvo/err.h>

#define SALVO_VERSION_MAJOR 0
#define SALVO_VERSION_MINOR 1
#define SALVO_VERSION_PATCH 0
#define SALVO_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif
/* The library's version, as SALVO_VERSION. Static; any thread. */
SALVO_API const char *salvo_version(void);
#ifdef __cplusplus
}
#endif
#endif

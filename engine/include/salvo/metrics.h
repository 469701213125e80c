/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers' counters and histograms for Prometheus and whatever reads its formats: as text, and
 * by HTTP. The key metrics_listen serves a producer's own from inside its process; this serves
 * all producers of the user on the host from outside, which needs nothing of them but stats_shared.
 * docs/watching.md lists the names.
 */
#ifndef SALVO_METRICS_H
#define SALVO_METRICS_H

#include <salvo/stats.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum salvo_metrics_format {
    SALVO_METRICS_OPENMETRICS = 0, /* 1.0 */
    SALVO_METRICS_PROMETHEUS = 1   /* text format 0.0.4 */
} salvo_metrics_format;

/* One producer's, from inside. 0, SALVO_ERR_IO when the stream failed, or what salvo_get_stats()
 * returns. Allocates; takes no lock that a send or a flusher takes. */
SALVO_API SALVO_MUST_USE int salvo_metrics_write(salvo *producer, salvo_metrics_format format,
                                                 FILE *stream);

/* Those of the other processes, as salvo_watch_list() finds them, at most 256. */
SALVO_API SALVO_MUST_USE int salvo_metrics_write_all(const char *directory,
                                                     salvo_metrics_format format, FILE *stream);

/* Answer GET /metrics with salvo_metrics_write_all(), in the format that the request prefers, on
 * a thread of its own. listen: "9464", "127.0.0.1:9464", "0.0.0.0:9464", "[::1]:9464"; without an
 * address the loopback, port 0 any that is free. 0, SALVO_ERR_CONFIG (a bad or used address) or
 * SALVO_ERR_NOMEM, with salvo_last_error(). A forked child does not keep the port. */
typedef struct salvo_metrics_server salvo_metrics_server;
SALVO_API SALVO_MUST_USE int salvo_metrics_serve(const char *listen, const char *directory,
                                                 salvo_metrics_server **out);
SALVO_API const char *salvo_metrics_address(const salvo_metrics_server *server); /* host:port */
/* NULL is allowed. Only in the process that began it: a forked child has not its thread. */
SALVO_API void salvo_metrics_stop(salvo_metrics_server *server);

#ifdef __cplusplus
}
#endif
#endif

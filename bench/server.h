/* SPDX-License-Identifier: Apache-2.0
 *
 * The real servers that the benchmarks speak to, started by script/broker. Guarantees: with the
 * environment variable set the server that it names is used, never started nor stopped here; else
 * a throw-away one that ends with this process, however the process ends (script/broker watches
 * it). Whatever goes wrong ends the process with one line.
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

typedef struct bench_server {
    char address[128]; /* as script/broker prints it; set by the first start */
    int pid;           /* 0: not ours, not known */
} bench_server;

/* kind: kafka, redis, rabbitmq. more: further options of `script/broker KIND start`, or "". A
 * second call gives the same server. Returns its address. */
const char *bench_server_start(bench_server *server, const char *kind, const char *variable,
                               const char *more);

/* CPU time that it has used, user and system; 0: not known. */
double bench_server_cpu_s(const bench_server *server);

#endif

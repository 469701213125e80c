/* SPDX-License-Identifier: Apache-2.0
 *
 * Starts and ends real servers through script/broker; see server.h for the guarantees.
 */
#include "server.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SERVERS = 8 };

static int owner; /* who started them: forked children must not end them */
static const char *started[MAX_SERVERS];
static int started_count;

/* Runs script/broker. Its lines: the address, or "pid N" among others of `status`. */
static int script(const char *kind, const char *what, const char *more, bench_server *server)
{
    char command[1024], line[256];
    snprintf(command, sizeof command, "'%s/script/broker' %s %s --name bench-%d %s",
             SALVO_SOURCE_DIR, kind, what, owner, more);
    FILE *pipe = popen(command, "r");
    if (!pipe)
        return -1;
    while (fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = '\0';
        if (server && sscanf(line, "pid %d", &server->pid) != 1 && !strchr(line, ' '))
            snprintf(server->address, sizeof server->address, "%.127s", line);
    }
    return pclose(pipe);
}

static void stop_servers(void)
{
    while (getpid() == owner && started_count > 0)
        (void)script(started[--started_count], "stop", "", NULL); /* it tells what goes wrong */
}

const char *bench_server_start(bench_server *server, const char *kind, const char *variable,
                               const char *more)
{
    char options[512];
    const char *given = getenv(variable);
    if (server->address[0])
        return server->address;
    if (given && *given) {
        snprintf(server->address, sizeof server->address, "%s", given);
        return server->address;
    }
    if (started_count == MAX_SERVERS)
        bench_die("more than %d servers", MAX_SERVERS);
    if (started_count == 0) {
        owner = (int)getpid();
        atexit(stop_servers);
    }
    snprintf(options, sizeof options, "--owner %d %s", owner, more);
    if (script(kind, "start", options, server) || !server->address[0])
        bench_die("script/broker could not start %s; see its words above, or set %s to the "
                  "address of one that runs", kind, variable);
    started[started_count++] = kind;
    (void)script(kind, "status", "", server);
    return server->address;
}

double bench_server_cpu_s(const bench_server *server)
{
    char path[48], text[1024] = "";
    unsigned long user = 0, system = 0;
    if (!server->pid)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", server->pid);
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = '\0';
    const char *at = strrchr(text, ')');
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                      &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

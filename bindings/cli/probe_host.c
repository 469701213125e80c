/* SPDX-License-Identifier: Apache-2.0
 *
 * The broker's process, where it runs on this host and may be looked at: who listens on the port,
 * the CPU time that it has used, and whether it may run on our cores.
 * Reads /proc and affinities only.
 */
#include "probe_host.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The socket that listens on the port; 0: none. */
static unsigned long listener(const char *path, unsigned port)
{
    char line[512];
    unsigned long found = 0;
    FILE *file = fopen(path, "re");
    while (file != NULL && found == 0 && fgets(line, sizeof line, file) != NULL) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu",
                   &local, &state, &inode) == 3 && local == port && state == 0x0a)
            found = inode;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

static bool holds(const char *pid, const char *socket)
{
    char path[300], target[64];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *fds = opendir(path);
    bool found = false;
    for (struct dirent *e; fds != NULL && !found && (e = readdir(fds)) != NULL;) {
        ssize_t n = readlinkat(dirfd(fds), e->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strcmp(target, socket) == 0;
    }
    if (fds != NULL)
        closedir(fds);
    return found;
}

int salvo_probing_broker_pid(const char *address)
{
    const char *colon = strrchr(address, ':');
    unsigned port = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
    unsigned long inode = port != 0 ? listener("/proc/net/tcp", port) : 0;
    char socket[64];
    int pid = 0;
    if (port != 0 && inode == 0)
        inode = listener("/proc/net/tcp6", port);
    if (inode == 0)
        return 0;
    snprintf(socket, sizeof socket, "socket:[%lu]", inode);
    DIR *all = opendir("/proc");
    for (struct dirent *e; all != NULL && pid == 0 && (e = readdir(all)) != NULL;)
        if (isdigit((unsigned char)e->d_name[0]) && holds(e->d_name, socket))
            pid = atoi(e->d_name);
    if (all != NULL)
        closedir(all);
    return pid;
}

/* CPU that a stat of proc tells; 0: none to be read. */
static uint64_t cpu_in(const char *path)
{
    char text[1024];
    unsigned long long user = 0, system = 0;
    FILE *file = fopen(path, "re");
    size_t n = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    text[n] = '\0';
    const char *after = strrchr(text, ')'); /* the name may hold anything */
    if (after == NULL || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                                &user, &system) != 2)
        return 0;
    return (user + system) * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t salvo_probing_cpu_of(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return cpu_in(path);
}

static bool is_called(const char *thread, const char *name)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", thread);
    FILE *file = fopen(path, "re");
    bool same = file != NULL && fgets(text, sizeof text, file) != NULL &&
                strncmp(text, name, strlen(name)) == 0;
    if (file != NULL)
        fclose(file);
    return same;
}

uint64_t salvo_probing_cpu_of_threads(const char *name)
{
    char path[64];
    uint64_t sum = 0;
    DIR *threads = opendir("/proc/self/task");
    for (struct dirent *e; threads != NULL && (e = readdir(threads)) != NULL;)
        if (isdigit((unsigned char)e->d_name[0]) && is_called(e->d_name, name)) {
            snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", e->d_name);
            sum += cpu_in(path);
        }
    if (threads != NULL)
        closedir(threads);
    return sum;
}

bool salvo_probing_shares_cores(int pid)
{
    cpu_set_t ours, its, both;
    if (sched_getaffinity(0, sizeof ours, &ours) != 0 ||
        sched_getaffinity(pid, sizeof its, &its) != 0)
        return true;
    CPU_AND(&both, &ours, &its);
    return CPU_COUNT(&both) > 0;
}

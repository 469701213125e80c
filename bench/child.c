/* SPDX-License-Identifier: Apache-2.0
 *
 * A piece of a benchmark in a process of its own; see child.h for the guarantees.
 */
#include "child.h"
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void bench_in_child(void (*work)(const void *argument, void *result), const void *argument,
                    void *result, size_t size)
{
    unsigned char room[4096] = {0};
    int fds[2], status = -1;
    if (size > sizeof room || pipe(fds))
        bench_die("no pipe to a child");
    fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        work(argument, room);
        _exit(write(fds[1], room, size) == (ssize_t)size ? 0 : 1);
    }
    close(fds[1]);
    ssize_t n = pid > 0 ? read(fds[0], room, size) : -1;
    close(fds[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status || n != (ssize_t)size)
        bench_die("a child failed (its words are above)");
    memcpy(result, room, size);
}

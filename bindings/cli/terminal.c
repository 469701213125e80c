/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard error, signals, time and memory for the salvo command. salvo_cli_say may be called
 * from any thread; lines never mix with each other or with the progress line.
 */
#include "cli.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t speaking = PTHREAD_MUTEX_INITIALIZER;
static bool progress_shown; /* under speaking */
static atomic_int signals;
static int signal_fd = -1;

void salvo_cli_progress_shown(bool shown)
{
    pthread_mutex_lock(&speaking);
    progress_shown = shown;
    pthread_mutex_unlock(&speaking);
}

static void speak(const char *format, va_list arguments, const char *command)
{
    pthread_mutex_lock(&speaking);
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
    fputs("salvo: ", stderr);
    vfprintf(stderr, format, arguments);
    if (command)
        fprintf(stderr, "; see salvo %s --help", command);
    fputc('\n', stderr);
    fflush(stderr);
    pthread_mutex_unlock(&speaking);
}

void salvo_cli_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    speak(format, arguments, NULL);
    va_end(arguments);
}

int salvo_cli_usage(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    speak(format, arguments, command);
    va_end(arguments);
    return CLI_USAGE;
}

void salvo_cli_log(void *context, int level, const char *text)
{
    (void)context;
    if (level <= 4) /* warnings and worse */
        salvo_cli_say("%s", text);
}

static void caught(int number)
{
    int saved = errno;
    (void)number;
    /* relaxed: the count carries no other data; the eventfd wakes whoever waits. */
    atomic_fetch_add_explicit(&signals, 1, memory_order_relaxed);
    salvo_cli_stop_readers();
    errno = saved;
}

void salvo_cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = caught};
    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

int salvo_cli_signals(void)
{
    return atomic_load_explicit(&signals, memory_order_relaxed);
}

int salvo_cli_signal_fd(void)
{
    return signal_fd;
}

void salvo_cli_stop_readers(void)
{
    uint64_t one = 1;
    ssize_t n = write(signal_fd, &one, sizeof one); /* full: it is readable already */
    (void)n;
}

uint64_t salvo_cli_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *or_die(void *block)
{
    if (block)
        return block;
    salvo_cli_say("out of memory");
    _exit(CLI_FAILED);
}

void *salvo_cli_alloc(size_t size)
{
    return or_die(calloc(1, size));
}

void *salvo_cli_realloc(void *block, size_t size)
{
    return or_die(realloc(block, size));
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the salvo command share: exit statuses, one-line errors, option parsing,
 * the effective configuration, and the signals. Standard output carries data only; everything
 * for people goes to standard error.
 */
#ifndef SALVO_CLI_H
#define SALVO_CLI_H

#include <getopt.h>
#include <salvo/salvo.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* something was not delivered, not readable, not writable ... */
    CLI_USAGE = 2,       /* the command line or the configuration is wrong */
    CLI_INTERRUPTED = 130
};

/* Long options without a letter of their own are numbered from here, per command. */
#define CLI_LONG_ONLY 256

typedef struct salvo_cli_command {
    const char *name;
    const char *summary;
    const char *help;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} salvo_cli_command;

extern const salvo_cli_command salvo_cli_produce, salvo_cli_consume, salvo_cli_config,
    salvo_cli_version, salvo_cli_bench;
extern const salvo_cli_command salvo_cli_top, salvo_cli_metrics;
extern const salvo_cli_command salvo_cli_report;
extern const salvo_cli_command salvo_cli_topics, salvo_cli_lag;

extern const salvo_cli_command salvo_cli_plan, salvo_cli_probe,
    salvo_cli_record;

/* One line on standard error, "salvo: ..."; clears a progress line that is being shown. */
void salvo_cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As salvo_cli_say, with "see salvo COMMAND --help" behind it; returns CLI_USAGE. */
int salvo_cli_usage(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The log lines of the library, in the command's own form. */
void salvo_cli_log(void *context, int level, const char *text);

/* Told by the progress line: it stands on the terminal and must be cleared before other text. */
void salvo_cli_progress_shown(bool shown);

/* getopt_long with errors in the command's form: the option, -1 at the end, '?' after an error
 * that was printed. */
int salvo_cli_getopt(int argc, char **argv, const char *command, const char *letters,
                     const struct option *options);

/* The name in names[0..count) that is nearest to word, or NULL when none is near. */
const char *salvo_cli_nearest(const char *word, const char *const *names, size_t count);

/* Whole numbers in [low, high]; false after a printed error that names the option. */
bool salvo_cli_number(const char *command, const char *option, const char *text, uint64_t low,
                      uint64_t high, uint64_t *out);

/* Configuration from the command line: applied last, in the order given. */
typedef struct salvo_cli_settings {
    const char *file; /* --config; NULL: ./core.toml if it exists */
    struct {
        const char *key, *value, *source;
    } *set;
    size_t count;
    char **owned; /* keys of key=value that were cut out */
    size_t owned_count;
} salvo_cli_settings;

void salvo_cli_set(salvo_cli_settings *settings, const char *key, const char *value,
                   const char *source);
/* "key=value" of --set; false after a printed error. */
bool salvo_cli_set_pair(salvo_cli_settings *settings, const char *command, const char *pair);
void salvo_cli_settings_free(salvo_cli_settings *settings);

/* Defaults, file, environment, command line. NULL after a printed error. */
salvo_config *salvo_cli_load(const salvo_cli_settings *settings);

/* The effective number of a key; fallback when the key is unset. */
uint64_t salvo_cli_config_number(const salvo_config *config, const char *key, uint64_t fallback);

/* "default", "environment", ... of a key: true when somebody set it. */
bool salvo_cli_config_is_set(const salvo_config *config, const char *key);

/* SIGINT and SIGTERM are counted and make the descriptor readable from then on; SIGPIPE is
 * ignored, so that a closed pipe is an error of write(). */
void salvo_cli_catch_signals(void);
int salvo_cli_signals(void);    /* how many came so far */
int salvo_cli_signal_fd(void);
/* From a thread: readable from now on too, without counting as a signal. */
void salvo_cli_stop_readers(void);

uint64_t salvo_cli_now_ns(void);
void *salvo_cli_alloc(size_t size);               /* zeroed; ends the program without memory */
void *salvo_cli_realloc(void *block, size_t size); /* the same */

#endif

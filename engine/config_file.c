/* SPDX-License-Identifier: Apache-2.0
 *
 * The layers that come from outside: the TOML file and the environment. Both are untrusted.
 * Guarantees: a file is read only if it is regular and at most FILE_MAX bytes; each layer takes
 * effect as a whole or not at all; nothing of a line that may hold a secret is quoted.
 * Not guaranteed: toml++ has no way to report a failed allocation; the process ends then.
 */
#include "config_store.h"
#include "config_toml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1024u * 1024u)
#define DEFAULT_PATH "core.toml"

typedef struct reading {
    salvo_config *config;
    const char *name;
} reading;

static int visit_value(const salvo_toml_value *value, void *context)
{
    reading *r = context;
    char source[512];
    snprintf(source, sizeof source, "%s:%u", r->name, value->line);
    if (strcmp(value->key, "rdkafka") == 0 && strcmp(value->type, "a table") == 0)
        return SALVO_OK; /* [messaging.rdkafka] with nothing in it */
    if (value->text == NULL)
        return salvo_config_fail(r->config, "%.100s (%s): %s cannot be a value here; allowed: "
                                 "text, a number, true or false, a list of texts",
                                 value->key, source, value->type);
    if (strlen(value->key) != value->key_len || strlen(value->text) != value->text_len)
        return salvo_config_fail(r->config, "%.100s (%s): a zero byte in a name or value",
                                 value->key, source);
    return salvo_config_put(r->config, SALVO_LAYER_FILE, value->key, value->text, source);
}

/* Does this line of the text look as if the parser's words about it could give a secret away? */
static bool is_delicate(const char *text, size_t size, unsigned line)
{
    const char *at = text, *end = text + size;
    while (line > 1 && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline != NULL ? newline + 1 : end;
        line--;
    }
    char copy[512];
    size_t used = 0;
    while (at < end && *at != '\n' && used + 1 < sizeof copy)
        copy[used++] = *at++;
    copy[used] = '\0';
    bool cut = at < end && *at != '\n';
    if (cut || strchr(copy, '@') != NULL || salvo_name_is_secret(copy))
        return true;
    copy[strcspn(copy, " =")] = '\0'; /* the key alone: its spelling may be slightly off */
    return salvo_name_is_secret(copy);
}

static int load_into(salvo_config *config, const char *text, size_t size, const char *name)
{
    reading r = {config, name};
    salvo_toml_error error = {0};
    int err = salvo_config_toml_read(text, size, visit_value, &r, &error);
    if (err != SALVO_TOML_MALFORMED)
        return err;
    bool delicate = is_delicate(text, size, error.line);
    for (char *at = error.text; *at != '\0'; at++)
        if (iscntrl((unsigned char)*at))
            *at = ' ';
    return salvo_config_fail(config, "%s:%u: malformed TOML: %s", name, error.line,
                             delicate ? "see that line (not shown: it may hold a secret)"
                                      : error.text);
}

/* Run `load` on a copy and take the copy if all went well. */
static int as_a_whole(salvo_config *config, salvo_config *copy, int err)
{
    if (err == SALVO_OK) {
        salvo_config_adopt(config, copy);
        return SALVO_OK;
    }
    memcpy(config->error, copy->error, sizeof config->error);
    salvo_config_free(copy);
    return err;
}

static int clone_for(salvo_config *config, salvo_config **copy)
{
    int err = salvo_config_clone(config, copy);
    if (err != SALVO_OK)
        (void)salvo_config_fail(config, "out of memory; the configuration is unchanged");
    return err;
}

int salvo_config_load_text(salvo_config *config, const char *text, size_t size, const char *name)
{
    if (config == NULL || text == NULL || name == NULL)
        return SALVO_ERR_INVALID;
    if (size > FILE_MAX)
        return salvo_config_fail(config, "%s: too large; allowed: at most %u bytes", name,
                                 FILE_MAX);
    salvo_config *copy;
    int err = clone_for(config, &copy);
    return err != SALVO_OK ? err : as_a_whole(config, copy, load_into(copy, text, size, name));
}

static int fail_io(salvo_config *config, const char *path, const char *what)
{
    int saved = errno;
    (void)salvo_config_fail(config, "%s: cannot %s: %s", path, what, strerror(saved));
    errno = saved;
    return SALVO_ERR_IO;
}

/* Read at most FILE_MAX + 1 bytes, so that a file that is too large is seen as such. */
static int read_text(salvo_config *config, const char *path, int fd, char *text, size_t *size)
{
    *size = 0;
    while (*size <= FILE_MAX) {
        ssize_t got = read(fd, text + *size, FILE_MAX + 1 - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_io(config, path, "read");
        if (got == 0)
            break;
        *size += (size_t)got;
    }
    return SALVO_OK;
}

static int load_fd(salvo_config *config, const char *path, int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return fail_io(config, path, "read");
    if (!S_ISREG(status.st_mode))
        return salvo_config_fail(config, "%s: not a regular file", path);
    char *text = malloc(FILE_MAX + 1);
    if (text == NULL) {
        (void)salvo_config_fail(config, "out of memory reading %s", path);
        return SALVO_ERR_NOMEM;
    }
    size_t size;
    int err = read_text(config, path, fd, text, &size);
    if (err == SALVO_OK)
        err = salvo_config_load_text(config, text, size, path);
    explicit_bzero(text, size);
    free(text);
    return err;
}

int salvo_config_load_file(salvo_config *config, const char *path)
{
    if (config == NULL)
        return SALVO_ERR_INVALID;
    bool optional = path == NULL;
    if (optional)
        path = DEFAULT_PATH;
    /* Non-blocking: a FIFO under that name must not hang the process. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return optional && errno == ENOENT ? SALVO_OK : fail_io(config, path, "open");
    int err = load_fd(config, path, fd);
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return err;
}

static const char *look_up(const salvo_key *key, char *name)
{
    size_t i = 0;
    for (; key->name[i] != '\0'; i++)
        name[i] = (char)toupper((unsigned char)key->name[i]);
    name[i] = '\0';
    const char *value = (key->flags & SALVO_KEY_NO_ENV) == 0 ? getenv(name) : NULL;
    return value != NULL && *value != '\0' ? value : NULL;
}

int salvo_config_load_env(salvo_config *config)
{
    if (config == NULL)
        return SALVO_ERR_INVALID;
    salvo_config *copy;
    int err = clone_for(config, &copy);
    if (err != SALVO_OK)
        return err;
    for (size_t i = 0; i < salvo_key_count && err == SALVO_OK; i++) {
        char name[SALVO_KEY_NAME_MAX], source[SALVO_KEY_NAME_MAX + 32];
        const char *value = look_up(&salvo_keys[i], name);
        snprintf(source, sizeof source, "environment %s", name);
        if (value != NULL)
            err = salvo_config_put(copy, SALVO_LAYER_ENV, salvo_keys[i].name, value, source);
    }
    return as_a_whole(config, copy, err);
}

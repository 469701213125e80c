/* SPDX-License-Identifier: Apache-2.0
 *
 * What can be told from a configuration key alone. Guarantees: pure functions without state or
 * allocation; a text that is too long or out of range is refused, never cut or wrapped; what
 * salvo_mask() writes is one line and holds no secret that can be recognised as one.
 */
#include "config_keys.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MASK "****"

static const struct {
    const char *name, *key;
} aliases[] = {{"broker", "message_broker"}};
#define ALIAS_COUNT (sizeof aliases / sizeof aliases[0])

int salvo_key_find(const char *name)
{
    for (size_t i = 0; i < ALIAS_COUNT; i++)
        if (strcmp(name, aliases[i].name) == 0)
            name = aliases[i].key;
    for (size_t i = 0; i < salvo_key_count; i++)
        if (strcmp(name, salvo_keys[i].name) == 0)
            return (int)i;
    return -1;
}

/* Levenshtein's distance without regard to case, so that KAFKA_ACKS finds kafka_acks. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[SALVO_KEY_NAME_MAX + 1];
    size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < width; j++) {
            unsigned same = tolower((unsigned char)a[i]) == tolower((unsigned char)b[j]);
            unsigned best = diagonal + !same;
            diagonal = row[j + 1];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[width];
}

const char *salvo_key_nearest(const char *name)
{
    size_t len = strlen(name);
    if (len >= SALVO_KEY_NAME_MAX)
        return NULL;
    const char *nearest = NULL;
    unsigned best = len < 9 ? 3 : (unsigned)(len / 3 + 1); /* farther away is no help */
    for (size_t i = 0; i < salvo_key_count; i++) {
        unsigned distance = edit_distance(name, salvo_keys[i].name);
        if (distance < best) {
            best = distance;
            nearest = salvo_keys[i].name;
        }
    }
    for (size_t i = 0; i < ALIAS_COUNT; i++) {
        unsigned distance = edit_distance(name, aliases[i].name);
        if (distance < best) {
            best = distance;
            nearest = aliases[i].name;
        }
    }
    return nearest;
}

static bool parse_number(const char *text, int64_t *number, const char **rest)
{
    /* strtoll would also take blanks and a sign before the digits, and clamp in silence. */
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (value > (uint64_t)(INT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    *number = (int64_t)value;
    *rest = at;
    return at != text;
}

static bool apply_suffix(const char *suffix, int64_t *number)
{
    static const struct {
        const char *name;
        int64_t factor;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"kB", 1000},
                 {"MB", 1000000},
                 {"GB", 1000000000},
                 {"KiB", INT64_C(1) << 10},
                 {"MiB", INT64_C(1) << 20},
                 {"GiB", INT64_C(1) << 30}};
    while (*suffix == ' ')
        suffix++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(suffix, units[i].name) == 0)
            return !__builtin_mul_overflow(*number, units[i].factor, number);
    }
    return false;
}

static bool parse_integer(const salvo_key *key, const char *text, char *canonical,
                          int64_t *number)
{
    const char *rest;
    int64_t value;
    if (!parse_number(text, &value, &rest))
        return false;
    if (key->type == SALVO_KEY_SIZE ? !apply_suffix(rest, &value) : *rest != '\0')
        return false;
    bool zero_ok = (key->flags & SALVO_KEY_OR_ZERO) != 0 && value == 0;
    if (!zero_ok && (value < key->min || value > key->max))
        return false;
    if ((key->flags & SALVO_KEY_POWER_OF_2) != 0 && (value & (value - 1)) != 0)
        return false;
    snprintf(canonical, SALVO_KEY_VALUE_MAX, "%" PRId64, value);
    *number = value;
    return true;
}

static bool parse_bool(const char *text, char *canonical, int64_t *number)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *number = (int64_t)(i & 1);
            snprintf(canonical, SALVO_KEY_VALUE_MAX, "%s", words[i & 1]);
            return true;
        }
    }
    return false;
}

static bool parse_enum(const salvo_key *key, const char *text, char *canonical, int64_t *number)
{
    size_t len = strlen(text);
    int64_t index = 0;
    for (const char *at = key->choices; *at != '\0'; index++) {
        size_t width = strcspn(at, "|");
        if (width == len && strncasecmp(at, text, len) == 0) {
            /* Kafka has two names of one thing; whoever compares should meet only one. */
            if (strcmp(text, "-1") == 0)
                return parse_enum(key, "all", canonical, number);
            snprintf(canonical, SALVO_KEY_VALUE_MAX, "%.*s", (int)width, at);
            *number = index;
            return true;
        }
        at += width + (at[width] == '|');
    }
    return false;
}

bool salvo_key_parse(const salvo_key *key, const char *text, char *canonical, int64_t *number)
{
    *number = 0;
    if (strlen(text) >= SALVO_KEY_VALUE_MAX)
        return false;
    if (*text == '\0') {
        *canonical = '\0';
        *number = key->type == SALVO_KEY_ENUM ? -1 : 0;
        return *key->initial == '\0';
    }
    switch (key->type) {
    case SALVO_KEY_INT:
    case SALVO_KEY_SIZE:
        return parse_integer(key, text, canonical, number);
    case SALVO_KEY_BOOL:
        return parse_bool(text, canonical, number);
    case SALVO_KEY_ENUM:
        return parse_enum(key, text, canonical, number);
    case SALVO_KEY_STRING:
        break;
    }
    memcpy(canonical, text, strlen(text) + 1);
    return true;
}

/* 67108864 as "64 MiB" where that is exact. */
static int print_amount(const salvo_key *key, int64_t value, char *text, size_t size)
{
    static const char *const names[] = {"", " KiB", " MiB", " GiB"};
    int step = 0;
    while (key->type == SALVO_KEY_SIZE && step < 3 && value != 0 && value % 1024 == 0) {
        value /= 1024;
        step++;
    }
    return snprintf(text, size, "%" PRId64 "%s", value, names[step]);
}

void salvo_key_allowed(const salvo_key *key, char *text, size_t size)
{
    char low[32], high[32];
    switch (key->type) {
    case SALVO_KEY_BOOL:
        snprintf(text, size, "true, false");
        return;
    case SALVO_KEY_STRING:
        snprintf(text, size, "%stext, under %u bytes", *key->initial != '\0' ? "non-empty " : "",
                 SALVO_KEY_VALUE_MAX);
        return;
    case SALVO_KEY_ENUM: {
        size_t used = 0;
        for (const char *at = key->choices; *at != '\0' && used + 3 < size; at++) {
            text[used++] = *at == '|' ? ',' : *at;
            if (*at == '|')
                text[used++] = ' ';
        }
        text[used] = '\0';
        return;
    }
    case SALVO_KEY_INT:
    case SALVO_KEY_SIZE:
        break;
    }
    print_amount(key, key->min, low, sizeof low);
    print_amount(key, key->max, high, sizeof high);
    bool zero = (key->flags & SALVO_KEY_OR_ZERO) != 0;
    bool power = (key->flags & SALVO_KEY_POWER_OF_2) != 0;
    snprintf(text, size, "%s%s%s to %s", zero ? "0, or " : "", power ? "a power of two from " : "",
             low, high);
}

const char *salvo_key_type_name(salvo_key_type type)
{
    static const char *const names[] = {"string", "int", "bool", "enum", "size"};
    return names[type];
}

bool salvo_name_is_secret(const char *name)
{
    static const char *const marks[] = {"password", "passwd",  "secret",
                                        "token",    "key.pem", "sasl.oauthbearer.config",
                                        "jaas",     "user.info"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (strcasestr(name, marks[i]) != NULL)
            return true;
    /* A misspelt password must not be printed by the very error that says so. */
    const char *nearest = salvo_key_nearest(name);
    int index = nearest != NULL ? salvo_key_find(nearest) : -1;
    return index >= 0 && (salvo_keys[index].flags & SALVO_KEY_SECRET) != 0;
}

/* Where the credentials in a URL stand: [begin, begin + length). Errs on the side of hiding: to
 * the last '@', because a password may hold any character. */
static size_t find_credentials(const char *value, size_t *begin)
{
    const char *scheme = strstr(value, "://");
    const char *from = scheme != NULL ? scheme + 3 : value;
    const char *end = strrchr(from, '@');
    if (end == NULL)
        return 0;
    const char *colon = memchr(from, ':', (size_t)(end - from));
    if (colon != NULL)
        from = colon + 1;
    *begin = (size_t)(from - value);
    return (size_t)(end - from);
}

/* The same for a query such as ?password=... */
static size_t find_query_secret(const char *value, size_t *begin)
{
    static const char *const names[] = {"password=", "pass=", "secret=", "token="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *at = strcasestr(value, names[i]);
        if (at != NULL) {
            at += strlen(names[i]);
            *begin = (size_t)(at - value);
            return strlen(at); /* to the end: an '&' may be part of it */
        }
    }
    return 0;
}

static bool hidden(size_t at, size_t begin, size_t length)
{
    return at >= begin && at < begin + length;
}

void salvo_mask(const salvo_key *key, const char *name, const char *value, char *shown,
                size_t size)
{
    bool secret = key != NULL ? (key->flags & SALVO_KEY_SECRET) != 0 : salvo_name_is_secret(name);
    if (secret) {
        snprintf(shown, size, "%s", *value != '\0' ? MASK : "");
        return;
    }
    size_t begin[2] = {0, 0}, length[2] = {0, 0}, used = 0;
    if (key == NULL || (key->flags & SALVO_KEY_URL) != 0) {
        length[0] = find_credentials(value, &begin[0]);
        length[1] = find_query_secret(value, &begin[1]);
    }
    bool masking = false;
    for (size_t i = 0; value[i] != '\0'; i++) {
        bool hide = hidden(i, begin[0], length[0]) || hidden(i, begin[1], length[1]);
        if (used + sizeof MASK + 4 > size) {
            used += (size_t)snprintf(shown + used, size - used, "...");
            break;
        }
        if (hide && !masking)
            used += (size_t)snprintf(shown + used, size - used, MASK);
        else if (!hide)
            shown[used++] = value[i];
        if (!hide && iscntrl((unsigned char)value[i]))
            shown[used - 1] = '?';
        masking = hide;
    }
    shown[used] = '\0';
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The fuzz targets without libFuzzer: every file of the folders in the arguments is given to the
 * target as it is, then in VARIANTS changed forms (bits, bytes, cuts, repeats). The changes are
 * the same in each run, so that a failure comes again.
 */
#include "fuzz.h"

#include <dirent.h>

enum { VARIANTS = 400, INPUT_MAX = 1 << 16 };

static uint64_t state = 88172645463325252u;

static uint32_t next(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* An input ends where its memory does: a read beyond it is seen by a sanitizer. */
static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    fuzz_check(exact != NULL, "memory for an input");
    memcpy(exact, bytes, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static size_t change(uint8_t *bytes, size_t size)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '\r', '"', '%', ':'};
    uint32_t at = next((uint32_t)size), span = 1 + next(16);
    if (span > size - at)
        span = (uint32_t)size - at;
    switch (next(5)) {
    case 0: bytes[at] ^= (uint8_t)(1u << next(8)); break;
    case 1: bytes[at] = edges[next(sizeof edges)]; break;
    case 2: memset(bytes + at, edges[next(sizeof edges)], span); break;
    case 3: /* a piece less */
        memmove(bytes + at, bytes + at + span, size - at - span);
        return size - span > 0 ? size - span : 1;
    default: /* a piece twice */
        if (size + span > INPUT_MAX)
            break;
        memmove(bytes + at + span, bytes + at, size - at);
        return size + span;
    }
    return size;
}

static void run_variants(const uint8_t *seed, size_t size)
{
    static uint8_t bytes[INPUT_MAX];
    run(seed, size);
    for (int i = 0; size > 0 && i < VARIANTS; i++) {
        size_t now = size;
        memcpy(bytes, seed, size);
        for (uint32_t changes = 1 + next(8); changes > 0; changes--)
            now = change(bytes, now);
        run(bytes, now);
    }
}

static void run_file(const char *path)
{
    static uint8_t bytes[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    fuzz_check(file != NULL, path);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    run_variants(bytes, size);
}

static int run_folder(const char *path)
{
    char name[4096];
    int files = 0;
    DIR *folder = opendir(path);
    if (!folder) {
        run_file(path);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        run_file(name);
        files++;
    }
    closedir(folder);
    return files;
}

int main(int argc, char **argv)
{
    int files = 0;
    for (int i = 1; i < argc; i++)
        files += run_folder(argv[i]);
    fuzz_check(files > 0, "no seeds");
    printf("%d seeds, %d variants of each\n", files, VARIANTS);
    return 0;
}

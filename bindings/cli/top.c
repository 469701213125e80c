/* SPDX-License-Identifier: Apache-2.0
 *
 * `salvo top`: producers of this user seen from outside, without their help. On a terminal it
 * refreshes in place, and leaves the terminal as it was however it ends; elsewhere it prints one
 * picture an interval.
 */
#include "top.h"

#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { DIR_OPTION = CLI_LONG_ONLY, ONCE_OPTION, JSON_OPTION };

static const char help[] =
    "usage: salvo top [OPTION...] [PID|NAME]\n\n"
    "Watch the producers of this user on this host from outside: rates, ledger, percentiles of\n"
    "each stage, fill of rings and arena, batches, broker, topics. They need not help, and are\n"
    "not slowed. NAME is a program or a client id. One producer is shown with all there is,\n"
    "several as a list. Killed ones are shown with their last state for an hour.\n\n"
    "  -i, --interval TIME  between two looks: 500ms, 2s (default 1s, at least 200ms)\n"
    "      --once           look twice, an interval apart, print the second and end\n"
    "      --json           one JSON object a look on one line, with everything\n"
    "      --dir DIR        the producers' stats_dir (default /dev/shm/salvo-UID)\n"
    "  -h, --help\n\n"
    "q or Ctrl-C ends it. Status 1: there is no such producer.\n\n"
    "examples\n"
    "  salvo top\n"
    "  salvo top --once 4711\n"
    "  salvo top --json | jq '.producers[].rates.acknowledged_per_s'\n";

typedef struct top_options {
    top_view view;
    bool once, json;
} top_options;

static struct termios before; /* of the terminal, while it is ours */
static bool screen_taken, keys_taken;

static void give_screen_back(void)
{
    static const char restore[] = "\033[?25h\033[?1049l";
    if (screen_taken && write(STDOUT_FILENO, restore, sizeof restore - 1) < 0)
        screen_taken = false;
    if (keys_taken)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    screen_taken = keys_taken = false;
}

static void resized(int number)
{
    (void)number; /* poll() ends, and the picture is drawn anew */
}

static void take_screen(void)
{
    struct sigaction action = {.sa_handler = resized};
    fputs("\033[?1049h\033[?25l", stdout);
    screen_taken = true;
    atexit(give_screen_back);
    sigemptyset(&action.sa_mask);
    sigaction(SIGWINCH, &action, NULL);
    if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* stopped, it could not give the screen back */
        keys_taken = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    }
}

/* Columns of a line of UTF-8: the bytes that hold so many. */
static size_t clip(const char *line, size_t length, size_t columns)
{
    size_t at = 0;
    for (; at < length; at++)
        if (((unsigned char)line[at] & 0xc0) != 0x80 && columns-- == 0)
            return at;
    return length;
}

static void show(const char *text, bool in_place)
{
    struct winsize size = {.ws_row = 0};
    size_t columns = SIZE_MAX, rows = SIZE_MAX;
    if (in_place && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1) {
        rows = size.ws_row;
        columns = size.ws_col;
    }
    if (in_place)
        fputs("\033[H", stdout);
    for (const char *end; (end = strchr(text, '\n')) != NULL && rows-- > 0; text = end + 1) {
        size_t length = (size_t)(end - text);
        if (in_place)
            length = clip(text, length, columns);
        fwrite(text, 1, length, stdout);
        fputs(in_place ? "\033[K" : "\n", stdout);
        if (in_place && rows > 0 && end[1] != '\0')
            fputs("\r\n", stdout);
    }
    fputs(in_place ? "\033[J" : "\n", stdout);
}

/* The one that is there, or the only one alive beside dead ones; NULL: there are several. */
static const top_source *only_one(const top_view *view)
{
    const top_source *only = view->count == 1 ? view->sources[0] : NULL;
    size_t alive = 0;
    for (size_t i = 0; i < view->count; i++)
        if (view->sources[i]->info.alive && ++alive == 1)
            only = view->sources[i];
    return alive <= 1 ? only : NULL;
}

static void draw(const top_options *o, bool in_place)
{
    salvo_picture picture = salvo_picture_for(stdout);
    struct winsize size;
    char *text = NULL;
    size_t bytes = 0;
    if (in_place && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col < 60)
        picture.width = 60; /* the rest is cut */
    picture.to = open_memstream(&text, &bytes);
    if (picture.to == NULL)
        return;
    const top_source *only = only_one(&o->view);
    if (only != NULL)
        salvo_top_draw_one(&picture, only);
    else
        salvo_top_draw_list(&picture, &o->view);
    if (only != NULL && o->view.count > 1)
        fprintf(picture.to, "\n%zu more have ended; `salvo top PID` shows one: pid %lld ...\n",
                o->view.count - 1,
                (long long)o->view.sources[o->view.sources[0] == only]->info.pid);
    if (fclose(picture.to) == 0)
        show(text, in_place);
    free(text);
}

/* True: it is time for the next look. False: the end was asked for. */
static bool wait_for(const top_options *o, uint64_t until_ns, bool in_place)
{
    for (;;) {
        uint64_t now_ns = salvo_cli_now_ns();
        struct pollfd fds[2] = {{salvo_cli_signal_fd(), POLLIN, 0},
                                {keys_taken ? STDIN_FILENO : -1, POLLIN, 0}};
        if (now_ns >= until_ns)
            return true;
        int n = poll(fds, 2, (int)((until_ns - now_ns + 999999) / 1000000));
        if (salvo_cli_signals() > 0)
            return false;
        if (n < 0 && errno == EINTR && in_place) {
            draw(o, true);
            fflush(stdout);
        }
        char key;
        if (n > 0 && fds[1].revents != 0) {
            if (read(STDIN_FILENO, &key, 1) != 1)
                keys_taken = false;
            else if (key == 'q' || key == 'Q')
                return false;
        }
    }
}

static int nobody(const top_options *o)
{
    char where[64];
    snprintf(where, sizeof where, "/dev/shm/salvo-%u", (unsigned)geteuid());
    salvo_cli_say("no producer%s%s in %s: start a program that uses Salvo as this user, with "
                  "stats_shared = true, or name its stats_dir with --dir",
                  o->view.who ? " called " : "", o->view.who ? o->view.who : "",
                  o->view.directory ? o->view.directory : where);
    return CLI_FAILED;
}

static bool any_alive(const top_view *view)
{
    for (size_t i = 0; i < view->count; i++)
        if (view->sources[i]->info.alive)
            return true;
    return false;
}

/* One look and its picture. False: nothing can be written any more. */
static bool print(const top_options *o, bool in_place)
{
    if (o->json)
        return salvo_top_json(&o->view, stdout);
    draw(o, in_place);
    return fflush(stdout) == 0;
}

static int watch(top_options *o)
{
    bool in_place = !o->once && !o->json && isatty(STDOUT_FILENO);
    int found = salvo_top_look(&o->view);
    if (found <= 0)
        return found < 0 ? CLI_FAILED : nobody(o);
    salvo_cli_catch_signals();
    if (in_place)
        take_screen();
    bool ok = o->once || print(o, in_place);
    uint64_t next_ns = salvo_cli_now_ns();
    while (ok) {
        next_ns += o->view.interval_ms * 1000000u;
        if (!(o->once && !any_alive(&o->view)) && !wait_for(o, next_ns, in_place))
            break;
        if (!(o->once && !any_alive(&o->view)) && salvo_top_look(&o->view) < 0)
            ok = false;
        ok = ok && print(o, in_place);
        if (o->once)
            break;
    }
    give_screen_back();
    return !ok ? CLI_FAILED : salvo_cli_signals() > 0 && !in_place ? CLI_INTERRUPTED : CLI_OK;
}

static bool take_interval(const char *text, uint64_t *ms)
{
    char *end;
    double value = strtod(text, &end);
    double unit = *end == '\0' || strcmp(end, "s") == 0 ? 1000 : strcmp(end, "ms") == 0 ? 1 : 0;
    if (end == text || !(value * unit >= 200 && value * unit <= 3600e3)) {
        salvo_cli_usage("top", "--interval: `%s` is not a time from 200ms to 3600s", text);
        return false;
    }
    *ms = (uint64_t)(value * unit);
    return true;
}

static int run_top(int argc, char **argv)
{
    static const struct option options[] = {{"interval", required_argument, NULL, 'i'},
                                            {"once", no_argument, NULL, ONCE_OPTION},
                                            {"json", no_argument, NULL, JSON_OPTION},
                                            {"dir", required_argument, NULL, DIR_OPTION},
                                            {"help", no_argument, NULL, 'h'}, {0}};
    static top_options o = {.view = {.interval_ms = 1000}};
    int option;
    while ((option = salvo_cli_getopt(argc, argv, "top", "i:h", options)) != -1) {
        switch (option) {
        case 'i':
            if (!take_interval(optarg, &o.view.interval_ms))
                return CLI_USAGE;
            break;
        case ONCE_OPTION: o.once = true; break;
        case JSON_OPTION: o.json = true; break;
        case DIR_OPTION: o.view.directory = optarg; break;
        case 'h': fputs(help, stdout); return CLI_OK;
        default: return CLI_USAGE;
        }
    }
    if (argc - optind > 1)
        return salvo_cli_usage("top", "unexpected argument `%s`", argv[optind + 1]);
    o.view.who = argv[optind];
    int status = watch(&o);
    salvo_top_free(&o.view);
    return status;
}

const salvo_cli_command salvo_cli_top = {"top", "watch running producers from outside", help,
                                         run_top};

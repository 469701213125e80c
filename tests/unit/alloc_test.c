/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory and system calls: after a thread's first send a send makes neither an allocation nor a
 * system call (a filter kills the child that does); and when the n-th allocation fails, for every
 * n, the engine says so and leaves nothing behind. Linked with --wrap for the allocator's names.
 */
#include "engine_fixture.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PLACES = 1 << 16 };

static struct {
    pthread_mutex_t lock;
    void *live[PLACES];
    uint64_t count, fail_at, alive; /* fail_at 0: none fails */
    bool on;
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
char *__real_strdup(const char *s);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
char *__wrap_strdup(const char *s);
void __wrap_free(void *p);

static bool may_allocate(void)
{
    pthread_mutex_lock(&heap.lock);
    bool fails = heap.on && ++heap.count == heap.fail_at;
    pthread_mutex_unlock(&heap.lock);
    return !fails;
}

static void forget(void *p)
{
    pthread_mutex_lock(&heap.lock);
    for (size_t i = 0; p != NULL && heap.alive != 0 && i < PLACES; i++)
        if (heap.live[i] == p) {
            heap.live[i] = NULL;
            heap.alive--;
            break;
        }
    pthread_mutex_unlock(&heap.lock);
}

static void *remember(void *p)
{
    pthread_mutex_lock(&heap.lock);
    for (size_t i = 0; heap.on && p != NULL && i < PLACES; i++)
        if (heap.live[i] == NULL) {
            heap.live[i] = p;
            heap.alive++;
            break;
        }
    pthread_mutex_unlock(&heap.lock);
    return p;
}

void *__wrap_malloc(size_t n)
{
    return may_allocate() ? remember(__real_malloc(n)) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
    return may_allocate() ? remember(__real_calloc(n, size)) : NULL;
}

void *__wrap_realloc(void *old, size_t n)
{
    if (!may_allocate())
        return NULL;
    forget(old);
    return remember(__real_realloc(old, n));
}

void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return may_allocate() ? remember(__real_aligned_alloc(alignment, n)) : NULL;
}

char *__wrap_strdup(const char *s)
{
    return may_allocate() ? remember(__real_strdup(s)) : NULL;
}

void __wrap_free(void *p)
{
    forget(p);
    __real_free(p);
}

/* Open, send, deliver, close. The first error, or 0; a broken promise fails the test. */
static int use(engine *e, const salvo_config *config)
{
    salvo_producer_hooks hooks = {.clock = engine_now, .clock_context = e, .stepped = true};
    const salvo_message m = {.value = "v", .value_len = 1, .report = 1};
    salvo_close_report report;
    int err = salvo_producer_open(config, NULL, &hooks, &e->p);
    if (err != 0) {
        assert_null(e->p);
        assert_string_not_equal(salvo_last_error(), "");
        return err;
    }
    err = salvo_topic_open(e->p, "t", NULL, &e->topic);
    if (err == 0)
        err = salvo_send(e->p, e->topic, &m);
    for (int i = 0; i < 200 && err == 0; i++) {
        e->now_ns += 10 * MS;
        salvo_flusher_work(&e->p->flushers[0]);
    }
    int closed = salvo_close(e->p, 0, &report);
    engine_check_ledger(&report.ledger);
    assert_int_equal(report.ledger.pending, 0);
    return err != 0 ? err : closed;
}

static void every_failed_allocation_is_clean(void **state)
{
    (void)state;
    salvo_config *config = engine_config((const char *[]){"rdkafka.linger.ms", "1", NULL});
    uint64_t n = 0;
    int untroubled = 0;
    while (untroubled == 0) {
        engine e = {.now_ns = SECOND};
        heap.count = heap.alive = 0;
        heap.fail_at = ++n;
        heap.on = true;
        int err = use(&e, config);
        heap.on = false;
        if (heap.alive != 0)
            fail_msg("%d blocks left when allocation %d failed", (int)heap.alive, (int)n);
        /* DROPPED: it failed after the message was accepted, and the close report says so. */
        if (err != 0 && err != SALVO_ERR_NOMEM && err != SALVO_ERR_LIMIT &&
            err != SALVO_ERR_DROPPED)
            fail_msg("allocation %d failed and the error is %s", (int)n, salvo_strerror(err));
        untroubled = heap.count < n; /* the n-th was not reached */
        if (untroubled)
            assert_int_equal(err, 0);
        assert_true(n < 1000);
    }
    assert_true(n > 10);
    salvo_config_free(config);
}

static int send_all_ways(engine *e, int times)
{
    const salvo_header header = {"h", 1, "v", 1};
    const salvo_message m = {.value = "0123456789", .value_len = 10, .key = "k", .key_len = 1,
                             .headers = &header, .header_count = 1};
    const salvo_bytes values[3] = {{"a", 1}, {"bb", 2}, {"ccc", 3}};
    int failures = 0;
    for (int i = 0; i < times; i++) {
        salvo_claim_slot slot;
        failures += salvo_send(e->p, e->topic, &m) != 0;
        failures += salvo_send_fire_and_forget(e->p, e->topic, "k", 1, "v", 1) != 0;
        failures += salvo_send_batch_fire_and_forget(e->p, e->topic, values, 3) != 3;
        if (salvo_claim(e->p, e->topic, NULL, 0, 4, &slot) != 0)
            failures++;
        else
            failures += (i % 2 != 0 ? salvo_commit(e->p, &slot) : salvo_abort(e->p, &slot)) != 0;
    }
    return failures;
}

/* A ring that takes it all, so that no send ever meets its policy. */
static const char *const roomy[] = {"message_broker", "null", "buffer_bytes", "268435456",
                                    "ring_bytes", "33554432", "ring_descriptors", "262144", NULL};

static void sends_do_not_allocate(void **state)
{
    (void)state;
    engine e;
    engine_open(&e, roomy); /* no flusher's thread: its allocations are not a send's */
    assert_int_equal(salvo_thread_attach(e.p), 0);
    heap.count = heap.fail_at = 0;
    heap.on = true;
    int failures = send_all_ways(&e, 10000);
    heap.on = false;
    assert_int_equal(failures, 0);
    assert_int_equal(heap.count, 0);
    engine_close(&e, SALVO_ERR_DROPPED); /* nobody has delivered */
}

/* From here on this thread may exit, and nothing else. Other threads are not held. */
static bool forbid_system_calls(bool clock_too)
{
    long clock_call = clock_too ? SYS_exit_group : SYS_clock_gettime;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)clock_call, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum { CHILD_NO_FILTER = 77 };

/* In a child of its own; what is told by its exit: 0, failures, or death by SIGSYS. */
static int child_status(void (*body)(engine *e))
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        engine e;
        engine_open_as(&e, false, NULL, roomy);
        if (send_all_ways(&e, 1) != 0)
            _exit(2);
        if (!forbid_system_calls(strcmp(engine_stats(&e).clock, "tsc") == 0))
            _exit(CHILD_NO_FILTER);
        body(&e);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void sends_then_exit(engine *e)
{
    syscall(SYS_exit_group, send_all_ways(e, 25000) == 0 ? 0 : 1); /* 150 000 messages */
}

static void calls_the_system(engine *e)
{
    (void)e;
    syscall(SYS_getpid);
    syscall(SYS_exit_group, 0);
}

__attribute__((unused)) static void sends_make_no_system_call(void **state)
{
    (void)state;
    int status = child_status(calls_the_system);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_NO_FILTER) {
        print_message("no system call filters here: not tested\n");
        skip();
    }
    assert_true(WIFSIGNALED(status)); /* the filter bites */
    status = child_status(sends_then_exit);
    assert_false(WIFSIGNALED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_allocation_is_clean),
        cmocka_unit_test(sends_do_not_allocate),
#if !defined(__SANITIZE_THREAD__) /* its run time makes system calls inside every send */
        cmocka_unit_test(sends_make_no_system_call),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Counts, for each thread, at how many ticks of its own CPU time it holds the GIL: see gil.py. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

extern int PyGILState_Check(void);

static volatile struct { uint32_t ticks, held; } *counts;
static long slots;

static void tick(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    long slot = syscall(SYS_gettid) % slots;
    counts[slot].ticks += 1;
    counts[slot].held += PyGILState_Check() != 0;
}

/* Has counts written to a file, large enough for so many threads. Returns 0, or -1 on failure. */
int gil_count(int file, long threads) {
    struct sigaction action;
    /* Never unmapped: ticks come until the process ends. */
    void *memory = mmap(NULL, threads * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return -1;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = tick;
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    counts = memory;
    slots = threads;
    return sigaction(SIGPROF, &action, NULL);
}

/* Has the calling thread counted from now on, every so many nanoseconds of its CPU time. */
int gil_watch(long every_ns) {
    struct sigevent event;
    struct itimerspec every = {{0, every_ns}, {0, every_ns}};
    timer_t timer;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
    event.sigev_notify_thread_id = syscall(SYS_gettid);
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer)) return -1;
    return timer_settime(timer, 0, &every, NULL);
}

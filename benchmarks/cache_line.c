/* How long a cache line takes from one core to another and back: how far apart the two cores are at this moment.
 * On a virtual machine that changes while it runs. As a program: cache_line CPU CPU; prints nanoseconds; exit code 1 when a
 * side did not have its CPU. As a library:
 * `pass_line`, for two processes in the middle of something else. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}

/* Whether the other side has stored `turn`, within 20 ms and before the time `last`. */
static int seen(uint64_t *word, uint64_t turn, double last) {
    double end = 0;
    for (unsigned spins = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) != turn; spins++) {
        if (spins % 4096) continue;
        double t = now();
        if (end == 0) end = t + 20e6 < last ? t + 20e6 : last;
        if (t > end) return 0;
    }
    return 1;
}

/* Both sides call this at about the same time, one with first != 0, with a page that they share and the same turn, above
 * all turns used before by at least rounds + 1. -> nanoseconds there and back, -1 when the other side did not come, or
 * took turns with this one on the same CPU. */
double pass_line(uint64_t *page, int first, uint64_t turn, int rounds) {
    uint64_t *there = page, *back = page + 64;
    double start = 0, last = now() + 200e6; /* two sides that share a CPU take milliseconds for each round */
    for (int i = 0; i <= rounds; i++, turn++) {
        if (i == 1) start = now(); /* the first round waits for the other side */
        if (first) __atomic_store_n(there, turn, __ATOMIC_RELEASE);
        if (!seen(first ? back : there, turn, last)) return -1;
        if (!first) __atomic_store_n(back, turn, __ATOMIC_RELEASE);
    }
    return (now() - start) / rounds;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint64_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    int first = fork() != 0;
    pin(atoi(argv[first ? 1 : 2]));
    pass_line(page, first, 1, 2000); /* both are here now */
    double result = pass_line(page, first, 3000, 10000);
    if (first) printf("%.0f\n", result);
    return result < 0;
}

/* How long a cache line takes from one core to another and back: how far apart the two cores are at this moment.
 * On a virtual machine that changes while it runs. Usage: cache_line CPU CPU; prints nanoseconds, median of 9. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 2000, GROUPS = 9 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint64_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 1;
    uint64_t *there = page, *back = page + 64, last = ROUNDS * (GROUPS + 1), turn = 1;
    double times[GROUPS + 1];
    if (fork() == 0) {
        pin(atoi(argv[2]));
        for (uint64_t i = 1; i <= last; i++) {
            while (__atomic_load_n(there, __ATOMIC_ACQUIRE) != i) {}
            __atomic_store_n(back, i, __ATOMIC_RELEASE);
        }
        _exit(0);
    }
    pin(atoi(argv[1]));
    for (int group = 0; group <= GROUPS; group++) {
        double start = now();
        for (int k = 0; k < ROUNDS; k++, turn++) {
            __atomic_store_n(there, turn, __ATOMIC_RELEASE);
            while (__atomic_load_n(back, __ATOMIC_ACQUIRE) != turn) {}
        }
        times[group] = (now() - start) / ROUNDS;
    }
    wait(NULL);
    qsort(times + 1, GROUPS, sizeof *times, order); /* the first group waited for the other process */
    printf("%.0f\n", times[1 + GROUPS / 2]);
    return 0;
}

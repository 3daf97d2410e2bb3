/* How long a round trip by eventfd takes between two processes at C speed: the floor for round trips by interrupt.
 * Usage: eventfd_pingpong CPU CPU SECONDS; prints the median in seconds. */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Wait as a memif consumer does: poll, then empty the counter. */
static int wait_for(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t count;
    return poll(&p, 1, 1000) == 1 && read(fd, &count, sizeof count) == sizeof count;
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int there = eventfd(0, EFD_NONBLOCK), back = eventfd(0, EFD_NONBLOCK);
    uint64_t one = 1;
    double end = now() + atof(argv[3]);
    if (fork() == 0) {
        pin(atoi(argv[2]));
        while (wait_for(there))
            if (write(back, &one, sizeof one) < 0) break;
        _exit(0);
    }
    pin(atoi(argv[1]));
    static double times[1000000];
    size_t n = 0;
    while (now() < end && n < sizeof times / sizeof *times) {
        double before = now();
        if (write(there, &one, sizeof one) < 0 || !wait_for(back)) return 1;
        times[n++] = now() - before;
    }
    qsort(times, n, sizeof *times, order);
    printf("%.9f\n", times[n / 2]);
    return 0;
}

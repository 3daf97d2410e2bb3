/* Closing descriptors of unknown kind, which a peer has sent, where a close that hangs holds nobody.
 *
 * close() of a TCP socket can wait for an hour (SO_LINGER), that of a file on FUSE for ever; what is in flight inside a
 * UNIX socket is closed with it. Neither can be excluded by looking, nor interrupted. So each such descriptor is closed
 * by a short-lived thread of its own, which never touches Python. Where CLOSERS of them hang at once, what comes after
 * waits, open, until one is free.
 */
#ifndef MEMIF_CLOSER_H
#define MEMIF_CLOSER_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#endif

enum { MEMIF_CLOSERS = 64, MEMIF_CLOSER_STACK = 64 << 10, MEMIF_CLOSER_PATIENCE_NS = 2000000 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t done;
    int *waiting;       /* a stack */
    size_t count, room;
    int threads;
    unsigned long closed, given;
} memif_closer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0, 0, 0, 0};

static void *memif_closer_run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&memif_closer.lock);
    while (memif_closer.count) {
        int fd = memif_closer.waiting[--memif_closer.count];
        struct linger off = {0, 0};
        pthread_mutex_unlock(&memif_closer.lock);
        /* Here, too: another process can hold the socket's lock as long as it likes. */
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
        close(fd);
        pthread_mutex_lock(&memif_closer.lock);
        memif_closer.closed++;
        pthread_cond_broadcast(&memif_closer.done);
    }
    memif_closer.threads--;
    pthread_mutex_unlock(&memif_closer.lock);
    return NULL;
}

/* The lock is held. */
static void memif_closer_start(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int failed;

    if (memif_closer.threads >= MEMIF_CLOSERS || pthread_attr_init(&attr))
        return;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, MEMIF_CLOSER_STACK);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, &attr, memif_closer_run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (!failed)
        memif_closer.threads++;
}

static int memif_closer_room(void)
{
    int *more;
    size_t room = memif_closer.room ? 2 * memif_closer.room : 64;

    if (memif_closer.count < memif_closer.room)
        return 1;
    more = (int *)realloc(memif_closer.waiting, room * sizeof *more);
    if (more == NULL)
        return 0;
    memif_closer.waiting = more;
    memif_closer.room = room;
    return 1;
}

/* Have fd closed. Waits for that, but not long, and not at all while others hang. */
static void memif_close_elsewhere(int fd)
{
    struct timespec until;
    unsigned long ticket;

    pthread_mutex_lock(&memif_closer.lock);
    if (memif_closer_room()) {
        memif_closer.waiting[memif_closer.count++] = fd;
        ticket = ++memif_closer.given;
        memif_closer_start();
        if (memif_closer.closed + 1 == ticket && memif_closer.threads) {
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += MEMIF_CLOSER_PATIENCE_NS;
            if (until.tv_nsec >= 1000000000) {
                until.tv_nsec -= 1000000000;
                until.tv_sec++;
            }
            while (memif_closer.closed != ticket &&
                   !pthread_cond_timedwait(&memif_closer.done, &memif_closer.lock, &until))
                ;
        }
    }
    pthread_mutex_unlock(&memif_closer.lock);
}

/* What no close hangs on: memory, by the only question that no file system is asked; event and timer descriptors, by a
 * name that no file can have, as it does not begin with a slash. */
static int memif_closes_at_once(int fd)
{
    char path[32], name[32];
    ssize_t got;

    if (fcntl(fd, F_GET_SEALS) >= 0)
        return 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    got = readlink(path, name, sizeof name);
    return (got == 20 && !memcmp(name, "anon_inode:[eventfd]", 20)) ||
           (got == 20 && !memcmp(name, "anon_inode:[timerfd]", 20));
}

static void memif_discard(int fd)
{
    int before = errno;

    if (memif_closes_at_once(fd))
        close(fd);
    else
        memif_close_elsewhere(fd);
    errno = before;
}

/* A forked child has none of the threads; what they held open is closed by whoever it belongs to. */
static void memif_closer_forked(void)
{
    pthread_mutex_init(&memif_closer.lock, NULL);
    pthread_cond_init(&memif_closer.done, NULL);
    memif_closer.count = 0;
    memif_closer.threads = 0;
    memif_closer.closed = memif_closer.given;
}

static void memif_closer_setup(void)
{
    pthread_atfork(NULL, NULL, memif_closer_forked);
}

#endif

/* Giving a UNIX socket its file with exactly the mode that was asked for, and moving files without replacing others.
 *
 * The kernel makes the file of bind with the mode 0777 & ~umask, and to change that afterwards by name is not safe where
 * others may write. The umask belongs to the whole process, so a short-lived child binds: one that shares all but the
 * umask, without copying the process (as vfork) and without the signal that its parent's handlers would see. A thread
 * that calls unshare(CLONE_FS) would do as well, but containers commonly forbid unshare.
 */
#ifndef MEMIF_NAMING_H
#define MEMIF_NAMING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE 0x89E0
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

struct memif_name {
    int sock;
    unsigned mode;
    socklen_t length;
    struct sockaddr_un address;
};

static int memif_bind_in_child(void *argument)
{
    struct memif_name *name = (struct memif_name *)argument;
    umask(~name->mode & 0777);
    _exit(bind(name->sock, (struct sockaddr *)&name->address, name->length) ? errno : 0);
}

/* As bind, with errno. The thread waits in here until the child has ended. */
static int memif_bind(int sock, const char *path, size_t length, unsigned mode)
{
    struct memif_name name = {sock, mode, 0, {0}};
    _Alignas(16) char stack[32 << 10];
    sigset_t all, before;
    int status = 0, child, error;
    if (length >= sizeof name.address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    name.address.sun_family = AF_UNIX;
    memcpy(name.address.sun_path, path, length);
    name.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    sigfillset(&all); /* a handler must not run in the child, which has the parent's memory */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child = clone(memif_bind_in_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK, &name);
    error = child < 0 ? errno : 0;
    while (child >= 0 && waitpid(child, &status, __WALL) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        error = WIFEXITED(status) ? WEXITSTATUS(status) : ECANCELED;
    errno = error;
    return error ? -1 : 0;
}

/* The file that a socket was bound to, whatever has become of its name: an O_PATH descriptor, or -1. */
static int memif_bound_file(int sock)
{
    return ioctl(sock, SIOCUNIXFILE, 0);
}

static int memif_rename_new(int folder, const char *from, const char *to)
{
    return (int)syscall(SYS_renameat2, folder, from, folder, to, RENAME_NOREPLACE);
}

#endif

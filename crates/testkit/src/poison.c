/* Loaded into a process before all else (LD_PRELOAD): opening a file that begins with EVENTIDE_TEST_POISON crashes it,
   as a fault in native code would. Every other call goes on to the system. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int look_and_open(int folder, const char *path, int flags, mode_t mode) {
    int file = (int)syscall(SYS_openat, folder, path, flags, mode);
    const char *poison = getenv("EVENTIDE_TEST_POISON");
    char start[64];
    size_t length = poison ? strlen(poison) : 0;
    if (file >= 0 && length > 0 && length <= sizeof start && (flags & O_ACCMODE) == O_RDONLY &&
        pread(file, start, length, 0) == (ssize_t)length && memcmp(start, poison, length) == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    return file;
}

#define MODE(mode) mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(mode) return look_and_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(mode) return look_and_open(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(mode) return look_and_open(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(mode) return look_and_open(at, path, flags, mode); }

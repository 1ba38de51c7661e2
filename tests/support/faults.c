/*
 * Preloaded into the exporter, simulates faults of the machine: a disk that does not respond while the file HANGING_DISK exists, or
 * takes SLOW_DISK microseconds for each write; reads of the file HANGING_FILE that do not return; and, if NO_RANDOM_NUMBERS is set,
 * a system without random numbers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

int fsync(int file) {
    const char *hanging = getenv("HANGING_DISK");
    while (hanging != NULL && access(hanging, F_OK) == 0) {
        usleep(10000);
    }
    const char *slow = getenv("SLOW_DISK");
    if (slow != NULL) {
        usleep(atoi(slow));
    }
    return syscall(SYS_fsync, file);
}

ssize_t read(int file, void *buffer, size_t length) {
    const char *hanging = getenv("HANGING_FILE");
    if (hanging != NULL) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t size = readlink(link, path, sizeof path);
        while (size == (ssize_t)strlen(hanging) && memcmp(path, hanging, size) == 0) {
            usleep(10000);
        }
    }
    return syscall(SYS_read, file, buffer, length);
}

/* The standard library passes GRND_INSECURE for the keys of its hash tables. */
ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    if (length > 0 && flags == 0 && getenv("NO_RANDOM_NUMBERS") != NULL) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_getrandom, buffer, length, flags);
}

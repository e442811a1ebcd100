/* A disk of which each sync takes SYNC_US microseconds, for figures that depend on it; what is written is in memory.
 *
 *     gcc -O2 -shared -fPIC -o slow_disk.so bench/slow_disk.c
 *     SYNC_US=1000 LD_PRELOAD=$PWD/slow_disk.so python bench/durable.py --dir /dev/shm --only rounds --only rounds_unsafe
 *
 * Python, SQLite and the store's `aio_fsync` come by here. One request of the last is open at a time, as in the store.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static long sync_us(void) {
    const char *text = getenv("SYNC_US");
    return text ? atol(text) : 0;
}

static void nap(long long us) {
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        nanosleep(&left, NULL);
}

static long long done_at; /* when the open request ends */

int fsync(int file) { return nap(sync_us()), 0; }
int fdatasync(int file) { return nap(sync_us()), 0; }
int aio_fsync(int how, void *request) { return done_at = now_us() + sync_us(), 0; }
int aio_error(const void *request) { return now_us() < done_at ? EINPROGRESS : 0; }
int aio_suspend(const void *const requests[], int count, const void *timeout) { return nap(done_at - now_us()), 0; }

/* Preloaded, it makes a process repeatable: its random numbers follow from $SEED, and so do the steps of its wall clock, which
 * jumps by up to an hour in either direction now and then. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t state;
static time_t offset;

__attribute__((constructor)) static void begin(void) {
    const char *seed = getenv("SEED");
    state = seed ? strtoull(seed, NULL, 10) : 0;
}

/* SplitMix64, with the lock held. */
static uint64_t next(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

ssize_t getrandom(void *to, size_t length, unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = next();
        memcpy((char *)to + at, &word, length - at < 8 ? length - at : 8);
    }
    pthread_mutex_unlock(&lock);
    return (ssize_t)length;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long failed = syscall(SYS_clock_gettime, clock, time);
    if (failed == 0 && clock == CLOCK_REALTIME) {
        pthread_mutex_lock(&lock);
        if (next() % 50 == 0)
            offset = (time_t)(next() % 7200) - 3600;
        time->tv_sec += offset;
        pthread_mutex_unlock(&lock);
    }
    return (int)failed;
}

/* What the threads do in each mode.  Every system call is timed; an error is counted and the thread goes on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define FILES_PER_DIRECTORY 1000
#define PAGE 4096

const char *const call_names[CALLS] = {"create", "open", "write", "read", "fsync", "close", "stat", "unlink", "mkdir", "rmdir"};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The end of one timed call; `result` < 0 is an error with errno set. */
static long done(struct worker *w, enum call call, uint64_t since, long result, const char *path) {
    int error = errno;
    record(&w->calls[call], now() - since);
    if (result < 0) {
        w->calls[call].errors++;
        if (!w->first_error[0])
            snprintf(w->first_error, sizeof w->first_error, "%s %.300s: %s", call_names[call], path, strerror(error));
    }
    return result;
}

static void fail(struct worker *w, enum call call, const char *path, const char *what) {
    w->calls[call].errors++;
    if (!w->first_error[0])
        snprintf(w->first_error, sizeof w->first_error, "%s %.300s: %s", call_names[call], path, what);
}

static int timed_open(struct worker *w, enum call call, const char *path, int flags) {
    uint64_t since = now();
    return (int)done(w, call, since, open(path, flags | O_CLOEXEC, 0644), path);
}

static void timed_close(struct worker *w, int fd, const char *path) {
    uint64_t since = now();
    done(w, CLOSE, since, close(fd), path);
}

static bool timed_write(struct worker *w, int fd, size_t length, uint64_t offset, const char *path) {
    uint64_t since = now();
    ssize_t wrote = pwrite(fd, w->buffer, length, (off_t)offset);
    if (done(w, WRITE, since, wrote, path) < 0)
        return false;
    if ((size_t)wrote != length)
        fail(w, WRITE, path, "short write");
    w->bytes += (uint64_t)wrote;
    return true;
}

/* Each page starts with its offset in the file, so that a reader sees wrong data. */
static void stamp(char *buffer, size_t length, uint64_t offset) {
    for (size_t at = 0; at + sizeof offset <= length; at += PAGE) {
        uint64_t value = offset + at + options.seed;
        memcpy(buffer + at, &value, sizeof value);
    }
}

static bool stamped(const char *buffer, size_t length, uint64_t offset) {
    for (size_t at = 0; at + sizeof offset <= length; at += PAGE) {
        uint64_t value;
        memcpy(&value, buffer + at, sizeof value);
        if (value != offset + at + options.seed)
            return false;
    }
    return true;
}

static void timed_read(struct worker *w, int fd, size_t length, uint64_t offset, const char *path) {
    uint64_t since = now();
    ssize_t got = pread(fd, w->buffer, length, (off_t)offset);
    if (done(w, READ, since, got, path) < 0)
        return;
    w->bytes += (uint64_t)got;
    if ((size_t)got != length)
        fail(w, READ, path, "short read");
    else if (offset % PAGE == 0 && !stamped(w->buffer, length, offset))
        fail(w, READ, path, "wrong data");
}

static uint64_t next_random(struct worker *w) { /* xorshift64* */
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return w->random * 2685821657736338717u;
}

static const char *directory(uint64_t n) { return options.directories[n % options.n_directories]; }

/* -- many small files: a thread stays in one directory, its files are t, t + threads, t + 2 threads ... ---------- */

static void small_path(const struct worker *w, char *path, size_t room, uint64_t n) {
    if (options.own_directories)
        snprintf(path, room, "%s/t%03u/f%07llu", directory(w->index), w->index, (unsigned long long)n);
    else
        snprintf(path, room, "%s/t%03u-f%07llu", directory(w->index), w->index, (unsigned long long)n);
}

static void own_directory(struct worker *w, bool make) {
    char path[4096];
    if (!options.own_directories)
        return;
    snprintf(path, sizeof path, "%s/t%03u", directory(w->index), w->index);
    uint64_t since = now();
    done(w, make ? MKDIR : RMDIR, since, make ? mkdir(path, 0755) : rmdir(path), path);
}

static void prepare(struct worker *w) { own_directory(w, true); }
static void clear(struct worker *w) { own_directory(w, false); }

static void fill_and_close(struct worker *w, int fd, const char *path) {
    for (uint64_t at = 0; at < options.size; at += options.block) {
        uint64_t rest = options.size - at;
        if (!timed_write(w, fd, rest < options.block ? rest : options.block, at, path))
            break;
    }
    timed_close(w, fd, path);
}

static void timed_unlink(struct worker *w, const char *path) {
    uint64_t since = now();
    done(w, UNLINK, since, unlink(path), path);
}

static void cycle(struct worker *w) {
    char path[4096];
    for (uint64_t n = w->index; n < options.count; n += options.threads) {
        small_path(w, path, sizeof path, n);
        int fd = timed_open(w, CREATE, path, O_CREAT | O_EXCL | O_WRONLY);
        if (fd < 0)
            continue;
        fill_and_close(w, fd, path);
        timed_unlink(w, path);
        w->operations++;
    }
}

static void create_all(struct worker *w) {
    char path[4096];
    for (uint64_t n = w->index; n < options.count; n += options.threads) {
        small_path(w, path, sizeof path, n);
        int fd = timed_open(w, CREATE, path, O_CREAT | O_EXCL | O_WRONLY);
        if (fd >= 0)
            timed_close(w, fd, path);
    }
}

static void write_delete_all(struct worker *w) {
    char path[4096];
    for (uint64_t n = w->index; n < options.count; n += options.threads) {
        small_path(w, path, sizeof path, n);
        int fd = timed_open(w, OPEN, path, O_WRONLY);
        if (fd >= 0)
            fill_and_close(w, fd, path);
        timed_unlink(w, path);
        w->operations++;
    }
}

/* -- a tree of files, 1,000 to a directory, that stays between runs --------------------------------------------- */

static void tree_directory(char *path, size_t room, uint64_t d) {
    snprintf(path, room, "%s/d%05llu", directory(d), (unsigned long long)d);
}

static void tree_path(char *path, size_t room, uint64_t n) {
    uint64_t d = n / FILES_PER_DIRECTORY;
    snprintf(path, room, "%s/d%05llu/f%07llu", directory(d), (unsigned long long)d, (unsigned long long)n);
}

static uint64_t tree_directories(void) { return (options.count + FILES_PER_DIRECTORY - 1) / FILES_PER_DIRECTORY; }

static void tree_mkdir(struct worker *w) {
    char path[4096];
    for (uint64_t d = w->index; d < tree_directories(); d += options.threads) {
        tree_directory(path, sizeof path, d);
        uint64_t since = now();
        done(w, MKDIR, since, mkdir(path, 0755), path);
    }
}

static void tree_create(struct worker *w) {
    char path[4096];
    for (uint64_t n = w->index; n < options.count; n += options.threads) {
        tree_path(path, sizeof path, n);
        int fd = timed_open(w, CREATE, path, O_CREAT | O_EXCL | O_WRONLY);
        if (fd < 0)
            continue;
        timed_close(w, fd, path);
        w->operations++;
    }
}

static void tree_stat(struct worker *w) {
    char path[4096];
    struct statx answer;
    int flags = AT_SYMLINK_NOFOLLOW | (options.force_sync ? AT_STATX_FORCE_SYNC : 0);
    for (uint64_t pass = 0; pass < options.passes; pass++)
        for (uint64_t n = w->index; n < options.count; n += options.threads) {
            tree_path(path, sizeof path, n);
            uint64_t since = now();
            done(w, STAT, since, statx(AT_FDCWD, path, flags, STATX_BASIC_STATS, &answer), path);
            w->operations++;
        }
}

static void tree_unlink(struct worker *w) {
    char path[4096];
    for (uint64_t n = w->index; n < options.count; n += options.threads) {
        tree_path(path, sizeof path, n);
        timed_unlink(w, path);
        w->operations++;
    }
}

static void tree_rmdir(struct worker *w) {
    char path[4096];
    for (uint64_t d = w->index; d < tree_directories(); d += options.threads) {
        tree_directory(path, sizeof path, d);
        uint64_t since = now();
        done(w, RMDIR, since, rmdir(path), path);
    }
}

/* -- one big file a thread --------------------------------------------------------------------------------------- */

static void big_path(const struct worker *w, char *path, size_t room) {
    snprintf(path, room, "%s/big.%u", directory(w->index), w->index);
}

static int direct_flag(void) { return options.direct ? O_DIRECT : 0; }

/* Written, fsynced and closed within the measured time: what a cache still holds would be nobody's speed. */
static void write_big(struct worker *w) {
    char path[4096];
    big_path(w, path, sizeof path);
    int fd = timed_open(w, CREATE, path, O_CREAT | O_TRUNC | O_WRONLY | direct_flag());
    if (fd < 0)
        return;
    for (uint64_t at = 0; at + options.block <= options.size; at += options.block) {
        stamp(w->buffer, options.block, at);
        if (!timed_write(w, fd, options.block, at, path))
            break;
        w->operations++;
    }
    uint64_t since = now();
    done(w, FSYNC, since, fsync(fd), path);
    timed_close(w, fd, path);
}

static uint64_t resident(int fd, size_t size) {
    static unsigned char pages[1 << 20]; /* only the first worker asks; a file is looked at up to 4 GiB */
    size_t count = (size + PAGE - 1) / PAGE;
    uint64_t found = 0;
    void *at = count <= sizeof pages ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED)
        return 0;
    if (mincore(at, size, pages) == 0)
        for (size_t i = 0; i < count; i++)
            found += pages[i] & 1;
    munmap(at, size);
    return found * PAGE;
}

/* Before a cold read: not measured.  A backing tmpfs keeps its pages, they are its storage. */
static void drop(struct worker *w) {
    char path[4096];
    big_path(w, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (w->index == 0)
        w->cached_bytes = resident(fd, options.size);
    close(fd);
}

static void read_big(struct worker *w) {
    char path[4096];
    big_path(w, path, sizeof path);
    int fd = timed_open(w, OPEN, path, O_RDONLY | direct_flag());
    if (fd < 0)
        return;
    for (uint64_t at = 0; at + options.block <= options.size; at += options.block) {
        timed_read(w, fd, options.block, at, path);
        w->operations++;
    }
    timed_close(w, fd, path);
}

static void random_big(struct worker *w, bool writing) {
    char path[4096];
    big_path(w, path, sizeof path);
    int fd = timed_open(w, OPEN, path, (writing ? O_WRONLY : O_RDONLY) | direct_flag());
    if (fd < 0)
        return;
    uint64_t blocks = options.size / options.block;
    for (uint64_t n = w->index; n < options.count; n += options.threads) {
        uint64_t at = next_random(w) % blocks * options.block;
        if (writing) {
            stamp(w->buffer, options.block, at);
            timed_write(w, fd, options.block, at, path);
        } else {
            timed_read(w, fd, options.block, at, path);
        }
        w->operations++;
    }
    timed_close(w, fd, path);
}

static void random_read(struct worker *w) { random_big(w, false); }
static void random_write(struct worker *w) { random_big(w, true); }

/* Phases whose name begins with '-' are not measured. */
const struct mode modes[] = {
    {"cycle", {{"-prepare", prepare}, {"cycle", cycle}, {"-clear", clear}}},
    {"phased", {{"-prepare", prepare}, {"create", create_all}, {"write_delete", write_delete_all}, {"-clear", clear}}},
    {"create", {{"-mkdir", tree_mkdir}, {"create", tree_create}}},
    {"stat", {{"stat", tree_stat}}},
    {"remove", {{"remove", tree_unlink}, {"-rmdir", tree_rmdir}}},
    {"write", {{"write", write_big}}},
    {"read", {{"-drop", drop}, {"read", read_big}}},
    {"randread", {{"-drop", drop}, {"randread", random_read}}},
    {"randwrite", {{"randwrite", random_write}}},
    {NULL, {{NULL, NULL}}},
};

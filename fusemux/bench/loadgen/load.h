/* What the load generator's parts share: options, a worker's state, the modes. */
#ifndef FUSEMUX_LOAD_H
#define FUSEMUX_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

enum call { CREATE, OPEN, WRITE, READ, FSYNC, CLOSE, STAT, UNLINK, MKDIR, RMDIR, CALLS };

struct options {
    unsigned threads;
    uint64_t count;   /* files, or random operations; over all threads */
    uint64_t size;    /* bytes of a file */
    uint64_t block;   /* bytes of one read(2) or write(2) */
    uint64_t passes;  /* of stat over all files */
    uint64_t seed;
    bool direct;      /* O_DIRECT */
    bool force_sync;  /* statx asks the server, whatever is cached */
    bool own_directories;
    char **directories;
    unsigned n_directories;
};

struct worker {
    unsigned index;
    uint64_t random;
    uint64_t operations;
    uint64_t bytes;
    uint64_t cached_bytes; /* of the file to read, found in the page cache after it was dropped */
    char *buffer;
    char first_error[512];
    struct histogram calls[CALLS];
};

struct phase {
    const char *name;
    void (*run)(struct worker *);
};

struct mode {
    const char *name;
    struct phase phases[4];
};

extern struct options options;
extern const struct mode modes[];
extern const char *const call_names[CALLS];

#endif

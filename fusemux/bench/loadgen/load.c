/* fusemux-load: puts load on mounted directories and reports one JSON object.
 *
 *     fusemux-load MODE [--threads N] [--count N] [--size BYTES] [--block BYTES] [--passes N] [--seed N]
 *                  [--direct] [--force-sync] [--own-directories] DIR...
 *     fusemux-load bucket NS...          the histogram bucket of each latency, one a line (for tests)
 *
 * Numbers take k, m, g (1024).  Modes are listed in modes.c.  The exit status is 0 even when calls failed: errors
 * are part of the report.  It is 2 for a wrong command line, 1 when the load could not be started.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "load.h"

#define MAX_THREADS 4096

struct options options = {
    .threads = 1, .count = 1000, .size = 4096, .block = 1 << 20, .passes = 1, .seed = 1,
};

static const struct mode *mode;
static pthread_barrier_t start, end;

static void refuse(const char *what, const char *value) {
    fprintf(stderr, "fusemux-load: %s%s%s\n", what, value ? ": " : "", value ? value : "");
    exit(2);
}

static uint64_t number(const char *text, const char *option) {
    char *rest;
    errno = 0;
    unsigned long long value = strtoull(text, &rest, 10);
    unsigned shift = *rest == 'k' ? 10 : *rest == 'm' ? 20 : *rest == 'g' ? 30 : 0;
    if (errno || rest == text || rest[shift != 0] || value << shift >> shift != value)
        refuse("not a number", option);
    return value << shift;
}

static void parse(int argc, char **argv) {
    enum { THREADS = 256, COUNT, SIZE, BLOCK, PASSES, SEED, DIRECT, FORCE_SYNC, OWN };
    static const struct option known[] = {
        {"threads", 1, 0, THREADS}, {"count", 1, 0, COUNT},   {"size", 1, 0, SIZE},           {"block", 1, 0, BLOCK},
        {"passes", 1, 0, PASSES},   {"seed", 1, 0, SEED},     {"direct", 0, 0, DIRECT},       {"force-sync", 0, 0, FORCE_SYNC},
        {"own-directories", 0, 0, OWN}, {0, 0, 0, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (c) {
        case THREADS: options.threads = (unsigned)number(optarg, "--threads"); break;
        case COUNT: options.count = number(optarg, "--count"); break;
        case SIZE: options.size = number(optarg, "--size"); break;
        case BLOCK: options.block = number(optarg, "--block"); break;
        case PASSES: options.passes = number(optarg, "--passes"); break;
        case SEED: options.seed = number(optarg, "--seed"); break;
        case DIRECT: options.direct = true; break;
        case FORCE_SYNC: options.force_sync = true; break;
        case OWN: options.own_directories = true; break;
        default: exit(2);
        }
    if (options.threads < 1 || options.threads > MAX_THREADS)
        refuse("--threads must be 1 to 4096", NULL);
    if (options.block < 1 || options.block > 1 << 28)
        refuse("--block must be 1 byte to 256m", NULL);
    if (optind >= argc)
        refuse("name at least one directory", NULL);
    options.directories = argv + optind;
    options.n_directories = (unsigned)(argc - optind);
}

static const struct mode *find_mode(const char *name) {
    for (const struct mode *m = modes; m->name; m++)
        if (!strcmp(m->name, name))
            return m;
    refuse("no such mode", name);
    return NULL;
}

static void *work(void *argument) {
    struct worker *w = argument;
    for (const struct phase *p = mode->phases; p < mode->phases + 4 && p->name; p++) {
        pthread_barrier_wait(&start);
        p->run(w);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static struct worker *make_worker(unsigned index) {
    struct worker *w = calloc(1, sizeof *w);
    size_t room = options.block < 4096 ? 4096 : options.block;
    if (!w || posix_memalign((void **)&w->buffer, 4096, room)) {
        fprintf(stderr, "fusemux-load: no memory for %u threads\n", options.threads);
        exit(1);
    }
    memset(w->buffer, 'x', room);
    w->index = index;
    w->random = (options.seed + 1) * 0x9E3779B97F4A7C15u + index * 2 + 1;
    return w;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c > 126)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void print_call(const char *name, const struct histogram *h, bool first) {
    printf("%s\"%s\": {\"count\": %llu, \"errors\": %llu, \"total_ns\": %llu, \"max_ns\": %llu, \"buckets\": {",
           first ? "" : ", ", name, (unsigned long long)h->count, (unsigned long long)h->errors,
           (unsigned long long)h->total_ns, (unsigned long long)h->max_ns);
    const char *comma = "";
    for (unsigned i = 0; i < BUCKETS; i++)
        if (h->buckets[i]) {
            printf("%s\"%u\": %u", comma, i, h->buckets[i]);
            comma = ", ";
        }
    printf("}}");
}

static void report(struct worker **workers, const double *elapsed, double cpu) {
    struct worker *sum = make_worker(0);
    uint64_t errors = 0;
    for (unsigned t = 0; t < options.threads; t++) {
        sum->operations += workers[t]->operations;
        sum->bytes += workers[t]->bytes;
        sum->cached_bytes += workers[t]->cached_bytes;
        if (!sum->first_error[0])
            memcpy(sum->first_error, workers[t]->first_error, sizeof sum->first_error);
        for (int c = 0; c < CALLS; c++)
            merge(&sum->calls[c], &workers[t]->calls[c]);
    }
    for (int c = 0; c < CALLS; c++)
        errors += sum->calls[c].errors;
    printf("{\"mode\": \"%s\", \"threads\": %u, \"operations\": %llu, \"bytes\": %llu, \"cached_bytes\": %llu, \"errors\": %llu, ",
           mode->name, options.threads, (unsigned long long)sum->operations, (unsigned long long)sum->bytes,
           (unsigned long long)sum->cached_bytes, (unsigned long long)errors);
    printf("\"first_error\": ");
    print_text(sum->first_error);
    printf(", \"cpu_s\": %.6f, \"phases\": {", cpu);
    const char *comma = "";
    for (int p = 0; p < 4 && mode->phases[p].name; p++)
        if (mode->phases[p].name[0] != '-') {
            printf("%s\"%s\": %.9f", comma, mode->phases[p].name, elapsed[p]);
            comma = ", ";
        }
    printf("}, \"calls\": {");
    bool first = true;
    for (int c = 0; c < CALLS; c++)
        if (sum->calls[c].count) {
            print_call(call_names[c], &sum->calls[c], first);
            first = false;
        }
    printf("}}\n");
}

static int print_buckets(int argc, char **argv) {
    for (int i = 2; i < argc; i++)
        printf("%u\n", bucket_of(number(argv[i], argv[i])));
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2)
        refuse("usage: fusemux-load MODE [OPTIONS] DIR...", NULL);
    if (!strcmp(argv[1], "bucket"))
        return print_buckets(argc, argv);
    mode = find_mode(argv[1]);
    parse(argc - 1, argv + 1);

    pthread_t threads[MAX_THREADS];
    struct worker *workers[MAX_THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    pthread_barrier_init(&start, NULL, options.threads + 1);
    pthread_barrier_init(&end, NULL, options.threads + 1);
    for (unsigned t = 0; t < options.threads; t++) {
        workers[t] = make_worker(t);
        if (pthread_create(&threads[t], &attributes, work, workers[t])) {
            fprintf(stderr, "fusemux-load: cannot start thread %u of %u\n", t + 1, options.threads);
            return 1;
        }
    }
    double elapsed[4] = {0}, cpu = cpu_seconds();
    for (int p = 0; p < 4 && mode->phases[p].name; p++) {
        pthread_barrier_wait(&start);
        double since = seconds();
        pthread_barrier_wait(&end);
        elapsed[p] = seconds() - since;
    }
    cpu = cpu_seconds() - cpu;
    for (unsigned t = 0; t < options.threads; t++)
        pthread_join(threads[t], NULL);
    report(workers, elapsed, cpu);
    return 0;
}

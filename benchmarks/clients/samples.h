/* What both load clients keep and print: one sample an answer, and a line of JSON at the end. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

struct sample {
    double at, took; /* seconds: CLOCK_MONOTONIC when the answer was complete; since its request was begun */
    unsigned mark;   /* of its last bytes, the tensor's: another model's answer has another one */
};

struct samples {
    struct sample *all;
    long n, room;
    double start, last, gap, cpu; /* gap: the longest time without an answer; cpu: the client's own, at the start */
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double own_cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *need(void *memory) {
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(3);
    }
    return memory;
}

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(2);
    }
    *size = ftell(file);
    rewind(file);
    char *bytes = need(malloc(*size + 1));
    if (fread(bytes, 1, *size, file) != *size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return bytes;
}

static void samples_begin(struct samples *s) {
    s->room = 1 << 16;
    s->all = need(malloc(s->room * sizeof *s->all));
    s->start = s->last = now_s();
    s->cpu = own_cpu_s();
}

/* answer: its bytes, for the mark (FNV-1a). */
static void samples_add(struct samples *s, double begun, const char *answer, size_t size) {
    double t = now_s();
    unsigned mark = 2166136261u;
    for (size_t i = size > 32 ? size - 32 : 0; i < size; i++)
        mark = (mark ^ (unsigned char)answer[i]) * 16777619u;
    if (s->n == s->room)
        s->all = need(realloc(s->all, (s->room *= 2) * sizeof *s->all));
    s->all[s->n++] = (struct sample){t, t - begun, mark};
    if (t - s->last > s->gap)
        s->gap = t - s->last;
    s->last = t;
}

static int by_latency(const void *a, const void *b) {
    double x = ((const struct sample *)a)->took, y = ((const struct sample *)b)->took;
    return x < y ? -1 : x > y;
}

/* sent: requests begun; bad: answers that were errors; broken: connections that were refused, or ended in mid-request.
 * times: a file for every sample in the order of arrival, "at_s took_ms mark" a line; or NULL. */
static void samples_report(struct samples *s, long sent, long bad, long broken, const char *times) {
    double cpu = own_cpu_s() - s->cpu;
    if (times) {
        FILE *file = fopen(times, "w");
        if (!file) {
            perror(times);
            exit(2);
        }
        for (long i = 0; i < s->n; i++)
            fprintf(file, "%.6f %.4f %08x\n", s->all[i].at, s->all[i].took * 1e3, s->all[i].mark);
        fclose(file);
    }
    qsort(s->all, s->n, sizeof *s->all, by_latency);
    long n = s->n;
    printf("{\"sent\":%ld,\"answers\":%ld,\"bad\":%ld,\"broken\":%ld,\"rate\":%.1f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
           "\"max_ms\":%.4f,\"gap_ms\":%.3f,\"client_cpu_us\":%.2f}\n",
           sent, n, bad, broken, n ? n / (s->last - s->start) : 0, n ? s->all[n / 2].took * 1e3 : 0,
           n ? s->all[n * 99 / 100].took * 1e3 : 0, n ? s->all[n - 1].took * 1e3 : 0, s->gap * 1e3,
           n ? cpu / n * 1e6 : 0);
}

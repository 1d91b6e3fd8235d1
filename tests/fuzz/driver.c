/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without a fuzzer: every seed as it is, then changed seeds. Run N is the same on every machine, so
 * that `--only N` repeats a failure.
 *
 * usage: fuzz_NAME [--runs N] [--seconds N] [--only N] FILE-OR-FOLDER...
 */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)64 << 10)
#define SEEDS_MAX 1024

struct seed {
    uint8_t *data;
    size_t size;
};

static struct seed seeds[SEEDS_MAX];
static size_t seed_count;
static uint64_t current_run;

/* Sanitizers end the process in their own way; without one it is not there. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void tell_run(void) {
    char text[100];
    int n = snprintf(text, sizeof(text), "fuzz: this was run %llu: repeat it with --only\n",
                     (unsigned long long)current_run);
    if (write(STDERR_FILENO, text, (size_t)n) < 0) {
        return;
    }
}

static void on_signal(int number) {
    tell_run();
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t end) {
    return end > 0 ? (size_t)(random_next(state) % end) : 0;
}

static int load_file(const char *path) {
    FILE *file = fopen(path, "rbe");
    uint8_t *data = malloc(INPUT_MAX);
    if (file == NULL || data == NULL || seed_count == SEEDS_MAX) {
        fprintf(stderr, "fuzz: cannot load %s\n", path);
        free(data);
        if (file != NULL) {
            fclose(file);
        }
        return -1;
    }
    seeds[seed_count++] = (struct seed){ data, fread(data, 1, INPUT_MAX, file) };
    fclose(file);
    return 0;
}

static int not_hidden(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int load(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        return load_file(path);
    }
    struct dirent **names;
    int n = scandir(path, &names, not_hidden, alphasort), rc = n < 0 ? -1 : 0;
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/%s", path, names[i]->d_name);
        rc = rc < 0 || load_file(name) < 0 ? -1 : 0;
        free(names[i]);
    }
    if (n >= 0) {
        free(names);
    }
    return rc;
}

/* Writes 1, 2, 4 or 8 bytes that parsers trip over. */
static void odd_number(uint64_t *state, uint8_t *data, size_t size) {
    static const uint64_t numbers[] = { 0,          1,          0x7f,       0x80,
                                        0xff,       0x100,      0x7fff,     0x8000,
                                        0xffff,     0x10000,    0xffffff,   0x1000000,
                                        0x7fffffff, 0x80000000, 0xffffffff, UINT64_C(1) << 40,
                                        INT64_MAX,  UINT64_MAX };
    uint64_t value = numbers[below(state, sizeof(numbers) / sizeof(numbers[0]))] + below(state, 3) - 1;
    size_t width = (size_t)1 << below(state, 4), at = below(state, size);
    for (size_t i = 0; i < width && at + i < size; i++) {
        data[at + i] = (uint8_t)(value >> 8 * i);
    }
}

static size_t insert(uint8_t *data, size_t size, size_t at, const uint8_t *from, size_t n) {
    if (size + n > INPUT_MAX) {
        return size;
    }
    memmove(data + at + n, data + at, size - at);
    memmove(data + at, from, n);
    return size + n;
}

/* One change; returns the new size. */
static size_t change(uint64_t *state, uint8_t *data, size_t size) {
    static uint8_t piece[INPUT_MAX];
    size_t at = below(state, size), n = below(state, size - at + 1);
    n = n > 256 ? 256 : n;
    const struct seed *other = &seeds[below(state, seed_count)];
    size_t from = below(state, other->size), length = below(state, other->size - from + 1);
    switch (below(state, 8)) {
    case 0:
    case 1:
        if (size > 0) {
            data[at] ^= (uint8_t)(1u << below(state, 8));
        }
        return size;
    case 2:
        if (size > 0) {
            data[at] = (uint8_t)random_next(state);
        }
        return size;
    case 3:
        odd_number(state, data, size);
        return size;
    case 4: /* a piece twice */
        memcpy(piece, data + at, n);
        return insert(data, size, below(state, size + 1), piece, n);
    case 5: /* a piece out */
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 6: /* a piece of another seed */
        return insert(data, size, at, other->data + from, length);
    default:
        return below(state, 4) == 0 ? below(state, size + 1) : size;
    }
}

static void run_changed(uint64_t number) {
    static uint8_t data[INPUT_MAX];
    uint64_t state = number * UINT64_C(0x2545f4914f6cdd1d);
    const struct seed *seed = &seeds[below(&state, seed_count)];
    size_t size = seed->size;
    memcpy(data, seed->data, size);
    for (size_t changes = 1 + below(&state, 6); changes > 0; changes--) {
        size = change(&state, data, size);
    }
    current_run = number;
    uint8_t *exact = copy_of(data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv) {
    uint64_t runs = UINT64_MAX, only = 0, seconds = 0;
    for (int i = 1; i < argc; i++) {
        uint64_t *number = strcmp(argv[i], "--runs") == 0      ? &runs
                           : strcmp(argv[i], "--seconds") == 0 ? &seconds
                           : strcmp(argv[i], "--only") == 0    ? &only
                                                               : NULL;
        if (number != NULL && i + 1 < argc) {
            *number = strtoull(argv[++i], NULL, 10);
        } else if (load(argv[i]) < 0) {
            return 2;
        }
    }
    if (seed_count == 0 || (runs == UINT64_MAX && seconds == 0 && only == 0)) {
        fprintf(stderr, "usage: %s [--runs N] [--seconds N] [--only N] FILE-OR-FOLDER...\n", argv[0]);
        return 2;
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(tell_run);
    } else {
        signal(SIGSEGV, on_signal);
    }
    if (only != 0) {
        run_changed(only);
        return 0;
    }
    for (size_t i = 0; i < seed_count; i++) {
        LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].size);
    }
    time_t end = time(NULL) + (time_t)seconds;
    uint64_t done = 0;
    while (done < runs && (seconds == 0 || time(NULL) < end)) {
        alarm(60); /* a run that hangs says which one it was */
        run_changed(++done);
    }
    alarm(0);
    printf("%zu seeds and %llu changes of them\n", seed_count, (unsigned long long)done);
    for (size_t i = 0; i < seed_count; i++) {
        free(seeds[i].data);
    }
    return 0;
}

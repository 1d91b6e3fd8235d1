/* SPDX-License-Identifier: Apache-2.0 */
#include "host/process.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* More than ARG_MAX on any kernel that lets a process start: past it the text is not a command line. */
#define COMMAND_LINE_MAX ((size_t)16 << 20)

static void cleanup_fclose(FILE **file) {
    if (*file != NULL) {
        fclose(*file);
    }
}

static void cleanup_closedir(DIR **dir) {
    if (*dir != NULL) {
        closedir(*dir);
    }
}

#define CLEANUP_FCLOSE __attribute__((cleanup(cleanup_fclose)))
#define CLEANUP_CLOSEDIR __attribute__((cleanup(cleanup_closedir)))

/* Opens /proc/PID/NAME for reading; NULL with errno. */
static FILE *open_proc(pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

/* A process that ended between two looks: ENOENT when its directory is gone, ESRCH when it went while we read. */
static bool is_gone(int error) {
    return error == ENOENT || error == ESRCH;
}

static int proc_error(pid_t pid, const char *name, struct error *err) {
    if (is_gone(errno)) {
        return error_set(err, ERROR_SYSTEM, "process %d does not exist", (int)pid);
    }
    if (errno == EACCES || errno == EPERM) {
        return error_errno(err, ERROR_SYSTEM, "no access to /proc/%d/%s (CAP_SYS_PTRACE is needed)", (int)pid, name);
    }
    return error_errno(err, ERROR_SYSTEM, "cannot read /proc/%d/%s", (int)pid, name);
}

/* Takes a hexadecimal or decimal number and the separator behind it off *s. */
static bool take_number(const char **s, int base, char separator, uint64_t *value) {
    /* strtoull would also take white space, a sign and "0x" */
    if (!(base == 16 ? isxdigit((unsigned char)**s) : isdigit((unsigned char)**s)) ||
        ((*s)[0] == '0' && (*s)[1] == 'x')) {
        return false;
    }
    char *end;
    errno = 0;
    *value = strtoull(*s, &end, base);
    if (errno != 0 || *end != separator) {
        return false;
    }
    *s = end + 1;
    return true;
}

static bool take_flag(const char **s, char yes, char no, bool *value) {
    *value = **s == yes;
    return *value || **s == no ? ((*s)++, true) : false;
}

bool process_parse_mapping(const char *line, struct mapping *m) {
    const char *s = line;
    uint64_t major_number, minor_number, inode = 0;
    *m = (struct mapping){ 0 };
    bool ok = take_number(&s, 16, '-', &m->start) && take_number(&s, 16, ' ', &m->end) && m->start < m->end &&
              take_flag(&s, 'r', '-', &m->readable) && take_flag(&s, 'w', '-', &m->writable) &&
              take_flag(&s, 'x', '-', &m->executable) && take_flag(&s, 's', 'p', &m->shared) && *s++ == ' ' &&
              take_number(&s, 16, ' ', &m->offset) && take_number(&s, 16, ':', &major_number) &&
              take_number(&s, 16, ' ', &minor_number);
    if (!ok || major_number > UINT_MAX || minor_number > UINT_MAX) {
        return false;
    }
    /* the kernel puts a space behind the inode even without a path, but trimmed text should do too */
    size_t digits = strspn(s, "0123456789");
    char number[24];
    if (digits == 0 || digits >= sizeof(number) || (s[digits] != ' ' && s[digits] != '\n' && s[digits] != '\0')) {
        return false;
    }
    memcpy(number, s, digits);
    number[digits] = '\0';
    errno = 0;
    inode = strtoull(number, NULL, 10);
    if (errno != 0) {
        return false;
    }
    m->device = makedev((unsigned)major_number, (unsigned)minor_number);
    m->inode = (ino_t)inode;
    s += digits;
    s += strspn(s, " ");
    snprintf(m->path, sizeof(m->path), "%.*s", (int)strcspn(s, "\n"), s);
    return true;
}

int process_mappings(pid_t pid, struct mapping **list, size_t *count, struct error *err) {
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "maps");
    if (file == NULL) {
        return proc_error(pid, "maps", err);
    }
    struct mapping *maps CLEANUP_FREE = NULL;
    char *line CLEANUP_FREE = NULL;
    size_t line_size = 0, n = 0, room = 0;
    errno = 0;
    while (getline(&line, &line_size, file) > 0) {
        if (n == room) {
            room = room ? room * 2 : 64;
            struct mapping *larger = reallocarray(maps, room, sizeof(*maps));
            if (larger == NULL) {
                return error_set(err, ERROR_SYSTEM, "out of memory");
            }
            maps = larger;
        }
        if (!process_parse_mapping(line, &maps[n])) {
            return error_set(err, ERROR_SYSTEM, "cannot parse /proc/%d/maps: \"%s\"", (int)pid, line);
        }
        n++;
    }
    if (ferror(file)) {
        return proc_error(pid, "maps", err);
    }
    *list = take_ptr(&maps);
    *count = n;
    return 0;
}

int process_open_mapping(pid_t pid, const struct mapping *m, int flags, struct error *err) {
    char path[96];
    snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)pid, m->start, m->end);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0) {
        return fd;
    }
    if (errno == EPERM || errno == EACCES) {
        return error_errno(err, ERROR_SYSTEM,
                           "cannot open %s, which is %s (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE is "
                           "needed)",
                           path, m->path);
    }
    return error_errno(err, ERROR_SYSTEM, "cannot open %s, which is %s", path, m->path);
}

/* Reads all of a /proc file; the caller frees the result, which has a NUL behind its *length bytes. */
static char *read_all(FILE *file, size_t *length) {
    char *text CLEANUP_FREE = NULL;
    size_t room = 4096, n = 0;
    for (;;) {
        char *larger = realloc(text, room + 1);
        if (larger == NULL) {
            return NULL;
        }
        text = larger;
        n += fread(text + n, 1, room - n, file);
        if (n < room) {
            break;
        }
        room *= 2;
        if (room > COMMAND_LINE_MAX) {
            errno = E2BIG;
            return NULL;
        }
    }
    if (ferror(file)) {
        return NULL;
    }
    text[n] = '\0';
    *length = n;
    return take_ptr(&text);
}

char **process_command_line(pid_t pid, struct error *err) {
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "cmdline");
    size_t length = 0, words = 0;
    char *text CLEANUP_FREE = file ? read_all(file, &length) : NULL;
    if (text == NULL) {
        proc_error(pid, "cmdline", err);
        return NULL;
    }
    if (length == 0) {
        error_set(err, ERROR_SYSTEM, "process %d has no command line: it has ended or is a kernel thread", (int)pid);
        return NULL;
    }
    for (size_t i = 0; i <= length; i++) {
        /* a last word without its NUL (a process may rewrite its command line) counts too */
        words += i < length ? text[i] == '\0' : text[length - 1] != '\0';
    }
    size_t table = (words + 1) * sizeof(char *);
    char **argv = malloc(table + length + 1);
    if (argv == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory");
        return NULL;
    }
    char *s = memcpy((char *)argv + table, text, length + 1);
    for (size_t i = 0; i < words; i++) {
        argv[i] = s;
        s += strlen(s) + 1;
    }
    argv[words] = NULL;
    return argv;
}

int process_find_descriptor(pid_t pid, const char *prefix, char *found, size_t found_size, struct error *err) {
    char path[64], link[PATH_MAX];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir CLEANUP_CLOSEDIR = opendir(path);
    if (dir == NULL) {
        return proc_error(pid, "fd", err);
    }
    for (struct dirent *entry; (errno = 0, entry = readdir(dir)) != NULL;) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
        if (n < 0) {
            continue; /* "." and "..", and a descriptor that was closed meanwhile */
        }
        link[n] = '\0';
        if (strncmp(link, prefix, strlen(prefix)) == 0) {
            snprintf(found, found_size, "%s", link);
            return 1;
        }
    }
    return errno != 0 ? proc_error(pid, "fd", err) : 0;
}

/* Whether the process maps the file: 1 yes, 0 no or it is gone, -1 we may not look. */
static int maps_file(pid_t pid, dev_t device, ino_t inode) {
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "maps");
    if (file == NULL) {
        return is_gone(errno) ? 0 : -1;
    }
    char *line CLEANUP_FREE = NULL;
    size_t line_size = 0;
    struct mapping m;
    while (getline(&line, &line_size, file) > 0) {
        if (process_parse_mapping(line, &m) && m.inode == inode && m.device == device) {
            return 1;
        }
    }
    return 0;
}

int process_find_other_mapper(pid_t pid, dev_t device, ino_t inode, pid_t *other, char *name, size_t name_size,
                              struct error *err) {
    DIR *dir CLEANUP_CLOSEDIR = opendir("/proc");
    if (dir == NULL) {
        return error_errno(err, ERROR_SYSTEM, "cannot read /proc");
    }
    pid_t self = getpid(), example = 0;
    unsigned denied = 0;
    for (struct dirent *entry; (errno = 0, entry = readdir(dir)) != NULL;) {
        char *end;
        long number = strtol(entry->d_name, &end, 10);
        if (*end != '\0' || number <= 0 || number > INT_MAX || number == pid || number == self) {
            continue;
        }
        int maps = maps_file((pid_t)number, device, inode);
        if (maps > 0) {
            *other = (pid_t)number;
            process_name(*other, name, name_size);
            return 1;
        }
        if (maps < 0) {
            denied++;
            example = (pid_t)number;
        }
    }
    if (errno != 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot read /proc");
    }
    if (denied > 0) {
        char example_name[32];
        process_name(example, example_name, sizeof(example_name));
        log_warning("cannot tell whether process %d (%s) writes the guest's memory: no access to its maps%s",
                    (int)example, example_name, denied > 1 ? "; others likewise" : "");
    }
    return 0;
}

int64_t process_status_number(pid_t pid, const char *field, struct error *err) {
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "status");
    if (file == NULL) {
        return proc_error(pid, "status", err);
    }
    char *line CLEANUP_FREE = NULL;
    size_t line_size = 0, length = strlen(field);
    while (getline(&line, &line_size, file) > 0) {
        if (strncmp(line, field, length) == 0 && line[length] == ':') {
            return strtoll(line + length + 1, NULL, 10);
        }
    }
    return ferror(file) ? proc_error(pid, "status", err) : 0;
}

pid_t process_tracer(pid_t pid, struct error *err) {
    return (pid_t)process_status_number(pid, "TracerPid", err);
}

int process_start_time(pid_t pid, uint64_t *ticks, struct error *err) {
    char text[1024];
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "stat");
    size_t n = file != NULL ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file == NULL || (n == 0 && ferror(file))) {
        return proc_error(pid, "stat", err);
    }
    text[n] = '\0';
    /* the name, in parentheses, may hold anything; the start time is the 20th field behind it */
    const char *field = strrchr(text, ')');
    for (int i = 0; i < 20 && field != NULL; i++) {
        field = strchr(field + 1, ' ');
    }
    const char *number = field != NULL ? field + 1 : "";
    return take_number(&number, 10, ' ', ticks) ? 0
                                                : error_set(err, ERROR_SYSTEM, "cannot parse /proc/%d/stat", (int)pid);
}

int process_hold(pid_t pid, struct error *err) {
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return pidfd >= 0 ? pidfd : error_errno(err, errno == ESRCH ? ERROR_VMM : ERROR_SYSTEM, "process %d", (int)pid);
}

bool process_held_has_ended(int pidfd) {
    struct pollfd p = { .fd = pidfd, .events = POLLIN };
    return poll(&p, 1, 0) != 0;
}

bool process_has_ended(pid_t pid) {
    char line[512], *state = NULL;
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "stat");
    if (file == NULL) {
        return is_gone(errno);
    }
    /* "PID (NAME) STATE …", where NAME may hold anything */
    if (fgets(line, sizeof(line), file) == NULL || (state = strrchr(line, ')')) == NULL || state[1] == '\0') {
        return ferror(file) && is_gone(errno);
    }
    return state[2] == 'Z' || state[2] == 'X';
}

pid_t process_parse_nspid(const char *line) {
    static const char field[] = "NSpid:";
    uint64_t id = 0;
    if (strncmp(line, field, sizeof(field) - 1) != 0) {
        return 0;
    }
    for (const char *s = line + sizeof(field) - 1; *s != '\0' && *s != '\n';) {
        s += strspn(s, " \t");
        if (!text_number(&s, &id) || id == 0 || id > INT_MAX || (*s != '\t' && *s != ' ' && *s != '\n' && *s != '\0')) {
            return 0;
        }
    }
    return (pid_t)id;
}

/* What thread `id` of our namespace is called in its own; 0: it is gone, or the kernel has no pid namespaces. */
static pid_t inner_id(pid_t id) {
    FILE *file CLEANUP_FCLOSE = open_proc(id, "status");
    char *line CLEANUP_FREE = NULL;
    size_t line_size = 0;
    while (file != NULL && getline(&line, &line_size, file) > 0) {
        pid_t inner = process_parse_nspid(line);
        if (inner != 0) {
            return inner;
        }
    }
    return 0;
}

int process_outer_threads(pid_t pid, pid_t *ids, size_t count, struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir CLEANUP_CLOSEDIR = opendir(path);
    bool *found CLEANUP_FREE = calloc(count + 1, sizeof(*found));
    if (found == NULL || inner_id(pid) == 0) {
        return 0; /* not told: they are what they are */
    }
    if (dir == NULL) {
        return proc_error(pid, "task", err);
    }
    for (struct dirent *entry; (errno = 0, entry = readdir(dir)) != NULL;) {
        pid_t outer = (pid_t)strtol(entry->d_name, NULL, 10), inner = outer > 0 ? inner_id(outer) : 0;
        for (size_t i = 0; i < count && inner > 0; i++) {
            if (!found[i] && ids[i] == inner) {
                ids[i] = outer;
                found[i] = true;
                break;
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!found[i]) {
            return error_set(err, ERROR_VMM, "process %d has no thread %d", (int)pid, (int)ids[i]);
        }
    }
    return 0;
}

void process_name(pid_t pid, char *name, size_t name_size) {
    FILE *file CLEANUP_FCLOSE = open_proc(pid, "comm");
    if (file == NULL || fgets(name, (int)name_size, file) == NULL) {
        snprintf(name, name_size, "?");
        return;
    }
    name[strcspn(name, "\n")] = '\0';
}

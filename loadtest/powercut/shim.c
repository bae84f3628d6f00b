// What a process does to the files below one folder, written down in order; and failures of those
// calls on demand. Preloaded into a real `mainstem serve` by relay/tests/power (docs/testing.md,
// "Power cuts"), which reads the journal and rebuilds from it what a power cut would have left.
//
//   cc -shared -fPIC -O2 -o shim.so shim.c -ldl
//   POWERCUT_ROOT=/the/folder POWERCUT_JOURNAL=/elsewhere/journal LD_PRELOAD=shim.so mainstem ...
//
// It knows names and file descriptors only; what they mean is the reader's to replay. That
// nothing slips through is proved there, too: the replayed folder must equal the real one.
//
// One lock is held over each call and its record, so that the journal's order is the order in
// which things happened, and its time stamp (CLOCK_MONOTONIC) is one at which the call was done.
//
// A record: length of what follows u32, kind u8, 3 zero bytes, file descriptor or another small
// number i32, time in ns u64, two numbers u64, length of the path u32, path, data. Little-endian, as
// the machine is.
//
// POWERCUT_FAULT=KIND:PART:N:ERRNO:HOW makes the N-th call (from 1) of that kind (`write`, `sync`) to a file whose
// name contains PART fail with ERRNO. HOW: `undone` nothing happens; `done` it happens, and is
// reported as failed; `short` the first half is written and reported, and the rest fails as
// `undone`. From the N-th on all of them fail, as a sick disk does; with `once-` before HOW only one.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind {
    START = 1,       // a process begins: all descriptors of the one before are gone
    OPEN,            // fd, flags, path
    CLOSE,           // fd
    DUP,             // fd, new fd
    WRITE,           // fd, offset, data
    TRUNCATE,        // fd, size
    TRUNCATE_PATH,   // -1, size, path
    ALLOCATE,        // fd, offset, length, data: mode i32
    SYNC,            // fd: data, size, and the entries of a folder
    SYNC_ALL,        // sync(2)
    SYNC_NOTHING,    // fd: sync_file_range, which makes nothing durable
    RENAME,          // from, data: to
    LINK,            // from, data: to
    UNLINK,          // path
    MKDIR,           // path
    RMDIR,           // path
    UNKNOWN,         // something that changes files and that is not understood; path: its name
    FAULT,           // a failure was brought about; fd, path: its file
};

#define FILES_MAX 65536
static char root[PATH_MAX];
static size_t root_len;
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
// Descriptors of files below the folder. Read without the lock: a descriptor is used by those who
// opened it.
static volatile unsigned char mine[FILES_MAX];

#define REAL(result, name, ...)                                                                    \
    static result (*real_##name)(__VA_ARGS__);                                                     \
    static void find_##name(void) {                                                                \
        if (!real_##name)                                                                          \
            real_##name = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name);                        \
    }
REAL(int, openat, int, const char *, int, ...)
REAL(int, close, int)
REAL(int, dup, int)
REAL(int, dup2, int, int)
REAL(int, dup3, int, int, int)
REAL(int, fcntl, int, int, ...)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(int, ftruncate, int, off_t)
REAL(int, truncate, const char *, off_t)
REAL(int, fallocate, int, int, off_t, off_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, sync_file_range, int, off64_t, off64_t, unsigned)
REAL(void, sync, void)
REAL(int, syncfs, int)
REAL(int, msync, void *, size_t, int)
REAL(int, renameat2, int, const char *, int, const char *, unsigned)
REAL(int, unlinkat, int, const char *, int)
REAL(int, linkat, int, const char *, int, const char *, int)
REAL(int, symlinkat, const char *, int, const char *)
REAL(int, mkdirat, int, const char *, mode_t)
REAL(void *, mmap, void *, size_t, int, int, int, off_t)
REAL(FILE *, fopen, const char *, const char *)
REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned)
REAL(ssize_t, sendfile, int, int, off_t *, size_t)

static void die(const char *what) {
    dprintf(2, "powercut shim: %s\n", what);
    abort();
}

// Written by the system call itself: nothing of ours is below the folder.
static void put(const void *bytes, size_t len) {
    while (len > 0) {
        ssize_t done = syscall(SYS_write, journal, bytes, len);
        if (done <= 0) die("cannot write the journal");
        bytes = (const char *)bytes + done;
        len -= (size_t)done;
    }
}

static void record(enum kind kind, int fd, uint64_t a, uint64_t b, const char *path,
                   const struct iovec *data, int parts, size_t data_len) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    uint32_t path_len = path ? (uint32_t)strlen(path) : 0;
    unsigned char head[40] = {0};
    uint32_t len = (uint32_t)(sizeof head - 4 + path_len + data_len);
    memcpy(head, &len, 4);
    head[4] = (unsigned char)kind;
    memcpy(head + 8, &fd, 4);
    memcpy(head + 12, &time, 8);
    memcpy(head + 20, &a, 8);
    memcpy(head + 28, &b, 8);
    memcpy(head + 36, &path_len, 4);
    put(head, sizeof head);
    put(path, path_len);
    for (int part = 0; part < parts && data_len > 0; part++) {
        size_t some = data[part].iov_len < data_len ? data[part].iov_len : data_len;
        put(data[part].iov_base, some);
        data_len -= some;
    }
}

static void record_text(enum kind kind, int fd, uint64_t a, const char *path, const char *text) {
    struct iovec part = {(void *)text, text ? strlen(text) : 0};
    record(kind, fd, a, 0, path, &part, 1, part.iov_len);
}

// ---- Failures on demand ----

static struct { int kind, error, once, how, left; char part[64]; } fault;
enum { UNDONE = 1, DONE, SHORT };

static void read_fault(const char *text) {
    char kind[16], how[16];
    int count = sscanf(text, "%15[^:]:%63[^:]:%d:%d:%15s", kind, fault.part, &fault.left,
                       &fault.error, how);
    if (count != 5) die("POWERCUT_FAULT is KIND:PART:N:ERRNO:HOW");
    char *name = how;
    if (strncmp(name, "once-", 5) == 0) fault.once = 1, name += 5;
    fault.kind = strcmp(kind, "sync") == 0 ? SYNC : WRITE;
    fault.how = strcmp(name, "done") == 0 ? DONE : strcmp(name, "short") == 0 ? SHORT : UNDONE;
}

static const char *name_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    path[len < 0 ? 0 : len] = 0;
    return path;
}

// How this call is to fail; zero: not at all. Under the lock.
static int fails(enum kind kind, int fd) {
    if (fault.kind != (int)kind || fault.left < 0) return 0;
    char path[PATH_MAX];
    const char *name = strrchr(name_of(fd, path), '/');
    if (!name || !strstr(name, fault.part)) return 0;
    if (fault.left > 1) {
        fault.left--;
        return 0;
    }
    int how = fault.how;
    fault.left = fault.once ? -1 : 1;
    // A short write is reported as it is; what fails is the next attempt.
    if (how == SHORT) fault.how = UNDONE, fault.left = 1;
    record(FAULT, fd, (uint64_t)how, 0, path, NULL, 0, 0);
    return how;
}

// ---- Which files ----

static int is_mine(int fd) { return fd >= 0 && fd < FILES_MAX && mine[fd]; }

static int below(const char *path) {
    return root_len && strncmp(path, root, root_len) == 0 &&
           (path[root_len] == '/' || path[root_len] == 0);
}

// The absolute form of a path whose last part may not exist.
static const char *absolute(int dir, const char *path, char *out) {
    char base[PATH_MAX] = "";
    if (path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) die("no working directory");
        } else {
            name_of(dir, base);
        }
        snprintf(out, PATH_MAX, "%s/%s", base, path);
    } else {
        snprintf(out, PATH_MAX, "%s", path);
    }
    // The folder itself is given in its canonical form; parts below it are plain names, but RocksDB
    // writes double slashes.
    char *to = out;
    for (char *from = out; *from; from++)
        if (!(from[0] == '/' && (from[1] == '/' || from[1] == 0))) *to++ = *from;
    *to = 0;
    return out;
}

static void start(void) __attribute__((constructor));
static void start(void) {
    find_openat(), find_close(), find_dup(), find_dup2(), find_dup3(), find_fcntl();
    find_write(), find_pwrite(), find_writev(), find_ftruncate(), find_truncate();
    find_fallocate(), find_fsync(), find_fdatasync(), find_sync_file_range(), find_sync();
    find_syncfs(), find_msync(), find_renameat2(), find_unlinkat(), find_linkat();
    find_symlinkat(), find_mkdirat(), find_mmap(), find_fopen(), find_copy_file_range();
    find_sendfile();
    const char *folder = getenv("POWERCUT_ROOT"), *file = getenv("POWERCUT_JOURNAL");
    if (!folder || !file || root_len) return;
    journal = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                           0600);
    if (journal < 0) die("cannot open the journal");
    if (getenv("POWERCUT_FAULT")) read_fault(getenv("POWERCUT_FAULT"));
    snprintf(root, sizeof root, "%s", folder);
    root_len = strlen(root);
    record(START, 0, 0, 0, root, NULL, 0, 0);
}

// ---- Opening and closing ----

static int opened(int dir, const char *path, int flags, mode_t mode) {
    if (!real_openat) start();
    pthread_mutex_lock(&lock);
    int fd = real_openat(dir, path, flags, mode);
    if (fd >= 0 && root_len) {
        char name[PATH_MAX];
        int save = errno;
        if (below(name_of(fd, name))) {
            if (fd >= FILES_MAX) die("too many descriptors");
            mine[fd] = 1;
            record(OPEN, fd, (uint64_t)flags, 0, name, NULL, 0, 0);
        }
        errno = save;
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN_LIKE(name, before, dir)                                                               \
    int name(before const char *path, int flags, ...) {                                            \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                       \
            va_list rest;                                                                          \
            va_start(rest, flags);                                                                 \
            mode = va_arg(rest, mode_t);                                                           \
            va_end(rest);                                                                          \
        }                                                                                          \
        return opened(dir, path, flags, mode);                                                     \
    }
#define COMMA ,
OPEN_LIKE(open, , AT_FDCWD)
OPEN_LIKE(open64, , AT_FDCWD)
OPEN_LIKE(openat, int dir COMMA, dir)
OPEN_LIKE(openat64, int dir COMMA, dir)

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

// libc writes such a file behind our back.
static FILE *stream(const char *path, const char *mode) {
    char name[PATH_MAX];
    if (!real_fopen) start();
    if (below(absolute(AT_FDCWD, path, name)) && strpbrk(mode, "wa+"))
        record_text(UNKNOWN, -1, 0, "fopen for writing", name);
    return real_fopen(path, mode);
}
FILE *fopen(const char *path, const char *mode) { return stream(path, mode); }
FILE *fopen64(const char *path, const char *mode) { return stream(path, mode); }

int close(int fd) {
    if (!is_mine(fd)) return real_close ? real_close(fd) : (int)syscall(SYS_close, fd);
    pthread_mutex_lock(&lock);
    mine[fd] = 0;
    record(CLOSE, fd, 0, 0, NULL, NULL, 0, 0);
    int result = real_close(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static int copied(int fd, int copy) {
    if (copy >= 0 && is_mine(fd)) {
        pthread_mutex_lock(&lock);
        if (copy >= FILES_MAX) die("too many descriptors");
        mine[copy] = 1;
        record(DUP, fd, (uint64_t)copy, 0, NULL, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    } else if (copy >= 0 && copy < FILES_MAX) {
        mine[copy] = 0;
    }
    return copy;
}
int dup(int fd) { return copied(fd, real_dup(fd)); }
int dup2(int fd, int to) { return copied(fd, real_dup2(fd, to)); }
int dup3(int fd, int to, int flags) { return copied(fd, real_dup3(fd, to, flags)); }

static int control(int fd, int command, void *argument) {
    if (!real_fcntl) start();
    int result = real_fcntl(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) copied(fd, result);
    return result;
}
#define FCNTL_LIKE(name)                                                                           \
    int name(int fd, int command, ...) {                                                           \
        va_list rest;                                                                              \
        va_start(rest, command);                                                                   \
        void *argument = va_arg(rest, void *);                                                     \
        va_end(rest);                                                                              \
        return control(fd, command, argument);                                                     \
    }
FCNTL_LIKE(fcntl)
FCNTL_LIKE(fcntl64)

// ---- Writing ----

// Offset -1: where the descriptor stands.
static ssize_t written(int fd, const struct iovec *parts, int count, off_t offset) {
    pthread_mutex_lock(&lock);
    size_t len = 0;
    for (int part = 0; part < count; part++) len += parts[part].iov_len;
    int how = fails(WRITE, fd);
    struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};
    ssize_t done = -1;
    if (how == SHORT && half.iov_len > 0) parts = &half, count = 1, len = half.iov_len;
    if (how == UNDONE)
        errno = fault.error;
    else if (offset < 0)
        done = real_writev(fd, parts, count);
    else
        done = syscall(SYS_pwritev, fd, parts, (long)count, (long)offset, 0L);
    if (done > 0) {
        int save = errno;
        off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
        record(WRITE, fd, (uint64_t)at, 0, NULL, parts, count, (size_t)done);
        errno = save;
    }
    if (how == DONE) done = -1, errno = fault.error;
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t len) {
    if (!is_mine(fd)) return real_write ? real_write(fd, bytes, len) : syscall(SYS_write, fd, bytes, len);
    struct iovec part = {(void *)bytes, len};
    return written(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_mine(fd) ? written(fd, parts, count, -1) : real_writev(fd, parts, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
    if (!is_mine(fd)) return real_pwrite(fd, bytes, len, offset);
    struct iovec part = {(void *)bytes, len};
    return written(fd, &part, 1, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
    return pwrite(fd, bytes, len, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    if (!is_mine(fd)) return syscall(SYS_pwritev, fd, parts, (long)count, (long)offset, 0L);
    return written(fd, parts, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(fd, parts, count, offset);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    if (!is_mine(fd)) return syscall(SYS_pwritev2, fd, parts, (long)count, (long)offset, 0L, flags);
    return written(fd, parts, count, offset);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    return pwritev2(fd, parts, count, offset, flags);
}

int ftruncate(int fd, off_t size) {
    if (!is_mine(fd)) return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, size);
    if (result == 0) record(TRUNCATE, fd, (uint64_t)size, 0, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int truncate(const char *path, off_t size) {
    char name[PATH_MAX];
    if (!below(absolute(AT_FDCWD, path, name))) return real_truncate(path, size);
    pthread_mutex_lock(&lock);
    int result = real_truncate(path, size);
    if (result == 0) record(TRUNCATE_PATH, -1, (uint64_t)size, 0, name, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

int fallocate(int fd, int mode, off_t offset, off_t len) {
    if (!is_mine(fd)) return real_fallocate(fd, mode, offset, len);
    pthread_mutex_lock(&lock);
    int result = real_fallocate(fd, mode, offset, len);
    struct iovec part = {&mode, sizeof mode};
    if (result == 0)
        record(ALLOCATE, fd, (uint64_t)offset, (uint64_t)len, NULL, &part, 1, sizeof mode);
    pthread_mutex_unlock(&lock);
    return result;
}
int fallocate64(int fd, int mode, off64_t offset, off64_t len) {
    return fallocate(fd, mode, offset, len);
}
int posix_fallocate(int fd, off_t offset, off_t len) {
    return fallocate(fd, 0, offset, len) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off64_t offset, off64_t len) {
    return posix_fallocate(fd, offset, len);
}

// ---- Making durable ----

static int synced(int fd, int (*real)(int)) {
    if (!is_mine(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    int how = fails(SYNC, fd), result = -1;
    if (how == UNDONE || how == SHORT) {
        errno = fault.error;
    } else {
        result = real(fd);
        int save = errno;
        if (result == 0) record(SYNC, fd, 0, 0, NULL, NULL, 0, 0);
        errno = save;
        if (how == DONE) result = -1, errno = fault.error;
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int sync_file_range(int fd, off64_t offset, off64_t len, unsigned flags) {
    if (!is_mine(fd)) return real_sync_file_range(fd, offset, len, flags);
    pthread_mutex_lock(&lock);
    int result = real_sync_file_range(fd, offset, len, flags);
    record(SYNC_NOTHING, fd, (uint64_t)offset, (uint64_t)len, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

void sync(void) {
    pthread_mutex_lock(&lock);
    real_sync();
    if (root_len) record(SYNC_ALL, -1, 0, 0, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
}
int syncfs(int fd) {
    pthread_mutex_lock(&lock);
    int result = real_syncfs(fd);
    if (root_len && is_mine(fd)) record(SYNC_ALL, fd, 0, 0, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

// ---- Entries of folders ----

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    int inside = below(absolute(from_dir, from, old)) | below(absolute(to_dir, to, new));
    if (!inside) return real_renameat2(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    int result = real_renameat2(from_dir, from, to_dir, to, flags);
    if (result == 0 && (flags || !below(old) || !below(new)))
        record_text(UNKNOWN, -1, 0, "rename across the border, or with flags", old);
    else if (result == 0)
        record_text(RENAME, -1, 0, old, new);
    pthread_mutex_unlock(&lock);
    return result;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renamed(from_dir, from, to_dir, to, 0);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return renamed(from_dir, from, to_dir, to, flags);
}

int unlinkat(int dir, const char *path, int flags) {
    char name[PATH_MAX];
    if (!below(absolute(dir, path, name))) return real_unlinkat(dir, path, flags);
    pthread_mutex_lock(&lock);
    int result = real_unlinkat(dir, path, flags);
    if (result == 0)
        record(flags & AT_REMOVEDIR ? RMDIR : UNLINK, -1, 0, 0, name, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int result = unlink(path);
    return result < 0 && errno == EISDIR ? rmdir(path) : result;
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char old[PATH_MAX], new[PATH_MAX];
    if (!below(absolute(to_dir, to, new))) return real_linkat(from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    int result = real_linkat(from_dir, from, to_dir, to, flags);
    int known = below(absolute(from_dir, from, old));
    if (result == 0) record_text(known ? LINK : UNKNOWN, -1, 0, known ? old : "link", new);
    pthread_mutex_unlock(&lock);
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int symlinkat(const char *target, int dir, const char *path) {
    char name[PATH_MAX];
    if (below(absolute(dir, path, name))) record_text(UNKNOWN, -1, 0, "symlink", name);
    return real_symlinkat(target, dir, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char name[PATH_MAX];
    if (!below(absolute(dir, path, name))) return real_mkdirat(dir, path, mode);
    pthread_mutex_lock(&lock);
    int result = real_mkdirat(dir, path, mode);
    if (result == 0) record(MKDIR, -1, 0, 0, name, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

// ---- What nobody here is known to do ----

static void *mapped(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    if (!real_mmap) return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
    int writes = (protection & PROT_WRITE) && (flags & MAP_SHARED);
    if (writes && is_mine(fd)) {
        pthread_mutex_lock(&lock);
        record_text(UNKNOWN, fd, 0, "mmap for writing", NULL);
        pthread_mutex_unlock(&lock);
    }
    return real_mmap(at, len, protection, flags, fd, offset);
}
void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset) {
    return mapped(at, len, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset) {
    return mapped(at, len, protection, flags, fd, offset);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    // Callers fall back to reading and writing.
    if (is_mine(out)) return errno = ENOSYS, -1;
    return real_copy_file_range(in, from, out, to, len, flags);
}
static ssize_t sent(int out, int in, off_t *offset, size_t len) {
    if (is_mine(out)) return errno = ENOSYS, -1;
    return real_sendfile(out, in, offset, len);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t len) { return sent(out, in, offset, len); }
ssize_t sendfile64(int out, int in, off64_t *offset, size_t len) {
    return sent(out, in, offset, len);
}

/* coppice-qemu: runs a program of QEMU with the image format and the device of Coppice in it.
 *
 * It puts the loader into LD_PRELOAD and becomes the program; the loader does the rest (loader.c).
 * The loader is found relative to this program, so a build or install folder can be moved. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Exit codes as shells and env(1) use them, for what fails before the program runs. */
enum { EXIT_OURS = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

static const char help[] =
    "usage: coppice-qemu PROGRAM [ARGUMENTS…]\n"
    "\n"
    "Runs a program of the installed QEMU with Coppice in it: the image format `coppice` and, in\n"
    "the system emulator, the device `coppice-nvme`.\n"
    "\n"
    "  coppice-qemu qemu-img create -f coppice disk.img 20G\n"
    "  coppice-qemu qemu-img snapshot -c clean disk.img\n"
    "  coppice-qemu qemu-nbd -t -k /tmp/disk.sock -f coppice disk.img\n"
    "  coppice-qemu qemu-system-x86_64 -drive if=none,id=d,format=coppice,file=disk.img \\\n"
    "      -device coppice-nvme,drive=d,serial=1 …\n"
    "\n"
    "A script is run as well; the first QEMU programs that it starts have Coppice in them.\n"
    "\n"
    "  --loader   print the library that goes into LD_PRELOAD, for those who start QEMU otherwise\n"
    "  --help     this text\n";

static void __attribute__((noreturn, format(printf, 2, 3))) fail(int code, const char* format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("coppice-qemu: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(code);
}

/* The loader lies in ../lib/coppice beside bin, in the build folder and where it is installed. */
static char* find_loader(void)
{
    char own[PATH_MAX], path[PATH_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length < 0) fail(EXIT_OURS, "/proc/self/exe cannot be read (%s)", strerror(errno));
    own[length] = '\0';
    *strrchr(own, '/') = '\0';
    snprintf(path, sizeof path, "%s/../lib/coppice/coppice-loader.so", own);
    char* loader = realpath(path, NULL);
    if (!loader) {
        fail(EXIT_OURS, "%s is missing; build it with cmake --build --preset release", path);
    }
    if (strpbrk(loader, " :")) {
        fail(EXIT_OURS,
             "'%s' has a space or colon in it, which LD_PRELOAD cannot express; move the folder",
             loader);
    }
    return loader;
}

/* As execvp looks for it. The result lives as long as the process. */
static const char* find_program(const char* name)
{
    if (strchr(name, '/')) return name;
    const char* search = getenv("PATH");
    char* folders = strdup(search ? search : "/usr/bin:/bin");
    for (char* folder; folders && (folder = strsep(&folders, ":"));) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", *folder ? folder : ".", name);
        if (length < (int)sizeof path && access(path, X_OK) == 0) return strdup(path);
    }
    fail(EXIT_NOT_FOUND, "there is no program '%s' in PATH%s", name,
         strncmp(name, "qemu", 4) == 0
             ? "; install it with apt-get install qemu-system-x86 qemu-utils"
             : "");
}

/* Ends the process if `path` is a binary without QEMU's block layer: the loader would do nothing
 * in it, and the user would wonder. What is no ELF file is taken for a script. */
static void check_program(const char* path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) {
        fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "%s cannot be opened (%s)", path,
             strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) fail(EXIT_CANNOT_RUN, "%s is not a program", path);
    size_t length = (size_t)status.st_size;
    char* bytes = length ? mmap(NULL, length, PROT_READ, MAP_PRIVATE, file, 0) : NULL;
    if (bytes && bytes != MAP_FAILED) {
        static const char symbol[] = "\0bdrv_register";
        bool elf = length >= 4 && memcmp(bytes, "\177ELF", 4) == 0;
        if (elf && !memmem(bytes, length, symbol, sizeof symbol)) {
            fail(EXIT_OURS,
                 memmem(bytes, length, "QEMU", 4)
                     ? "%s is of QEMU but has no block layer that modules can join; use Debian's "
                       "qemu-img, "
                       "qemu-io, qemu-nbd, qemu-storage-daemon or qemu-system-x86_64"
                     : "%s is not a program of QEMU; give it one such as qemu-img or "
                       "qemu-system-x86_64",
                 path);
        }
        munmap(bytes, length);
    }
    close(file);
}

int main(int count, char** arguments)
{
    if (count < 2 || strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0) {
        fputs(help, count < 2 ? stderr : stdout);
        return count < 2 ? EXIT_OURS : 0;
    }
    char* loader = find_loader();
    if (strcmp(arguments[1], "--loader") == 0) return puts(loader) < 0;
    if (arguments[1][0] == '-')
        fail(EXIT_OURS, "unknown option %s; see coppice-qemu --help", arguments[1]);

    const char* program = find_program(arguments[1]);
    check_program(program);

    const char* others = getenv("LD_PRELOAD");
    char* preload = loader;
    if (others && *others && asprintf(&preload, "%s:%s", loader, others) < 0)
        fail(EXIT_OURS, "no memory");
    if (setenv("LD_PRELOAD", preload, 1) != 0) fail(EXIT_OURS, "no memory");
    execv(program, arguments + 1);
    fail(EXIT_CANNOT_RUN, "%s cannot be run (%s)", program, strerror(errno));
}

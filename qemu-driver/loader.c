/* The way into a stock QEMU: a library that is preloaded and that loads Coppice's modules.
 *
 *     LD_PRELOAD=coppice-loader.so qemu-img …        (set by coppice-qemu)
 *         constructor → is this a QEMU? → same build? → dlopen block-coppice.so
 *                                                     → dlopen hw-coppice-nvme.so
 *
 * QEMU's tables of module names are fixed when it is compiled, so no configuration makes it load a
 * new driver. But a QEMU with modules exports its functions, and a module that is there before
 * main() registers itself like a built-in driver.
 *
 * The modules use QEMU's structures and fit one build only. QEMU names a build by a stamp, and each
 * QEMU program contains it as the string "qemu_stamp_<SHA-1>", with which it would check its own
 * modules. We look for that string in the running program and compare it with the stamp of the
 * headers that the modules were compiled with. A wrong guess here would be memory corruption in a
 * process that holds users' disks, so anything but equality ends the process.
 *
 * In a program that is no QEMU (a shell that starts one) nothing happens, and LD_PRELOAD stays for
 * the children. In a QEMU our entry is taken out: what QEMU starts is not our business.
 *
 * No symbol of QEMU or GLib may be referred to here; the library must load anywhere. */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef COPPICE_QEMU_STAMP
#error "the build defines COPPICE_QEMU_STAMP and COPPICE_QEMU_VERSION"
#endif

#define STAMP_PREFIX "qemu_stamp_"
enum { STAMP_HEX_DIGITS = 40, PATH_CAPACITY = 4096 };

struct stamp {
    char text[STAMP_HEX_DIGITS + 1]; /* empty: the program has none */
};

static bool is_hex(const char* digits, size_t count)
{
    return strspn(digits, "0123456789abcdef") >= count;
}

/* Finds the stamp in one mapped segment. A prefix alone (as in this library) does not count. */
static bool find_stamp(const char* begin, size_t length, struct stamp* stamp)
{
    const size_t prefix_length = strlen(STAMP_PREFIX);
    const char* end = begin + length;
    while ((size_t)(end - begin) > prefix_length + STAMP_HEX_DIGITS) {
        const char* hit = memmem(begin, (size_t)(end - begin), STAMP_PREFIX, prefix_length);
        if (!hit || (size_t)(end - hit) <= prefix_length + STAMP_HEX_DIGITS) return false;
        const char* digits = hit + prefix_length;
        if (is_hex(digits, STAMP_HEX_DIGITS) && digits[STAMP_HEX_DIGITS] == '\0') {
            memcpy(stamp->text, digits, STAMP_HEX_DIGITS);
            return true;
        }
        begin = digits;
    }
    return false;
}

/* dl_iterate_phdr names the program itself first; returning nonzero stops it there. */
static int scan_program(struct dl_phdr_info* object, size_t size, void* result)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr)* segment = &object->dlpi_phdr[i];
        /* String constants lie in segments that can be read and not written. */
        if (segment->p_type != PT_LOAD || (segment->p_flags & (PF_R | PF_W)) != PF_R) continue;
        const char* begin = (const char*)(object->dlpi_addr + segment->p_vaddr);
        if (find_stamp(begin, segment->p_filesz, result)) break;
    }
    return 1;
}

static bool same_file(const char* left, const char* right)
{
    struct stat a, b;
    return strcmp(left, right) == 0 || (stat(left, &a) == 0 && stat(right, &b) == 0 &&
                                        a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/* Takes our entry out of LD_PRELOAD and leaves the others. */
static void leave_preload(const char* own_path)
{
    const char* old = getenv("LD_PRELOAD");
    if (!old) return;
    char *entries = strdup(old), *kept = calloc(1, strlen(old) + 1);
    if (!entries || !kept) _exit(1);
    char* rest = entries;
    for (char* entry; (entry = strsep(&rest, " :"));) {
        if (!*entry || same_file(entry, own_path)) continue;
        if (*kept) strcat(kept, ":");
        strcat(kept, entry);
    }
    if (*kept) {
        setenv("LD_PRELOAD", kept, 1);
    } else {
        unsetenv("LD_PRELOAD");
    }
    free(entries);
    free(kept);
}

static void load_module(const char* folder, int folder_length, const char* name, int flags)
{
    char path[PATH_CAPACITY];
    if (snprintf(path, sizeof path, "%.*s%s", folder_length, folder, name) >= (int)sizeof path) {
        fprintf(stderr, "coppice: the path of %s is too long\n", name);
        _exit(1);
    }
    if (!dlopen(path, RTLD_NOW | flags)) {
        fprintf(stderr, "coppice: cannot load a module: %s\n", dlerror());
        _exit(1);
    }
}

static void __attribute__((constructor)) load_into_qemu(void)
{
    if (!dlsym(RTLD_DEFAULT, "bdrv_register")) return;

    Dl_info self;
    if (!dladdr((const void*)STAMP_PREFIX, &self) || !self.dli_fname) {
        fprintf(stderr, "coppice: the loader cannot find its own path\n");
        _exit(1);
    }
    leave_preload(self.dli_fname);

    struct stamp running = {{0}};
    dl_iterate_phdr(scan_program, &running);
    if (strcmp(running.text, COPPICE_QEMU_STAMP) != 0) {
        fprintf(
            stderr,
            "coppice: these modules were built for QEMU %s, and %s is another build (its stamp is "
            "%s, ours %s); run ./setup and build again, or start the QEMU they were built for\n",
            COPPICE_QEMU_VERSION, program_invocation_short_name,
            *running.text ? running.text : "absent", COPPICE_QEMU_STAMP);
        _exit(1);
    }

    const char* slash = strrchr(self.dli_fname, '/');
    int folder_length = slash ? (int)(slash - self.dli_fname) + 1 : 0;
    /* Global, since the device module uses the block module's functions. */
    load_module(self.dli_fname, folder_length, "block-coppice.so", RTLD_GLOBAL);
    /* Only the system emulator has PCI; the tools lack data symbols that the device needs. */
    if (dlsym(RTLD_DEFAULT, "pci_register_bar")) {
        load_module(self.dli_fname, folder_length, "hw-coppice-nvme.so", 0);
    }
}

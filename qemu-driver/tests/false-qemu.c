/* A program that looks like a QEMU of another build: it exports bdrv_register and has a stamp. */
#include <stdio.h>

const char* volatile stamp = FALSE_STAMP;

__attribute__((visibility("default"))) void bdrv_register(void) { puts(stamp); }

int main(void)
{
    puts("main was reached");
    return 0;
}

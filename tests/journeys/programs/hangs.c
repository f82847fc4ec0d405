// A library to preload: fsync and fdatasync do not return while the file that HANGS names exists.

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_the_disk(void) {
    while (getenv("HANGS") && access(getenv("HANGS"), F_OK) == 0) usleep(10000);
}

int fsync(int descriptor) {
    wait_for_the_disk();
    return syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor) {
    wait_for_the_disk();
    return syscall(SYS_fdatasync, descriptor);
}

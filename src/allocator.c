/*
 * Parameters of glibc's allocator, set before main(). Rust has no safe call for them.
 *
 * Large replies come and go. By default, glibc raises the size from which it maps memory directly to that of the largest block
 * that was freed, up to 32 MiB. From then on such blocks fragment its heaps, of which each thread may have its own: 180 MB
 * instead of 95 with 50 hostile servers. A fixed size turns that off, so that freed blocks return to the system immediately.
 */
#include <malloc.h>

/* Size from which a block is mapped on its own: glibc's default at the start. */
#define MAPPED_FROM (128 * 1024)

/* Number of heaps: one for each worker thread of the runtime. */
#define HEAPS 2

__attribute__((constructor)) static void set_parameters(void)
{
    mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    mallopt(M_ARENA_MAX, HEAPS);
}

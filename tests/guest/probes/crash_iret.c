/* HYPERVISOR_iret with an unreadable frame ends the domain as a crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    CHECK("about_to_crash", 1);
    asm volatile("mov %0, %%rsp; mov $23, %%eax; syscall" ::"r"(0x700000000000ul) : "memory");
    shutdown(SHUTDOWN_poweroff);
}

PROBE(TEST(crash, 1));

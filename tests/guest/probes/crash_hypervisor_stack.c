/* A stack inside the hypervisor's own range must not be written to: crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    CHECK("about_to_crash", 1);
    asm volatile("mov %0, %%rsp; ud2" ::"r"(0xffff830000001000ul) : "memory");
    shutdown(SHUTDOWN_poweroff);
}

PROBE(TEST(crash, 1));

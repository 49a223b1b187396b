/* A trap whose frame cannot be written ends the domain as a crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    CHECK("about_to_crash", 1);
    asm volatile("mov %0, %%rsp; ud2" ::"r"(0x700000000000ul) : "memory");
    shutdown(SHUTDOWN_poweroff);
}

PROBE(TEST(crash, 1));

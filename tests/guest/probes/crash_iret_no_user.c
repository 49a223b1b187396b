/* HYPERVISOR_iret to user mode before any NEW_USER_BASEPTR ends the domain as a crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    struct cpu cpu = { .rip = 0x400000, .cs = USER_CS, .ss = USER_SS, .rflags = 2, .rsp = 0x500000 };
    CHECK("about_to_crash", 1);
    resume(&cpu, 0);
}

PROBE(TEST(crash, 1));

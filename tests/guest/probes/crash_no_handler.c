/* A trap without a handler ends the domain as a crash. */
/* outcome: crash */
#include "xenkit.h"

static void crash(void)
{
    CHECK_EQ("table_cleared", HC(NR_set_trap_table, 0, 0, 0, 0), 0);
    asm volatile("ud2");
    printk("FAIL still_alive\n");
    shutdown(SHUTDOWN_poweroff);
}

PROBE(TEST(crash, 1));

/* A guest that spins with events masked must not keep its host from ending it. */
/* outcome: timeout */
/* seconds: 5 */
#include "xenkit.h"

static void spin(void)
{
    CHECK("about_to_spin", 1);
    events_disable();
    for (;;)
        asm volatile("pause");
}

PROBE(TEST(spin, 1));

/* The last vcpu that goes down takes the domain with it: a power-off (vcpu.h VCPUOP_down). */
#include "xenkit.h"

static void down(void)
{
    CHECK("about_to_go_down", 1);
    hc_vcpu(VCPUOP_down, 0, 0);
    shutdown(SHUTDOWN_crash);
}

PROBE(TEST(down, 1));

/* HYPERVISOR_vm_assist (xen.h VMASST_*). */
#include "xenkit.h"

enum { enable, disable };
#define ASSIST(cmd, type) HC(NR_vm_assist, cmd, type, 0, 0)

static void answers(void)
{
    CHECK_EQ("4gb_segments", ASSIST(enable, 0), 0); /* of use to 32-bit domains only, and accepted from all */
    CHECK_EQ("4gb_segments_notify", ASSIST(enable, 1), 0);
    CHECK_EQ("writable_pagetables", ASSIST(enable, 2), 0);
    CHECK_EQ("writable_pagetables.off", ASSIST(disable, 2), 0);
    CHECK_EQ("writable_pagetables.on", ASSIST(enable, 2), 0);
    CHECK_EQ("pae_extended_cr3", ASSIST(enable, 3), 0);
    CHECK_EQ("architectural_iopl", ASSIST(enable, 4), 0);
    CHECK_EQ("architectural_iopl.off", ASSIST(disable, 4), 0);
    CHECK_EQ("runstate_update_flag", ASSIST(enable, 5), 0);
    CHECK_EQ("runstate_update_flag.off", ASSIST(disable, 5), 0);
    CHECK_EQ("type_6", ASSIST(enable, 6), -EINVAL);
    CHECK_EQ("m2p_strict", ASSIST(enable, 32), 0);
    CHECK_EQ("m2p_strict.m2p_still_there", M2P[mfn_of(kernel_l4())], pfn_of(kernel_l4()));
    CHECK_EQ("m2p_strict.off", ASSIST(disable, 32), 0);
    CHECK_EQ("type_63", ASSIST(enable, 63), -EINVAL);
    CHECK_EQ("type_64", ASSIST(enable, 64), -EINVAL);
    CHECK_EQ("command_2", ASSIST(2, 2), -ENOSYS);
}

/* With architectural_iopl the level is part of frames and of iret; the kernel counts as level 0. */
static void architectural_iopl(void)
{
    struct { u32 iopl; } set = { 2 };
    ASSIST(enable, 4);
    HC(NR_physdev_op, 6, &set, 0, 0);
    TRY("ud2", ::: "memory");
    CHECK_EQ("iopl.in_frame", traps[0].cpu.rflags & FLAG_IOPL, 2 << 12);
    TRY("ud2", ::: "memory");
    CHECK_EQ("iopl.kept_by_iret", traps[0].cpu.rflags & FLAG_IOPL, 2 << 12);
    set.iopl = 0;
    HC(NR_physdev_op, 6, &set, 0, 0);
    TRY("cli", ::: "memory");
    CHECK_EQ("iopl.kernel_is_level_0", trap_vector(), VECTOR_NONE);
    ASSIST(disable, 4);
    TRY("cli", ::: "memory");
    CHECK_EQ("iopl.kernel_is_level_1_again", trap_vector(), 13);
}

PROBE(TEST(answers, 17), TEST(architectural_iopl, 4));

/* HYPERVISOR_xen_version (version.h, features.h). */
#include "xenkit.h"

static u8 buf[2048];

static void numbers(void)
{
    s64 v = hc_version(0, 0);
    CHECK("version.major_is_4", v >> 16 == 4);
    CHECK("version.minor_plausible", (v & 0xffff) >= 13 && (v & 0xffff) < 40);
    CHECK_EQ("version.bad_subop", hc_version(1000, buf), -ENOSYS);
    CHECK_EQ("version.pagesize", hc_version(7, 0), 4096);
    CHECK_EQ("version.pagesize_takes_no_argument", hc_version(7, buf), -EINVAL);
}

static void strings(void)
{
    memset(buf, 0xee, sizeof(buf));
    CHECK_EQ("extraversion.answer", hc_version(1, buf), 0);
    CHECK("extraversion.fits", strlen((char *)buf) < 16);
    CHECK_EQ("extraversion.size", buf[16], 0xee);
    memset(buf, 0xee, sizeof(buf));
    CHECK_EQ("compile_info.answer", hc_version(2, buf), 0);
    CHECK("compile_info.fits", strlen((char *)buf) < 64);
    CHECK_EQ("compile_info.size", buf[144], 0xee);
    memset(buf, 0xee, sizeof(buf));
    CHECK_EQ("capabilities.answer", hc_version(3, buf), 0);
    CHECK("capabilities.pv64", contains((char *)buf, "xen-3.0-x86_64"));
    CHECK_EQ("capabilities.size", buf[1024], 0xee);
    memset(buf, 0xee, sizeof(buf));
    CHECK_EQ("changeset.answer", hc_version(4, buf), 0);
    CHECK("changeset.fits", strlen((char *)buf) < 64);
    CHECK_EQ("changeset.size", buf[64], 0xee);
    memset(buf, 0xee, sizeof(buf));
    CHECK_EQ("commandline.answer", hc_version(9, buf), 0); /* an unprivileged domain reads "<denied>" */
    CHECK_EQ("commandline.size", buf[1024], 0xee);
}

static void platform(void)
{
    u64 words[3] = { 1, 2, 3 };
    u32 features[2] = { 0, 0 };
    CHECK_EQ("platform.answer", hc_version(5, words), 0);
    CHECK_EQ("platform.virt_start", words[0], HYPERVISOR_START);
    CHECK_EQ("platform.size", words[1], 2);
    CHECK_EQ("features.answer", hc_version(6, features), 0);
    CHECK("features.preserve_ad", features[1] >> 5 & 1);
    CHECK("features.not_auto_translated", !(features[1] >> 2 & 1));
    CHECK("features.no_writable_page_tables", !(features[1] >> 0 & 1));
    CHECK("features.no_writable_descriptor_tables", !(features[1] >> 1 & 1));
    CHECK("features.direct_mapped", features[1] >> 17 & 1); /* so it names every PV domain */
    CHECK("features.memory_op_vnode", features[1] >> 13 & 1);
    CHECK("features.highmem_assist", features[1] >> 6 & 1);
    CHECK("features.gnttab_map_avail_bits", features[1] >> 7 & 1);
    CHECK_EQ("features.dom0", features[1] >> 11 & 1, oracle); /* only the hardware domain sees it */
    printk("# features submap 0: 0x%x\n", features[1]);
    features[0] = 1;
    CHECK_EQ("features.next_submap", hc_version(6, features), -EINVAL);
    memset(buf, 0xee, sizeof(buf));
    CHECK_EQ("guest_handle.answer", hc_version(8, buf), 0);
    CHECK_EQ("guest_handle.size", buf[16], 0xee);
}

static void build_id(void)
{
    s64 size = hc_version(10, 0);
    u32 header[2] = { 0, 0 };
    CHECK("build_id.size_or_none", size == -ENODATA || (size > 0 && size <= 64));
    CHECK("build_id.len_0", ({ s64 rc = hc_version(10, header); rc == -EINVAL || (size < 0 && rc == size); }));
}

static void wild(void)
{
    for (u32 op = 1; op <= 9; op++) {
        char name[] = "wild.op0";
        if (op == 7)
            continue;
        name[7] = (char)('0' + op);
        CHECK_EQ(name, hc_version(op, 0x700000000000ul), -EFAULT);
    }
    CHECK_EQ("wild.hypervisor", hc_version(3, 0xffff830000000000ul), -EFAULT);
    CHECK_EQ("wild.noncanonical", hc_version(3, 0x800000000000ul), -EFAULT);
}

PROBE(TEST(numbers, 5), TEST(strings, 14), TEST(platform, 16), TEST(build_id, 2), TEST(wild, 10));

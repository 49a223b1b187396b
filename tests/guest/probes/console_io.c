/* HYPERVISOR_console_io: the console before any console. */
#include "xenkit.h"

static void writing(void)
{
    static char text[300];
    CHECK_EQ("write.answer", HC(NR_console_io, 0, 8, "# hello\n", 0), 0);
    CHECK_EQ("write.empty", HC(NR_console_io, 0, 0, "x", 0), 0);
    CHECK_EQ("write.empty_null", HC(NR_console_io, 0, 0, 0, 0), 0);
    memset(text, '.', 300);
    text[0] = '#';
    text[299] = '\n';
    CHECK_EQ("write.long", HC(NR_console_io, 0, 300, text, 0), 0);
    CHECK_EQ("write.wild", HC(NR_console_io, 0, 8, 0x700000000000, 0), -EFAULT);
    CHECK_EQ("number_2", HC(NR_console_io, 2, 8, text, 0), -ENOSYS);
}

/* Reading is domain 0's alone; nothing was typed. */
static void reading(void)
{
    char text[8];
    s64 rc = HC(NR_console_io, 1, 8, text, 0);
    CHECK("read", oracle ? rc == 0 : rc <= 0);
}

/* A line may come in parts: byte by byte here; the judge looks for it as a comment, the kit's own lines come whole. */
static void by_parts(void)
{
    s64 rc = 0;
    for (const char *line = "# byte by byte\n"; *line; line++)
        rc |= HC(NR_console_io, 0, 1, line, 0);
    CHECK_EQ("write.byte_by_byte", rc, 0);
}

PROBE(TEST(writing, 6), TEST(reading, 1), TEST(by_parts, 1));

/* Console output by HYPERVISOR_console_io (console_io is a domain's way out before any device) and small string functions. */
#include "xenkit.h"

#define CONSOLEIO_write 0

void *memset(void *to, int byte, u64 count)
{
    u8 *p = to;
    while (count--)
        *p++ = (u8)byte;
    return to;
}

void *memcpy(void *to, const void *from, u64 count)
{
    u8 *p = to;
    const u8 *q = from;
    while (count--)
        *p++ = *q++;
    return to;
}

int memcmp(const void *a, const void *b, u64 count)
{
    const u8 *p = a, *q = b;
    for (; count; count--, p++, q++)
        if (*p != *q)
            return *p < *q ? -1 : 1;
    return 0;
}

u64 strlen(const char *text)
{
    u64 n = 0;
    while (text[n])
        n++;
    return n;
}

int contains(const char *text, const char *word)
{
    u64 n = strlen(word);
    for (; *text; text++)
        if (!memcmp(text, word, n))
            return 1;
    return 0;
}

void console(const char *text, u64 length)
{
    HC(NR_console_io, CONSOLEIO_write, length, text, 0);
}

static char *number(char *at, u64 value, u32 base)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        *at++ = digits[--n];
    return at;
}

void printk(const char *format, ...)
{
    char line[400], *at = line;
    __builtin_va_list args;
    __builtin_va_start(args, format);
    for (; *format && at < line + sizeof(line) - 30; format++) {
        if (*format != '%') {
            *at++ = *format;
            continue;
        }
        int wide = *++format == 'l';
        if (wide)
            format++;
        if (*format == 's') {
            const char *s = __builtin_va_arg(args, const char *);
            while (*s && at < line + sizeof(line) - 30)
                *at++ = *s++;
        } else if (*format == 'd') {
            s64 v = wide ? __builtin_va_arg(args, s64) : __builtin_va_arg(args, s32);
            if (v < 0)
                *at++ = '-';
            at = number(at, v < 0 ? -(u64)v : (u64)v, 10);
        } else {
            u64 v = wide ? __builtin_va_arg(args, u64) : __builtin_va_arg(args, u32);
            at = number(at, v, *format == 'u' ? 10 : 16);
        }
    }
    __builtin_va_end(args);
    console(line, (u64)(at - line));
}

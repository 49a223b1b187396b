/* Prints numbered lines of 64 bytes, as many as its argument says, in writes of all sizes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    uint32_t lines = count > 1 ? atol(arguments[1]) : 1000;
    char *text = malloc(lines * 64L + 1), *at = text;
    for (uint32_t i = 0; i < lines; i++, at += 64)
        sprintf(at, "%08u the quick brown fox jumps over the lazy dog %08x..\n", i, i * 2654435761u);
    size_t size = 1;
    for (char *from = text; from < at;) {
        size = size * 7 % 5003 + 1;
        ssize_t done = write(STDOUT_FILENO, from, from + size > at ? (size_t)(at - from) : size);
        if (done <= 0)
            return 1;
        from += done;
    }
    return 0;
}

/* For each line of its input, prints the monotonic and the real-time clock in nanoseconds. */
#include <stdio.h>
#include <time.h>

static long long now(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int main(void)
{
    char line[64];
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("clocks ready");
    while (fgets(line, sizeof line, stdin))
        printf("clocks %lld %lld\n", now(CLOCK_MONOTONIC), now(CLOCK_REALTIME));
    return 0;
}

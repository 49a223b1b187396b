/* gaps COUNT: as many processes, each on a CPU of its own, compute until a line comes; each then tells the longest time,
 * in milliseconds, during which it did not get on. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void compute(int cpu, volatile int *over)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        exit(1);
    long last = now_ms(), longest = 0;
    while (!*over) {
        long now = now_ms();
        if (now - last > longest)
            longest = now - last;
        last = now;
    }
    printf("gap%d=%ld\n", cpu, longest);
    fflush(stdout);
    exit(0);
}

int main(int count, char **words)
{
    int processes = count > 1 ? atoi(words[1]) : 1;
    volatile int *over = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int cpu = 0; cpu < processes; cpu++)
        if (!fork())
            compute(cpu, over);
    sleep(1);
    printf("computing\n");
    fflush(stdout);
    getchar();
    *over = 1;
    while (wait(NULL) > 0)
        ;
    return 0;
}

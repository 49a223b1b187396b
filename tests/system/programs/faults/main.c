/* Runs all cases, or those that the arguments name. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "faults.h"

extern const struct fault_case *const __start_cases[], *const __stop_cases[];

uint64_t fault_at;
static const char *name;

static const char *const signals[] = {
    [SIGILL] = "SIGILL", [SIGTRAP] = "SIGTRAP", [SIGBUS] = "SIGBUS", [SIGFPE] = "SIGFPE", [SIGSEGV] = "SIGSEGV", [SIGSYS] = "SIGSYS",
};

static void say(const char *text)
{
    char line[600];
    int length = snprintf(line, sizeof line, "%s: %s\n", name, text);
    if (write(STDOUT_FILENO, line, length) != length)
        _exit(3);
}

_Noreturn void result(const char *format, ...)
{
    char text[500];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say(text);
    _exit(0);
}

static void place(char *out, size_t size, uint64_t address)
{
    int64_t distance = address - fault_at;
    if (distance >= 0 && distance < 64)
        snprintf(out, size, "rip+%ld", (long)distance);
    else
        snprintf(out, size, "%#lx", (unsigned long)address);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    char addr[32], rip[32];
    asm volatile("pushf\n andl $~0x40400, (%%rsp)\n popf" : : : "memory", "cc"); /* AC, DF: not for what follows */
    place(addr, sizeof addr, (uint64_t)info->si_addr);
    place(rip, sizeof rip, regs[REG_RIP]);
    result("%s code=%d addr=%s trap=%lld err=%#llx at=%s", signals[number], info->si_code, addr, regs[REG_TRAPNO],
           regs[REG_ERR], rip);
}

static void catch_signals(void)
{
    static uint8_t stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&alternate, NULL);
    for (int number = 1; number < (int)(sizeof signals / sizeof *signals); number++)
        if (signals[number])
            sigaction(number, &action, NULL);
}

void default_signals(void)
{
    for (int number = 1; number < (int)(sizeof signals / sizeof *signals); number++)
        if (signals[number])
            signal(number, SIG_DFL);
}

uint8_t *map(int pages, int prot)
{
    void *at = mmap(PLACE, (size_t)pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at == MAP_FAILED)
        result("mmap failed");
    return at;
}

static void run(const struct fault_case *one)
{
    int status;
    name = one->name;
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        catch_signals();
        alarm(20);
        one->run();
        say("nothing happened");
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        say("cannot fork");
    else if (WIFSIGNALED(status)) {
        char text[40];
        snprintf(text, sizeof text, "died of signal %d", WTERMSIG(status));
        say(text);
    } else if (status)
        say("failed");
}

int main(int count, char **names)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    for (const struct fault_case *const *one = __start_cases; one < __stop_cases; one++) {
        int wanted = count < 2;
        for (int i = 1; i < count; i++)
            wanted |= !strcmp(names[i], (*one)->name);
        if (wanted)
            run(*one);
    }
    return 0;
}

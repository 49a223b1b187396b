/* The guest's half of the yardstick: runs each row once and prints
 *
 *     BENCH <row> <value> <unit>      for a row that worked
 *     BENCH-FAILED <row>              for one that did not
 *     BENCH-DONE                      when all of them worked
 *
 * The order of the rows is part of their meaning: nothing is unmapped in between, so fork
 * copies the tables of the 4000 pages that page_fault touched. Loop counts must never change,
 * or figures stop being comparable with older ones.
 *
 * usage: bench [PROGRAM]    PROGRAM is what fork_exec_wait executes (default /bin/busybox, as "true")
 * build: cc -O2 -static -o bench bench.c
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	ALU_ROUNDS = 200 * 1000 * 1000,
	SYSCALLS = 100 * 1000,
	PAGES = 4000,
	PAGE_BYTES = 4096,
	FORKS = 200,
	EXECS = 50,
	FILLS = 16,
	FILL_BYTES = 16 << 20,
	ROUND_TRIPS = 5000,
};

/* A measurement: seconds taken by the whole row, or a negative number when it failed. */
typedef double (*measure)(const char *program);

static double clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static double alu(const char *program)
{
	volatile unsigned long sum = 0;
	double begin = clock_now();

	(void)program;
	for (long round = 0; round < ALU_ROUNDS; round++)
		sum += round;
	return clock_now() - begin;
}

static double system_call(const char *program)
{
	double begin = clock_now();

	(void)program;
	for (int i = 0; i < SYSCALLS; i++)
		syscall(SYS_getppid);
	return clock_now() - begin;
}

static double page_fault(const char *program)
{
	double begin = clock_now();
	char *area = mmap(NULL, (size_t)PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)program;
	if (area == MAP_FAILED)
		return -1;
	for (int i = 0; i < PAGES; i++)
		((volatile char *)area)[(size_t)i * PAGE_BYTES] = 1;
	return clock_now() - begin;
}

/* One child that executes PROGRAM, or ends at once when PROGRAM is NULL: 0 when it ended well. */
static int one_child(const char *program)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		return -1;
	if (child == 0) {
		if (program)
			execl(program, "true", (char *)NULL);
		_exit(program ? 127 : 0);
	}
	if (waitpid(child, &status, 0) != child)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static double children(int count, const char *program)
{
	double begin = clock_now();

	for (int i = 0; i < count; i++)
		if (one_child(program))
			return -1;
	return clock_now() - begin;
}

static double fork_exit_wait(const char *program)
{
	(void)program;
	return children(FORKS, NULL);
}

static double fork_exec_wait(const char *program)
{
	return children(EXECS, program);
}

static double fill(const char *program)
{
	double begin = clock_now();
	char *buffer = malloc(FILL_BYTES);

	(void)program;
	if (!buffer)
		return -1;
	for (int i = 0; i < FILLS; i++) {
		memset(buffer, i, FILL_BYTES);
		/* Nobody reads the buffer: keep the compiler from dropping the stores. */
		__asm__ volatile("" : : "r"(buffer) : "memory");
	}
	return clock_now() - begin;
}

/* One byte from FROM, or to TO, a round trip being one of each; the child starts by reading. */
static int echo(int from, int to)
{
	char byte;

	for (int i = 0; i < ROUND_TRIPS; i++)
		if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1)
			return 1;
	return 0;
}

static double ping_pong(const char *program)
{
	int there[2], back[2], status;
	char byte = 0;
	double begin, end;
	pid_t child;

	(void)program;
	if (pipe(there) || pipe(back))
		return -1;
	begin = clock_now();
	child = fork();
	if (child < 0)
		return -1;
	if (child == 0)
		_exit(echo(there[0], back[1]));
	for (int i = 0; i < ROUND_TRIPS; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			return -1;
	end = clock_now();
	if (waitpid(child, &status, 0) != child || status != 0)
		return -1;
	return end - begin;
}

static const struct {
	const char *name;
	measure run;
	int count; /* 0: seconds for the whole row; otherwise microseconds for one of COUNT */
} rows[] = {
	{ "alu_200M", alu, 0 },
	{ "syscall", system_call, SYSCALLS },
	{ "page_fault", page_fault, PAGES },
	{ "fork_exit_wait", fork_exit_wait, FORKS },
	{ "fork_exec_wait", fork_exec_wait, EXECS },
	{ "memset_256M", fill, 0 },
	{ "pipe_pingpong", ping_pong, ROUND_TRIPS },
};

int main(int argc, char **argv)
{
	const char *program = argc > 1 ? argv[1] : "/bin/busybox";
	int failures = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double seconds = rows[i].run(program);

		if (seconds < 0) {
			failures++;
			printf("BENCH-FAILED %s\n", rows[i].name);
		} else if (rows[i].count) {
			printf("BENCH %s %.6g us\n", rows[i].name, seconds * 1e6 / rows[i].count);
		} else {
			printf("BENCH %s %.6g s\n", rows[i].name, seconds);
		}
		fflush(stdout);
	}
	if (!failures)
		puts("BENCH-DONE");
	return failures ? 1 : 0;
}

/* What Python calls of the hardware processor. This file is also read by cffi: plain C only. */
struct hardware;

/* How the host's KVM learns that the VMM has changed a guest's page table. With nested paging the processor walks the tables,
 * and a flush is enough; shadow paging sees what the guest itself writes. */
#define FOLLOWS_FLUSH 1
#define FOLLOWS_WRITES 2

struct hardware_trouble {
    char text[200];
};

/* A virtual machine for the domain; NULL, with TROUBLE, when there can be none. */
struct hardware *hardware_create(struct domain *d, int kvm_fd, int notify_fd, uint32_t follows,
                                 struct processor_callbacks callbacks, struct hardware_trouble *trouble);
/* The ioctl requests that creating and running one takes: their count, at most ROOM. */
uint32_t hardware_requests(uint64_t *requests, uint32_t room);
/* 0, or an errno. */
int hardware_set_cpuid(struct hardware *h, const struct cpuid_leaf *leaves, uint32_t count);
/* Leaves of the host's KVM: their count, at most ROOM; or -1, with errno. */
int hardware_host_cpuid(int kvm_fd, struct cpuid_leaf *leaves, uint32_t room);
/* What this processor itself says, as the former. */
int hardware_own_cpuid(struct cpuid_leaf *leaves, uint32_t room);
/* The extended states that this process has switched on. */
uint64_t hardware_own_xcr0(void);
const char *hardware_start(struct hardware *h, uint64_t rip, uint64_t rsp, uint64_t rsi, uint64_t xcr0);
/* Runs vCPU 0 until its domain stops it; NULL, or what went wrong. */
const char *hardware_run(struct hardware *h);
int hardware_set_xcr0(struct hardware *h, uint64_t value);
void hardware_destroy(struct hardware *h);
uint64_t hardware_flags(struct hardware *h);
void hardware_segments(struct hardware *h, uint64_t *bases, uint16_t *selectors);
uint64_t hardware_tsc(void);
/* The domain's tsc_offset was set. Where the guest's TSC cannot be set, KVM has no other than the host's. */
void hardware_tsc_changed(struct hardware *h);
/* Of a vCPU that is held: the floating-point registers and all other extended states, as XSAVE lays them out (XSAVE_BYTES);
 * those that it may use. All: 0, or an errno. */
#define XSAVE_BYTES 4096
int hardware_read_fpu(struct hardware *h, uint8_t *image);
int hardware_write_fpu(struct hardware *h, const uint8_t *image);
int hardware_read_xcr0(struct hardware *h, uint64_t *value);
/* Exits by cause, for measurements, in the order of EXIT_* in hardware.h. */
#define EXIT_CAUSES 8
void hardware_counts(struct hardware *h, uint64_t *counts);

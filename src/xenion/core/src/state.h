/* The state of a domain and its vCPUs that the core works on. This file is also read by cffi: plain C only. */

/* One machine frame (Xen's page_info). `type` holds type, pinned and validated bits and the type count; `count` the
 * general references and the allocated bit; `stamp` the TLB clock at which the last writable reference went. */
struct frame {
    uint64_t type;
    uint32_t count;
    uint32_t stamp;
};

/* Frames that other threads name for the vCPU's own to see to: two levels, so that a few are found at once among millions. */
struct frame_set {
    uint64_t *frames;          /* a bit a frame */
    uint64_t *words;           /* a bit for each word of those that may have one */
    uint32_t any;              /* the vCPU's thread is to look before its guest goes on */
};

/* Where the entries of a grant table are, and how many of which version. */
struct grant_layout {
    uint64_t entries;          /* machine addresses */
    uint64_t status;           /* version 2 only */
    uint32_t version;
    uint32_t count;
};

/* What an entry granted when it was marked: bytes START to START + LENGTH of a frame. */
struct grant_entry {
    uint64_t mfn;
    uint32_t start;
    uint32_t length;
    uint32_t sub_page;
};

/* A piece of a copy to or from granted pages; what is copied lies one after the other in the host's memory. */
struct grant_part {
    uint32_t ref;
    uint32_t offset;
    uint32_t length;
};

struct trap {
    uint64_t address;
    uint16_t cs;
    uint8_t flags;
};

/* One entry of the record of a vCPU's last hypercalls, for crash reports. */
struct call_record {
    uint64_t number;
    uint64_t args[4];
    int64_t result;
    uint64_t rip;
};

#define CALL_RECORDS 32
#define TRAP_VECTORS 256
#define VIRQS 24
#define MAX_VCPUS 64
/* Ports: as many as FIFO channels allow. Those that lead to Dom0's back ends are the low ones, for which there are mailboxes. */
#define MAX_PORTS 131072
#define DOM0_PORTS 4096
#define DOM0_PORT_WORDS 64
/* FIFO_PAGES: pages of event words, 1024 each. */
#define FIFO_QUEUES 16
#define FIFO_PAGES 128
#define FIFO_PAGE_WORDS 1024
#define POLL_PORTS 128
/* What a vCPU waits for: any upcall, one that is due or one of the ports that it polls, to be brought up. See sched.c. */
#define WAITS_NOT 0
#define WAITS_BLOCKED 1
#define WAITS_POLLING 2
#define WAITS_DOWN 3
/* Why another vCPU of the thread may have its turn: one has been woken; the one that runs has had enough, or waits for others. */
#define GIVE_WAY_WOKEN 1
#define GIVE_WAY_OVER 2

/* Where a vCPU begins, beside what is in its `struct vcpu` (struct vcpu_guest_context). */
struct vcpu_start {
    uint64_t general[16];      /* in the order of `regs` */
    uint64_t rip, flags;
    uint16_t selectors[6];     /* es cs ss ds fs gs */
    uint64_t fs_base, gs_base; /* of the mode that it begins in */
    uint64_t kernel_table;     /* frames */
    uint64_t user_table;       /* 0: none */
    uint64_t gdt_frames[16];
    uint32_t gdt_entries;
    uint32_t ldt_entries;
    uint64_t ldt_base;
    uint32_t in_kernel;
};

struct vcpu {
    struct domain *domain;
    uint32_t id;
    uint32_t kick;             /* set by any thread: look for events, timers, a request to stop or to pause */
    uint32_t parked;           /* touches no guest memory: held since the domain is paused, or it is not its turn */
    uint64_t *regs;            /* rax rcx rdx rbx rsp rbp rsi rdi r8..r15, owned by the platform */
    void *platform;            /* the platform's own state of this vCPU */
    uint64_t *call_args;       /* of the hypercall that is being answered; core_continue changes them */

    uint64_t rip;              /* valid while the core runs for this vCPU */
    uint16_t cs;
    uint16_t ss;
    uint8_t kernel_mode;
    uint8_t stopped;           /* the run loop must return */
    uint8_t task_switched;     /* fpu_taskswitch: the next FPU use raises #NM */
    uint8_t in_multicall;
    uint8_t nmi_pending;       /* set by any thread */
    uint8_t nmi_masked;        /* until the handler's iret */
    uint8_t initialised;       /* the guest has said where it begins */
    uint8_t online;            /* and that it may run */
    uint8_t waiting;           /* WAITS_* */

    uint64_t cr3;              /* machine address of the guest kernel's L4 */
    uint64_t user_cr3;         /* and of the user one; 0 none */
    uint64_t loaded_cr3;       /* what the processor walks now */
    uint64_t compared_cr3;     /* the pair and generation for which the lower halves were found equal */
    uint64_t compared_user_cr3;
    uint64_t compared_generation;

    uint64_t kernel_sp;
    uint64_t event_callback;
    uint64_t failsafe_callback;
    uint64_t syscall_callback;
    uint64_t sysenter_callback;
    uint64_t syscall32_callback;
    uint8_t failsafe_masks;
    uint8_t syscall_masks;
    uint8_t syscall32_masks;
    uint8_t sysenter_masks;
    struct trap traps[TRAP_VECTORS];

    uint64_t gs_kernel;        /* the inactive one of the two is current here */
    uint64_t gs_user;
    uint64_t iopl;             /* in EFLAGS position */
    uint64_t debugreg[8];
    uint64_t cr2;

    uint64_t gdt_frames[14];
    uint32_t gdt_entries;
    uint32_t ldt_entries;
    uint64_t ldt_base;
    uint64_t ldt_frames[16];

    uint64_t info;             /* machine address of its vcpu_info */
    uint64_t deadline;         /* single-shot timer, system time in ns; 0 none */
    uint64_t period;           /* periodic timer, ns; 0 none */
    uint64_t period_due;
    uint32_t virq_port[VIRQS]; /* 0 none */

    uint64_t poll_until;       /* system time in ns; 0: no limit */
    uint32_t poll_count;
    uint32_t poll_ports[POLL_PORTS];

    uint64_t control_block;    /* machine address of its FIFO queues' heads; 0 none yet */
    uint32_t queue_tail[FIFO_QUEUES]; /* the port at the end of each; 0 none */

    uint32_t runstate;
    uint64_t runstate_entry;
    uint64_t runstate_time[4];
    uint64_t runstate_area;    /* guest virtual address; 0 none */

    uint64_t call_count;
    struct call_record calls[CALL_RECORDS];
};

/* Dom0's view of an event channel of the guest. The first eight bytes are one word: other threads change it whole. */
struct port {
    uint8_t state;
    uint8_t dom0_end;          /* interdomain: sends go to Dom0's back ends */
    uint16_t vcpu;
    uint32_t number;           /* VIRQ; the other end's port; unbound: the domain that may bind it */
    uint8_t priority;          /* FIFO: the queue that the next event joins */
    uint8_t pending;           /* FIFO: raised before the guest gave the port's event word */
    uint8_t last_priority;     /* FIFO: the queue that the last event joined */
    uint8_t pad;
    uint16_t last_vcpu;
};

struct domain {
    uint8_t *memory;           /* the machine memory: base of frame 0 */
    uint64_t nr_frames;
    uint64_t first_frame;      /* frames below belong to the hypervisor */
    struct frame *frames;
    uint64_t domid;
    uint64_t shared_info;      /* machine address */
    uint64_t m2p;              /* machine address of the machine-to-physical table */
    uint32_t ring_3_kernel;    /* the guest's kernel is in ring 3, as on real hardware: see page_tables.c */
    uint32_t hole_slot;        /* of every guest L4 table: what of the hypervisor's the guest may see */
    uint64_t hole_entry;
    uint64_t user_hole_entry;  /* the same for applications' tables, where they have tables of their own */
    uint64_t gdt_area;         /* virtual address of vCPU 0's GDT; 64 KiB a vCPU, LDT in the second half */
    uint64_t gdt_l1;           /* machine address of the L1 tables that map the descriptor areas */
    uint64_t reserved_gdt;     /* machine address of the page with the reserved descriptors */
    uint64_t zero_page;        /* machine address of a page of zeroes: unmapped descriptor slots */
    uint64_t vm_assist;
    uint64_t tlb_clock;
    uint64_t lower_generation; /* bumped when any L4's user half changes */
    uint32_t code_unmapped;    /* an entry that led to executable pages has changed since the processor cleared this */
    uint64_t scan;             /* where the search for a free frame goes on */
    uint64_t pages;            /* frames owned by the domain */
    uint32_t nr_vcpus;
    uint32_t takes_turns;      /* the vCPUs share one thread: those that wait are left to the processor */
    uint32_t give_way;         /* GIVE_WAY_*, set by any thread: let another vCPU have its turn */
    uint32_t crashed;
    uint32_t stopping;         /* long work gives up: nothing comes after it */
    uint32_t paused;           /* no vCPU executes another instruction until this is cleared */
    char crash_reason[160];

    struct port *ports;        /* MAX_PORTS; never moves */
    uint64_t inbox[DOM0_PORT_WORDS];  /* ports raised by other threads, not yet shown to the guest */
    uint64_t outbox[DOM0_PORT_WORDS]; /* ports the guest notified, not yet seen by Dom0 */
    uint64_t inbox_any;        /* a bit for each word that may have one */
    uint64_t outbox_any;

    /* Guest frames that Dom0 has written since the vCPU last looked. Live migration's log of dirty frames can be fed where
     * they are taken out. */
    struct frame_set written;
    struct frame_set dropped;  /* frames of which Dom0 held the last reference; it is still counted */

    uint32_t fifo;             /* the guest has chosen FIFO event channels */
    uint32_t fifo_lock;        /* of all queues and tails, while an event joins one */
    uint32_t fifo_words;       /* event words that the guest has given so far */
    uint64_t fifo_array[FIFO_PAGES]; /* machine addresses of their pages */

    uint64_t tsc_base;         /* clock: ns = ((tsc - base) << shift) * mul >> 32 */
    uint64_t tsc_offset;       /* what the guest's TSC is ahead of the host's: another one has counted before */
    uint32_t tsc_mul;
    int32_t tsc_shift;
    uint64_t time_base;        /* system time at tsc_base, ns */

    struct vcpu vcpus[MAX_VCPUS];
    const struct platform *platform;
};

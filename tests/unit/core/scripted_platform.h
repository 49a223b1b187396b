/* The core's platform as the tests script it: what they set, and what they read afterwards. This file is also read by
 * cffi: plain C only. */
struct domain;

#define SCRIPT_LOG 64

struct script {
    uint64_t flags;            /* RFLAGS */
    uint64_t bases[4];         /* by SEGBASE_*; GS_KERNEL is the active GS */
    uint16_t selectors[6];     /* by SEG_* */
    uint16_t refused_selector; /* loading this one faults; 0: none does */
    uint64_t now;              /* the TSC */
    uint64_t regs[2][16];      /* of the vCPUs */

    uint64_t operations;       /* flush_page, cold_call and its steps, and frame_freed so far */
    uint64_t kick_at;          /* vCPU 0 is kicked by the operation of this number; 0: never */

    uint32_t loaded;           /* the vCPU whose registers operations are on */
    uint64_t loads;            /* how often that was said */
    uint32_t loaded_vcpus[SCRIPT_LOG];
    uint64_t misplaced;        /* changes of registers while those of another vCPU were loaded */
    uint64_t flushes;          /* of whole TLBs, load_cr3 included */
    uint64_t page_flushes;
    uint64_t flushed_page;
    uint64_t modes;
    uint64_t ldt_loads;
    uint64_t armed;
    uint64_t woken[2];
    uint64_t notified;
    uint64_t switches;
    uint64_t written;          /* bytes that the core wrote into guest memory */
    uint64_t written_frame;    /* the last frame of them */
    uint32_t code;             /* there is translated code in every frame */

    uint64_t freed;
    uint64_t tables_begun, entries_changed, changed_entry;
    uint64_t changes[SCRIPT_LOG]; /* bits of the entries */
    uint64_t freed_frames[SCRIPT_LOG];
    uint64_t waits;
    uint64_t deadlines[SCRIPT_LOG];
    uint32_t wait_states[SCRIPT_LOG]; /* the vCPU's runstate */
    uint32_t wait_parked[SCRIPT_LOG]; /* could Dom0 rely on it? */
    uint64_t wait_takes;       /* ns that go by in each */
    uint64_t pause_at;         /* another thread pauses the domain during the wait of this number; 0: never */
    uint64_t unpause_at;       /* and ends the pause */
    uint32_t unpause_early;    /* and ends it as soon as Dom0 is notified */
    uint64_t nmi_at;           /* and sends an NMI */
    uint64_t up_at;            /* and brings the vCPU that waits up */
    uint64_t stop_at;          /* and stops the domain */
    uint32_t wait_port;        /* another thread posts this one during an endless wait; 0: it stops the domain */

    int64_t cold_result;
    uint64_t cold_calls;
    uint64_t cold_number;
    uint64_t cold_args[6];
    uint64_t long_number;      /* this call takes as many steps as its second argument says, and counts its first one up;
                                * 0: none does */
    uint64_t long_steps;
    uint32_t cold_traps;
    uint32_t cold_trap_done;   /* the answer */
};

/* Zeroed memory, frame table and state, each an allocation of its own, so that a sanitizer sees who leaves one. */
struct domain *script_create(uint64_t memory_frames, uint64_t nr_frames, uint64_t first_frame, uint32_t nr_vcpus);
struct script *script_of(struct domain *d);
void script_destroy(struct domain *d);
int script_has_sanitizer(void);
int script_ends_wait(struct vcpu *v);
uint64_t script_next_deadline(struct vcpu *v);

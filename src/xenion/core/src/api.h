/* What Python and the platforms call. This file is also read by cffi: plain C only.
 *
 * It is for the vCPU's own thread, or for before that runs. Dom0's threads call these while the guest runs, and no other:
 * core_get_frame, core_get_writable, core_drop_frame and core_host_wrote; core_grant_mark, core_grant_unmark and
 * core_grant_copy; core_post_event, core_notify_dom0, core_outbox_words, core_take_outbox and, with the lock of
 * vmm/events.py held, core_set_port; core_stop, core_pause, core_unpause, core_parked and core_send_nmi; core_system_time,
 * core_fence, and all on network frames and on digests. Of a guest that is held, or has stopped, any thread may read what it
 * is (core_owns_frame). */
struct vcpu;
struct domain;

/* the ways in from a processor */
void core_syscall(struct vcpu *v, int compat);
void core_page_fault(struct vcpu *v, uint64_t address, uint32_t error);
void core_exception(struct vcpu *v, uint32_t vector, int has_error, uint32_t error);
void core_software_interrupt(struct vcpu *v, uint32_t vector, uint32_t size);
void core_kicked(struct vcpu *v);
void core_resume(struct vcpu *v);

/* for the cold half of the VMM */
int64_t core_copy_from(struct vcpu *v, void *to, uint64_t from, uint64_t size);
int64_t core_copy_to(struct vcpu *v, uint64_t to, const void *from, uint64_t size);
int64_t core_block(struct vcpu *v);
uint64_t core_get_flags(struct vcpu *v);
uint64_t core_system_time(struct domain *d);

/* set-up and frames */
void core_adopt_frames(struct domain *d, uint64_t first, uint64_t count);
void core_share_frame(struct domain *d, uint64_t mfn);
void core_map_descriptor_areas(struct domain *d, uint64_t reserved_page);
int core_boot_table(struct vcpu *v, uint64_t mfn);
int core_initialise_vcpu(struct vcpu *v, struct vcpu *by, const struct vcpu_start *start);
void core_vcpu_up(struct vcpu *v);
void core_vcpu_down(struct vcpu *v);
void core_yield(struct domain *d);
void core_own_cpuid(struct vcpu *v, uint32_t leaf, uint32_t *registers);
int64_t core_allocate_frame(struct domain *d);
int core_release_frame(struct domain *d, uint64_t mfn);
int core_owns_frame(struct domain *d, uint64_t mfn);
/* What a saved domain had: see saved.c */
#define FRAME_LEAVING 0
uint64_t core_special_frames(struct domain *d, uint64_t *from, uint64_t *found, uint64_t room);
uint64_t core_holding_tables(struct domain *d, uint64_t *from, uint64_t *found, uint64_t room);
void core_shown_table(struct domain *d, uint64_t mfn, uint64_t *entries);
uint64_t core_used_run(struct domain *d, uint64_t from, uint64_t *count);
void core_adopt_run(struct domain *d, uint64_t first, uint64_t count);
void core_finish_vcpu(struct vcpu *v, struct vcpu *by);
int core_pin(struct domain *d, uint64_t mfn, int level);
int core_get_writable(struct domain *d, uint64_t mfn);

/* events and time */
void core_set_pending(struct domain *d, uint32_t port);
void core_clear_pending(struct domain *d, uint32_t port);
int core_post_event(struct domain *d, uint32_t port);
void core_notify_dom0(struct domain *d, uint32_t port);
uint64_t core_outbox_words(struct domain *d);
uint64_t core_take_outbox(struct domain *d, uint32_t word);
void core_set_port(struct domain *d, uint32_t port, uint8_t state, int dom0_end, uint32_t number);
uint32_t core_port_limit(struct domain *d);
uint32_t core_free_port(struct domain *d, uint32_t limit);
int core_fifo_init(struct vcpu *v, uint64_t mfn, uint32_t offset);
int core_fifo_expand(struct domain *d, uint64_t mfn);
void core_fifo_leave(struct domain *d);
void core_publish_time(struct vcpu *v);
void core_publish_wallclock(struct domain *d, uint64_t wall_ns);
void core_register_info(struct vcpu *v, uint64_t ma);
void core_change_runstate(struct vcpu *v, uint32_t state);
void core_arm_timer(struct vcpu *v);
void core_stop(struct domain *d);
void core_pause(struct domain *d);
void core_unpause(struct domain *d);
int core_parked(struct domain *d);
void core_send_nmi(struct vcpu *v);
void core_fence(void);

uint64_t core_get_base(struct vcpu *v, int segbase);
void core_set_base(struct vcpu *v, int segbase, uint64_t base);
void core_task_switched(struct vcpu *v, int set);
int core_new_kernel_table(struct vcpu *v, uint64_t mfn);
int core_load_stack_selector(struct vcpu *v, uint16_t selector);
void core_code_written(struct domain *d, uint64_t ma, uint64_t size);

/* grants */
#define GRANT_WRITE 1
#define GRANT_MAPPING 2
#define GRANT_PINNED 4
int core_grant_mark(struct domain *d, const struct grant_layout *g, uint32_t ref, uint32_t domid, uint32_t use,
                    struct grant_entry *entry);
void core_grant_unmark(struct domain *d, const struct grant_layout *g, uint32_t ref, uint32_t marks);
void core_grant_copy(struct domain *d, const struct grant_layout *g, uint32_t domid, int write, const struct grant_part *parts,
                     uint32_t count, uint8_t *data, uint64_t size, int16_t *statuses);
uint32_t core_compare_swap32(struct domain *d, uint64_t ma, uint32_t expected, uint32_t value);
uint16_t core_or16(struct domain *d, uint64_t ma, uint16_t bits);
int core_get_frame(struct domain *d, uint64_t mfn);
void core_drop_frame(struct domain *d, uint64_t mfn, int writable);
void core_host_wrote(struct domain *d, const uint64_t *mfns, uint32_t count);
uint64_t core_l1_entry(struct vcpu *v, uint64_t address);
int core_change_l1(struct domain *d, uint64_t ma, uint64_t expected, uint64_t value);
int core_gives_way(struct vcpu *v);
int64_t core_continue(struct vcpu *v, uint64_t first, uint64_t second, uint64_t third);

/* network frames: no domain, any thread; a frame is at most FRAME_MOST bytes. Those that return int: 0, or -1 when the
 * frame is malformed or is not what the function works on */
#define FRAME_MOST 65550
#define FRAME_FRAGMENT 1
#define FRAME_LATER 2
#define FRAME_ROUTED 4
struct frame_layout {
    uint32_t ethertype; /* behind VLAN tags */
    uint32_t network;   /* offset of what the ethertype says; all of these are from the frame's first byte */
    uint32_t transport; /* offset behind the IP headers; 0: not IP, or a later fragment */
    uint32_t payload;   /* offset behind the TCP or UDP header; 0: neither is there */
    uint32_t end;       /* of the IP packet; 0: not IP. Padding may follow */
    uint32_t protocol;  /* of IP */
    uint32_t flags;     /* FRAME_*: a fragment, and not the first; a routing header that is not used up */
};
int core_frame_layout(const uint8_t *frame, uint64_t size, struct frame_layout *layout);
/* the same for all frames of a connection's direction */
uint32_t core_frame_flow(const uint8_t *frame, uint64_t size);
/* the checksum of TCP or UDP, whose field holds the pseudo header's sum */
int core_frame_complete(uint8_t *frame, uint64_t size);
/* any checksum of that kind, from START to the frame's end, into its field FIELD bytes behind START */
int core_frame_complete_at(uint8_t *frame, uint64_t size, uint32_t start, uint32_t field);
/* the reverse: the pseudo header's sum into the field */
int core_frame_blank(uint8_t *frame, uint64_t size);
/* complete TCP frames of at most MSS payload bytes, one behind the other; the count of SIZES, or -1 also without room */
int64_t core_frame_segment(const uint8_t *frame, uint64_t size, uint32_t mss, uint8_t *to, uint64_t room,
                           uint32_t *sizes, uint32_t limit);

/* digests of pages: no domain, any thread; see digests.c. MEMORY and DIGESTS are those of frame 0, 64 bits for each frame */
void core_digest_pages(const uint8_t *pages, uint64_t count, uint64_t *digests);
uint64_t core_changed_pages(const uint8_t *memory, uint64_t *digests, uint64_t *from, uint64_t end, uint64_t *runs,
                            uint64_t room);

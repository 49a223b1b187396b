/* A virtual machine and its virtual CPU: made, set up, and gone. */
#define _GNU_SOURCE
#include "hardware.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEAVES_MOST 256
#define SYNCED (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

enum { MEMORY_SLOT, MONITOR_SLOT };

uint32_t hardware_requests(uint64_t *requests, u32 room)
{
    static const u64 all[] = {KVM_CHECK_EXTENSION, KVM_CREATE_VM,  KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU,
                              KVM_SET_USER_MEMORY_REGION, KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_CPUID2, KVM_SET_MSRS,
                              KVM_SET_DEVICE_ATTR, KVM_GET_XCRS, KVM_SET_XCRS, KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_RUN};
    u32 count = sizeof all / sizeof *all;
    for (u32 i = 0; i < count && i < room; i++)
        requests[i] = all[i];
    return count < room ? count : room;
}

static int add_memory(struct hardware *h, u32 slot, u64 gpa, u64 size, void *memory)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (u64)(uintptr_t)memory};
    return ioctl(h->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int make_vcpu(struct hardware *h, int kvm_fd)
{
    int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    h->vcpu_fd = ioctl(h->vm, KVM_CREATE_VCPU, 0);
    if (size < 0 || h->vcpu_fd < 0)
        return -1;
    h->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, h->vcpu_fd, 0);
    if (h->run == MAP_FAILED) {
        h->run = NULL;
        return -1;
    }
    h->run_size = (size_t)size;
    h->run->kvm_valid_regs = SYNCED;
    return ioctl(h->vcpu_fd, KVM_GET_SREGS, system_registers(h));
}

static const char *make(struct hardware *h, int kvm_fd)
{
    struct domain *d = h->domain;
    if ((ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & SYNCED) != SYNCED ||
        ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0)
        return "the host's KVM is too old";
    if ((h->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0)) < 0)
        return "KVM makes no virtual machine";
    if (monitor_create(&h->monitor, d))
        return "the domain has too much memory, or the host too little";
    if (add_memory(h, MEMORY_SLOT, 0, d->nr_frames << PAGE_SHIFT, d->memory) ||
        add_memory(h, MONITOR_SLOT, h->monitor.gpa, h->monitor.size, h->monitor.memory))
        return "KVM does not take the domain's memory";
    return make_vcpu(h, kvm_fd) ? "KVM makes no virtual CPU" : NULL;
}

struct hardware *hardware_create(struct domain *d, int kvm_fd, int notify_fd, u32 follows, struct processor_callbacks callbacks,
                                 struct hardware_trouble *trouble)
{
    struct hardware *h = calloc(1, sizeof *h);
    const char *why = "the host is short of memory";
    if (h) {
        h->domain = d;
        h->vcpu = &d->vcpus[0];
        h->vm = h->vcpu_fd = -1;
        h->notify_fd = notify_fd;
        h->follows = follows;
        h->apart = APART_NS;
        h->callbacks = callbacks;
        errno = 0;
        why = make(h, kvm_fd);
    }
    if (why) {
        snprintf(trouble->text, sizeof trouble->text, "%s%s%s", why, errno ? ": " : "", errno ? strerror(errno) : "");
        hardware_destroy(h);
        return NULL;
    }
    hardware_platform(h);
    h->vcpu->platform = h;
    h->vcpu->regs = h->regs;
    d->platform = &h->platform;
    return h;
}

void hardware_destroy(struct hardware *h)
{
    if (!h)
        return;
    timer_stop(&h->timer);
    if (h->run)
        munmap(h->run, h->run_size);
    if (h->vcpu_fd >= 0)
        close(h->vcpu_fd);
    if (h->vm >= 0)
        close(h->vm);
    monitor_destroy(&h->monitor);
    free(h);
}

static struct kvm_cpuid2 *leaf_list(void)
{
    struct kvm_cpuid2 *list = calloc(1, sizeof *list + LEAVES_MOST * sizeof *list->entries);
    if (list)
        list->nent = LEAVES_MOST;
    return list;
}

int hardware_host_cpuid(int kvm_fd, struct cpuid_leaf *leaves, u32 room)
{
    struct kvm_cpuid2 *list = leaf_list();
    int count = -1;
    if (list && !ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, list)) {
        count = (int)(list->nent < room ? list->nent : room);
        for (int i = 0; i < count; i++) {
            const struct kvm_cpuid_entry2 *e = &list->entries[i];
            u32 subleaf = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX ? e->index : ~0u;
            leaves[i] = (struct cpuid_leaf){e->function, subleaf, e->eax, e->ebx, e->ecx, e->edx};
        }
    }
    free(list);
    return count;
}

static int has_subleaves(u32 leaf) { return leaf == 4 || leaf == 7 || leaf == 13 || leaf == 0x8000001d; }

int hardware_own_cpuid(struct cpuid_leaf *leaves, u32 room)
{
    static const u32 first[] = {0, 0x80000000};
    u32 count = 0;
    for (int range = 0; range < 2; range++) {
        u32 last, b, c, d;
        __cpuid(first[range], last, b, c, d);
        for (u32 leaf = first[range]; leaf <= last && leaf < first[range] + 64; leaf++)
            for (u32 sub = 0; sub < (has_subleaves(leaf) ? 32 : 1) && count < room; sub++) {
                struct cpuid_leaf *l = &leaves[count++];
                *l = (struct cpuid_leaf){.leaf = leaf, .subleaf = has_subleaves(leaf) ? sub : ~0u};
                __cpuid_count(leaf, sub, l->eax, l->ebx, l->ecx, l->edx);
            }
    }
    return (int)count;
}

u64 hardware_own_xcr0(void)
{
    u32 a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (!(c >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (u64)d << 32 | a;
}

int hardware_set_cpuid(struct hardware *h, const struct cpuid_leaf *leaves, u32 count)
{
    struct kvm_cpuid2 *list = leaf_list();
    if (!list || count > LEAVES_MOST) {
        free(list);
        return ENOMEM;
    }
    list->nent = count;
    for (u32 i = 0; i < count; i++) {
        const struct cpuid_leaf *l = &leaves[i];
        int any = l->subleaf == ~0u;
        list->entries[i] = (struct kvm_cpuid_entry2){.function = l->leaf,
                                                     .index = any ? 0 : l->subleaf,
                                                     .flags = any ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                                     .eax = l->eax,
                                                     .ebx = l->ebx,
                                                     .ecx = l->ecx,
                                                     .edx = l->edx};
    }
    int rc = ioctl(h->vcpu_fd, KVM_SET_CPUID2, list);
    free(list);
    return rc ? errno : 0;
}

static int set_msrs(struct hardware *h)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[4];
    } msrs = {.head.nmsrs = 4,
              .entries = {{.index = 0xc0000081, .data = (u64)(RING_0_CS) << 32 | 0x23ull << 48}, /* STAR */
                          {.index = 0xc0000082, .data = monitor_syscall_entry(&h->monitor)},
                          {.index = 0xc0000083, .data = monitor_syscall32_entry(&h->monitor)},
                          {.index = 0xc0000084, .data = FLAG_AC | FLAG_NT | FLAG_IOPL | FLAG_DF | FLAG_IF | FLAG_TF}}};
    return ioctl(h->vcpu_fd, KVM_SET_MSRS, &msrs) == 4 ? 0 : -1;
}

void hardware_tsc_changed(struct hardware *h)
{
    u64 offset = h->domain->tsc_offset;
    struct kvm_device_attr attribute = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (u64)(uintptr_t)&offset};
    if (ioctl(h->vcpu_fd, KVM_SET_DEVICE_ATTR, &attribute)) {
        struct {
            struct kvm_msrs head;
            struct kvm_msr_entry tsc;
        } msrs = {.head.nmsrs = 1, .tsc = {.index = 0x10, .data = hardware_tsc() + offset}};
        (void)!ioctl(h->vcpu_fd, KVM_SET_MSRS, &msrs);
    }
}

int hardware_set_xcr0(struct hardware *h, u64 value)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = value}}};
    return ioctl(h->vcpu_fd, KVM_SET_XCRS, &xcrs) ? errno : 0;
}

const char *hardware_start(struct hardware *h, u64 rip, u64 rsp, u64 rsi, u64 xcr0)
{
    start_registers(h, rip, rsp, rsi);
    h->platform.load_ldt(h->vcpu);
    if (set_msrs(h))
        return "KVM does not take its entry points";
    hardware_tsc_changed(h);
    if (xcr0) {
        system_registers(h)->cr4 |= 0x40000;
        if (ioctl(h->vcpu_fd, KVM_SET_SREGS, system_registers(h)) || hardware_set_xcr0(h, xcr0))
            return "KVM does not take its extended states";
    }
    return NULL;
}

u64 hardware_flags(struct hardware *h) { return h->rflags | 2; }

void hardware_segments(struct hardware *h, u64 *bases, u16 *selectors)
{
    const struct kvm_sregs *s = system_registers(h);
    const struct kvm_segment *all[] = {&s->es, &h->code, &h->stack, &s->ds, &s->fs, &s->gs};
    for (int n = SEG_ES; n <= SEG_GS; n++) {
        bases[n] = all[n]->base;
        selectors[n] = all[n]->selector;
    }
    selectors[SEG_CS] = h->shown_cs;
    selectors[SEG_SS] = h->shown_ss;
}

void hardware_counts(struct hardware *h, u64 *counts) { memcpy(counts, h->counts, sizeof h->counts); }

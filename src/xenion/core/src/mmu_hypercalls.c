/* mmu_update, update_va_mapping and mmuext_op (xen.h). */
#include "core.h"

#define DOMID_OTHERS 0xffff

struct update {
    u64 ptr;
    u64 val;
};

struct extended {
    u32 cmd;
    u32 pad;
    u64 arg1;
    u64 arg2;
};

static int is_self(struct domain *d, u64 domid) { return domid == DOMID_SELF || domid == d->domid; }

static s64 update_entry(struct vcpu *v, const struct update *u, u64 cmd)
{
    struct domain *d = v->domain;
    u64 ma = u->ptr & ~7ull, mfn = ma >> PAGE_SHIFT;
    s64 rc = -XEN_EINVAL;
    if (!get_frame(d, mfn))
        return rc;
    u64 type = load(&frame_of(d, mfn)->type);
    if ((type & TYPE_COUNT) && (type & TYPE_MASK) <= TYPE_L4 && (type & TYPE_MASK) != TYPE_NONE) {
        type &= TYPE_MASK;
        rc = get_frame_type(d, mfn, type);
        if (!rc) {
            rc = change_entry(d, mfn, type, PAGE_OFFSET(ma) >> 3, u->val, cmd == MMU_PT_UPDATE_PRESERVE_AD);
            put_frame_type(d, mfn);
            if (!rc && type != TYPE_L1)
                rc = 1; /* the caller flushes: linear page tables may map it */
        }
    } else if (!get_frame_type(d, mfn, TYPE_WRITABLE)) {
        store(word_at(d, ma), u->val);
        d->platform->code_written(d, ma, sizeof u->val);
        put_frame_type(d, mfn);
        rc = 0;
    }
    put_frame(d, mfn);
    return rc;
}

static s64 update_m2p(struct vcpu *v, const struct update *u)
{
    struct domain *d = v->domain;
    u64 mfn = u->ptr >> PAGE_SHIFT;
    if (!get_frame(d, mfn))
        return -XEN_EINVAL;
    store(word_at(d, d->m2p + mfn * 8), u->val);
    put_frame(d, mfn);
    return 0;
}

static s64 update_one(struct vcpu *v, const struct update *u)
{
    u64 cmd = u->ptr & 7;
    if (cmd == MMU_MACHPHYS_UPDATE)
        return update_m2p(v, u);
    return cmd <= MMU_PT_UPDATE_NO_TRANSLATE ? update_entry(v, u, cmd) : -XEN_ENOSYS;
}

/* Adds to the guest's count of what is done, as both calls do at their end. */
static void report_done(struct vcpu *v, u64 pdone, u32 before, u64 done)
{
    u32 total = before + (u32)done;
    if (pdone)
        copy_to_guest(v, pdone, &total, sizeof total);
}

static u32 done_before(struct vcpu *v, u64 *count, u64 pdone)
{
    u32 before = 0;
    if (*count & MMU_UPDATE_PREEMPTED) {
        *count &= ~(u64)MMU_UPDATE_PREEMPTED;
        if (pdone)
            copy_from_guest(v, &before, pdone, sizeof before);
    }
    return before;
}

static s64 check_owner(struct vcpu *v, u64 domid)
{
    if (is_self(v->domain, domid & 0xffff))
        return 0;
    return (domid & 0xffff) >= DOMID_SELF ? -XEN_EPERM : -XEN_ESRCH;
}

s64 mmu_update(struct vcpu *v, u64 *args)
{
    u64 count = (u32)args[1], i;
    u32 before = done_before(v, &count, args[2]);
    u64 owner = args[3] & 0xffffffff;
    s64 rc = 0;
    int upper = 0;
    if (!range_okay(args[0], sizeof(struct update), count))
        return -XEN_EFAULT;
    if (owner >> 16 && !is_self(v->domain, (owner >> 16) - 1))
        return -XEN_ESRCH;
    if ((rc = check_owner(v, owner)))
        return rc;
    for (i = 0; i < count; i++) {
        struct update u;
        if (i && preempted(v)) {
            rc = CALL_CONTINUES;
            break;
        }
        if ((rc = copy_from_guest(v, &u, args[0] + i * sizeof u, sizeof u)))
            break;
        rc = update_one(v, &u);
        if (rc < 0)
            break;
        upper |= rc == 1;
        rc = 0;
    }
    if (upper)
        v->domain->platform->flush_all(v->domain);
    report_done(v, args[2], before, i);
    if (rc == CALL_CONTINUES) {
        args[0] += i * sizeof(struct update);
        args[1] = (count - i) | MMU_UPDATE_PREEMPTED;
    }
    return rc;
}

static s64 vcpu_mask_okay(struct vcpu *v, u64 address)
{
    u64 mask;
    return copy_from_guest(v, &mask, address, sizeof mask) ? -XEN_EINVAL : 0;
}

static s64 flush_mapping(struct vcpu *v, u64 address, u64 flags)
{
    const struct platform *p = v->domain->platform;
    u64 kind = flags & UVMF_FLUSHTYPE_MASK, mask = flags & ~(u64)UVMF_FLUSHTYPE_MASK;
    s64 rc = kind && mask && mask != UVMF_ALL ? vcpu_mask_okay(v, mask) : 0;
    if (rc)
        return rc;
    if (kind == UVMF_TLB_FLUSH || (kind == UVMF_INVLPG && mask && v->domain->nr_vcpus > 1))
        p->flush_all(v->domain);
    else if (kind == UVMF_INVLPG)
        p->flush_page(v, address);
    return 0;
}

s64 update_va_mapping(struct vcpu *v, u64 address, u64 value, u64 flags, u64 domid)
{
    struct domain *d = v->domain;
    u64 mfn;
    s64 rc = check_owner(v, domid);
    if (rc)
        return rc;
    u64 *slot = range_okay(address, 1, 1) ? l1_entry(d, v->cr3, address, &mfn) : NULL;
    if (!slot || !get_frame(d, mfn))
        return -XEN_EINVAL;
    rc = -XEN_EINVAL;
    if ((load(&frame_of(d, mfn)->type) & TYPE_MASK) == TYPE_L1 && !get_frame_type(d, mfn, TYPE_L1)) {
        rc = change_entry(d, mfn, TYPE_L1, address >> PAGE_SHIFT, value, 0);
        put_frame_type(d, mfn);
    }
    put_frame(d, mfn);
    return rc ? rc : flush_mapping(v, address, flags);
}

int new_kernel_table(struct vcpu *v, u64 mfn)
{
    struct domain *d = v->domain;
    u64 old = v->cr3 >> PAGE_SHIFT;
    if (old != mfn || !v->cr3) {
        int rc = get_frame_and_type(d, mfn, TYPE_L4);
        if (rc)
            return rc;
        drop_ldt(v);
        if (d->ring_3_kernel || v->user_cr3 >> PAGE_SHIFT != mfn)
            become_kernel_table(d, mfn);
        int had = v->cr3 != 0;
        v->cr3 = mfn << PAGE_SHIFT;
        d->platform->load_cr3(v, v->cr3);
        if (had)
            put_frame_and_type(d, old);
        return 0;
    }
    d->platform->load_cr3(v, v->cr3);
    return 0;
}

int new_user_table(struct vcpu *v, u64 mfn)
{
    struct domain *d = v->domain;
    u64 old = v->user_cr3 >> PAGE_SHIFT;
    if (old == mfn)
        return 0;
    if (mfn) {
        int rc = get_frame_and_type(d, mfn, TYPE_L4);
        if (rc)
            return rc;
        if (!d->ring_3_kernel || v->cr3 >> PAGE_SHIFT != mfn)
            become_user_table(d, mfn);
    }
    v->user_cr3 = mfn << PAGE_SHIFT;
    if (old)
        put_frame_and_type(d, old);
    return 0;
}

static s64 clear_page(struct domain *d, u64 mfn)
{
    if (get_frame_and_type(d, mfn, TYPE_WRITABLE))
        return -XEN_EINVAL;
    __builtin_memset(word_at(d, mfn << PAGE_SHIFT), 0, PAGE_SIZE);
    d->platform->code_written(d, mfn << PAGE_SHIFT, PAGE_SIZE);
    put_frame_and_type(d, mfn);
    return 0;
}

static s64 copy_page(struct domain *d, u64 to, u64 from)
{
    if (!get_frame(d, from))
        return -XEN_EINVAL;
    s64 rc = get_frame_and_type(d, to, TYPE_WRITABLE) ? -XEN_EINVAL : 0;
    if (!rc) {
        __builtin_memmove(word_at(d, to << PAGE_SHIFT), word_at(d, from << PAGE_SHIFT), PAGE_SIZE);
        d->platform->code_written(d, to << PAGE_SHIFT, PAGE_SIZE);
        put_frame_and_type(d, to);
    }
    put_frame(d, from);
    return rc;
}

static s64 flush_vcpus(struct vcpu *v, const struct extended *op)
{
    const struct platform *p = v->domain->platform;
    if (op->cmd == MMUEXT_TLB_FLUSH_MULTI || op->cmd == MMUEXT_INVLPG_MULTI) {
        s64 rc = vcpu_mask_okay(v, op->arg2);
        if (rc)
            return rc;
    }
    if (op->cmd == MMUEXT_TLB_FLUSH_MULTI || op->cmd == MMUEXT_TLB_FLUSH_ALL)
        p->flush_all(v->domain);
    else if (range_okay(op->arg1, 1, 1))
        v->domain->nr_vcpus > 1 ? p->flush_all(v->domain) : p->flush_page(v, op->arg1);
    return 0;
}

static s64 extended_one(struct vcpu *v, const struct extended *op)
{
    struct domain *d = v->domain;
    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
        return pin_table(d, op->arg1, TYPE_L1 + ((u64)op->cmd << 61));
    case MMUEXT_UNPIN_TABLE:
        return unpin_table(d, op->arg1);
    case MMUEXT_NEW_BASEPTR:
        return new_kernel_table(v, op->arg1);
    case MMUEXT_NEW_USER_BASEPTR:
        return new_user_table(v, op->arg1);
    case MMUEXT_TLB_FLUSH_LOCAL:
        d->platform->load_cr3(v, v->loaded_cr3);
        return 0;
    case MMUEXT_INVLPG_LOCAL:
        d->platform->flush_page(v, op->arg1);
        return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
    case MMUEXT_TLB_FLUSH_ALL:
    case MMUEXT_INVLPG_ALL:
        return flush_vcpus(v, op);
    case MMUEXT_FLUSH_CACHE:
        return -XEN_EACCES;
    case MMUEXT_FLUSH_CACHE_GLOBAL:
        return -XEN_EINVAL;
    case MMUEXT_SET_LDT:
        return set_ldt(v, op->arg1, (u32)op->arg2);
    case MMUEXT_CLEAR_PAGE:
        return clear_page(d, op->arg1);
    case MMUEXT_COPY_PAGE:
        return copy_page(d, op->arg1, op->arg2);
    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER:
        return -XEN_EOPNOTSUPP;
    default:
        return -XEN_ENOSYS;
    }
}

s64 mmuext_op(struct vcpu *v, u64 *args)
{
    u64 count = (u32)args[1], i;
    u32 before = done_before(v, &count, args[2]);
    s64 rc = 0;
    if (!range_okay(args[0], sizeof(struct extended), count))
        return -XEN_EFAULT;
    if ((rc = check_owner(v, args[3])))
        return rc;
    for (i = 0; i < count; i++) {
        struct extended op;
        if (i && preempted(v)) {
            rc = CALL_CONTINUES;
            break;
        }
        if ((rc = copy_from_guest(v, &op, args[0] + i * sizeof op, sizeof op)) || (rc = extended_one(v, &op)))
            break;
    }
    report_done(v, args[2], before, i);
    if (rc == CALL_CONTINUES) {
        args[0] += i * sizeof(struct extended);
        args[1] = (count - i) | MMU_UPDATE_PREEMPTED;
    }
    return rc;
}

/* Registers that only a domain that is saved or restored has read and written from outside: x87, SSE, AVX. */
#include "hardware.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

_Static_assert(sizeof(struct kvm_xsave) == XSAVE_BYTES, "struct kvm_xsave");

int hardware_read_fpu(struct hardware *h, u8 *image) { return ioctl(h->vcpu_fd, KVM_GET_XSAVE, image) ? errno : 0; }

int hardware_write_fpu(struct hardware *h, const u8 *image) { return ioctl(h->vcpu_fd, KVM_SET_XSAVE, image) ? errno : 0; }

int hardware_read_xcr0(struct hardware *h, u64 *value)
{
    struct kvm_xcrs xcrs;
    if (ioctl(h->vcpu_fd, KVM_GET_XCRS, &xcrs))
        return errno;
    for (u32 i = 0; i < xcrs.nr_xcrs; i++)
        if (!xcrs.xcrs[i].xcr)
            *value = xcrs.xcrs[i].value;
    return 0;
}

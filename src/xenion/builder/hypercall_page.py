"""The hypercall page of a 64-bit PV domain: a stub of 32 bytes for each hypercall, in order of their numbers.

Follows what Xen writes for the note HYPERCALL_PAGE; arch-x86/xen-x86_64.h gives the calling convention.
Kernels without that note execute ``syscall`` themselves.
"""

from xenion.abi.xen import Hypercall

_STUB_SIZE = 32
_STUBS = 128
_PUSH_RCX_R11 = bytes.fromhex("51 4153")
_PUSH_RAX = bytes.fromhex("50")
_MOV_EAX = bytes.fromhex("b8")
_SYSCALL = bytes.fromhex("0f05")
_POP_R11_RCX_RET = bytes.fromhex("415b 59 c3")
_INT3 = b"\xcc"


def hypercall_page() -> bytes:
    """One page of machine code."""
    return b"".join(_stub(number).ljust(_STUB_SIZE, _INT3) for number in range(_STUBS))


def _stub(number: int) -> bytes:
    load = _MOV_EAX + number.to_bytes(4, "little")
    if number == Hypercall.iret:
        # Jumped to, not called, with struct iret_context on the stack but for the three words pushed here.
        return _PUSH_RCX_R11 + _PUSH_RAX + load + _SYSCALL
    return _PUSH_RCX_R11 + load + _SYSCALL + _POP_R11_RCX_RET

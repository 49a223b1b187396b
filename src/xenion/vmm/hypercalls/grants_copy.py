"""GNTTABOP_copy: bytes between two frames, each named by a grant reference or (the domain's own) by its number."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from xenion.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GnttabCopyPtr,
)
from xenion.abi.xen import DOMID_SELF
from xenion.core import lib
from xenion.vmm.grants import HOST_READ, HOST_WRITE, GrantStatusError
from xenion.vmm.grants_use import GrantUser
from xenion.vmm.hypercalls.memory import is_self
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

DOM0 = 0
DOM0_ENTRIES = 512
"""Dom0's own table: one frame, nothing in it is granted to anyone."""


def own_grants(vcpu: Vcpu) -> GrantUser:
    """The calling domain as the user of its own grants."""
    domain = vcpu.domain
    return GrantUser(domain.grants, domain.state, domain.domid)


def refuse_dom0_grant(ref: int) -> None:
    """What comes of using a grant of Dom0's."""
    raise GrantStatusError(GNTST_general_error if ref < DOM0_ENTRIES else GNTST_bad_gntref)


@dataclass(frozen=True, slots=True)
class _Claim:
    """The part of a frame that one end of a copy may touch."""

    mfn: int
    start: int
    length: int


def _check_domain(vcpu: Vcpu, end: GnttabCopyPtr, by_reference: int) -> None:
    """By its number only DOMID_SELF's frame can be named, not even the domain's own by its id."""
    if not is_self(vcpu, end.domid) and end.domid != DOM0:
        raise GrantStatusError(GNTST_bad_domain)
    if end.domid != DOMID_SELF and not by_reference:
        raise GrantStatusError(GNTST_permission_denied)


@contextmanager
def _claim(vcpu: Vcpu, end: GnttabCopyPtr, by_reference: int, write: bool) -> Iterator[_Claim]:
    user, state = own_grants(vcpu), vcpu.domain.state
    with ExitStack() as held:
        if not by_reference:
            claim = _Claim(end.u.gmfn, 0, PAGE_SIZE)
        elif not is_self(vcpu, end.domid):
            refuse_dom0_grant(end.u.ref)
        else:
            ref, pin = end.u.ref, HOST_WRITE if write else HOST_READ
            active = user.acquire(ref, pin, copy=True)
            held.callback(user.release, ref, pin)
            claim = _Claim(active.mfn, active.start, active.length)
        if lib.core_get_frame(state, claim.mfn):
            raise GrantStatusError(GNTST_bad_page)
        held.callback(user.drop, claim.mfn, write=False)
        if write:
            user.hold(claim.mfn, write=True)
            held.callback(user.drop, claim.mfn, write=True)
        yield claim


def _check_bounds(claim: _Claim, offset: int, length: int) -> None:
    if offset < claim.start or offset + length > claim.start + claim.length:
        raise GrantStatusError(GNTST_general_error)


def copy(vcpu: Vcpu, request: Any) -> int:
    """One GnttabCopy; its GNTST_*."""
    memory, source, target, length = vcpu.domain.memory, request.source, request.dest, request.len
    from_grant, to_grant = request.flags & GNTCOPY_source_gref, request.flags & GNTCOPY_dest_gref
    try:
        _check_domain(vcpu, source, from_grant)
        _check_domain(vcpu, target, to_grant)
        with (
            _claim(vcpu, source, from_grant, False) as giver,
            _claim(vcpu, target, to_grant, True) as taker,
        ):
            if source.offset + length > PAGE_SIZE or target.offset + length > PAGE_SIZE:
                return GNTST_bad_copy_arg
            _check_bounds(giver, source.offset, length)
            _check_bounds(taker, target.offset, length)
            data = bytes(memory.page(giver.mfn)[source.offset : source.offset + length])
            memory.page(taker.mfn)[target.offset : target.offset + length] = data
            if length:
                lib.core_code_written(vcpu.domain.state, taker.mfn * PAGE_SIZE + target.offset, length)
    except GrantStatusError as error:
        return error.status
    return GNTST_okay

"""Every hypercall that Python answers, with whatever a hostile guest may pass: an answer, never a bug of ours."""

import os
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.vmm.kernel import FIRST_FREE, PAGES, Kernel
from xenion.abi.sched import SCHEDOP_block
from xenion.abi.xen import Hypercall
from xenion.vmm.hypercalls import HANDLERS

ARGUMENTS = FIRST_FREE
numbers = st.sampled_from(sorted(HANDLERS))
mfns = st.integers(0, PAGES + 200)
values = st.one_of(
    st.integers(0, 64),
    mfns,
    st.integers(0, 4000).map(lambda offset: Kernel.address(ARGUMENTS, offset)),
    st.sampled_from(
        [
            Kernel.address(PAGES) - 4,
            1 << 47,
            0xFFFF800000000000,
            2**64 - 1,
            2**63,
            2**32 - 1,
            2**32,
            0x7FF0,
            7,
        ]
    ),
    st.integers(0, 2**64 - 1),
)
halves = st.builds(lambda low, high: low & 0xFFFFFFFF | (high & 0xFFFFFFFF) << 32, values, values)
contents = st.lists(st.one_of(values, halves), max_size=24)
calls = st.tuples(numbers, st.tuples(*[values] * 6), contents)
EXAMPLES = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 250


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(calls, min_size=1, max_size=8))
def test_no_argument_is_our_bug(
    kernel: Kernel, sequence: list[tuple[int, tuple[int, ...], list[int]]]
) -> None:
    """One domain for all examples: what one leaves behind is the next one's input."""
    state = kernel.vcpu.state
    for number, args, words in sequence:
        if number == Hypercall.sched_op_compat and args[0] & 0xFFFFFFFF == SCHEDOP_block:
            continue  # it would wait for an event that never comes
        kernel.domain.memory.bytes[kernel.mfn(ARGUMENTS) * 4096 : (kernel.mfn(ARGUMENTS) + 1) * 4096] = bytes(
            4096
        )
        kernel.put(struct.pack(f"<{len(words)}Q", *words), ARGUMENTS)
        result = kernel.call(number, *args)
        assert -(2**63) <= result < 2**63
        assert kernel.domain.failure is None, f"hypercall {number}{args} {words}\n{kernel.domain.failure}"
        state.stopped = kernel.domain.state.stopping = 0

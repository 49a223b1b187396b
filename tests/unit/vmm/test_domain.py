"""What a domain that never ran answers about its pause, its CPU time and its NMIs."""

import pytest

from tests.unit.vmm.kernel import PAGES, Kernel, built


def test_pausing_is_a_flag(kernel: Kernel) -> None:
    domain = kernel.domain
    seen = [domain.paused]
    for change in (domain.pause, domain.pause, domain.unpause, domain.unpause):
        change()
        seen.append(domain.paused)
    assert seen == [False, True, True, False, False]


def test_a_domain_that_does_not_run_is_parked(kernel: Kernel) -> None:
    domain = kernel.domain
    assert domain.parked
    assert not domain.paused
    assert domain.vcpu_states() == ["offline"]
    assert domain.cpu_seconds == 0


def test_an_nmi_is_kept_until_the_guest_runs(kernel: Kernel) -> None:
    kernel.domain.send_nmi(0)
    assert kernel.vcpu.state.nmi_pending == 1
    assert kernel.vcpu.state.kick == 1


@pytest.mark.parametrize("number", [-1, 1, 64, 2**32])
def test_an_nmi_for_a_vcpu_that_is_not_there(kernel: Kernel, number: int) -> None:
    with pytest.raises(ValueError, match=f"there is no vCPU {number}: the last one of this domain is 0"):
        kernel.domain.send_nmi(number)
    assert kernel.vcpu.state.nmi_pending == 0


def test_the_machine_to_physical_table_knows_no_frame_that_is_nobodys() -> None:
    with built(most_pages=PAGES + 3) as kernel:
        memory = kernel.domain.memory
        assert memory.nr_frames == memory.first_mfn + PAGES + 3
        table = memory.words[memory.m2p_mfn * 512 :][: memory.nr_frames].tolist()
    nobodys = 2**64 - 1
    assert table == [nobodys] * memory.first_mfn + list(range(PAGES)) + [nobodys] * 3

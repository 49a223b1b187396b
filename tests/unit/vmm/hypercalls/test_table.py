"""The declaration of all hypercalls: whole, consistent, and in step with the core."""

import re

from xenion.abi.xen import Hypercall
from xenion.core.build import CORE
from xenion.vmm.hypercalls import HANDLERS, TABLE
from xenion.vmm.hypercalls.table import Status

NAMED = re.compile(r"case HYPERCALL_(\w+):")
MIXED = {"vcpu_op", "sched_op", "event_channel_op"}
"""The core answers their hot operations and passes the others on."""


def core_calls() -> set[str]:
    return set(NAMED.findall((CORE / "hypercalls.c").read_text()))


def test_each_number_once() -> None:
    numbers = [int(entry.number) for entry in TABLE]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == {int(number) for number in Hypercall if number < Hypercall.arch_0}


def test_the_core_answers_what_the_table_says() -> None:
    assert {entry.number.name for entry in TABLE if entry.in_core} == core_calls() - MIXED


def test_everything_has_exactly_one_place() -> None:
    for entry in TABLE:
        if entry.status is Status.ABSENT:
            assert entry.handler is None
            assert not entry.in_core
        else:
            assert (entry.handler is None) == entry.in_core


def test_what_is_not_whole_says_why() -> None:
    assert all(entry.note for entry in TABLE if entry.status is not Status.FULL)


def test_handlers() -> None:
    assert set(HANDLERS) == {int(entry.number) for entry in TABLE if entry.handler}
    assert {Hypercall[name] for name in MIXED} <= set(HANDLERS)

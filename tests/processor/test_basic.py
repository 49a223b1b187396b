from __future__ import annotations

from tests.processor.conftest import Run

def test_kernel(run: Run) -> None:
    out = run("start: mov $0x1234567890, %rbx; int3")
    assert out.done and out["rbx"] == 0x1234567890 and not out.end.in_user

def test_user(run: Run) -> None:
    out = run(".section .user\nstart: mov $0x1234567890, %rbx; int3", user=True)
    assert out.done and out["rbx"] == 0x1234567890 and out.end.in_user

def test_compat(run: Run) -> None:
    out = run(".section .user\n.code32\nstart: mov $0x12345678, %ebx; int3\n.code64", compat=True)
    assert out.done and out["rbx"] == 0x12345678 and out.end.in_user

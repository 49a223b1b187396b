"""Judges what a probe printed: "1..N", then N lines "ok NAME" or "FAIL NAME ...", each name once."""

from __future__ import annotations

import re

PLAN = re.compile(r"^1\.\.(\d+)$")
VERDICT = re.compile(r"^(ok|FAIL) (\S+)(.*)$")


def complaints(console: str) -> list[str]:
    """What is wrong with a probe's output, a sentence each; an empty list when every planned check passed."""
    plan: int | None = None
    seen: set[str] = set()
    wrong: list[str] = []
    for line in console.replace("\r", "").splitlines():
        if found := PLAN.match(line):
            plan = int(found.group(1))
        elif found := VERDICT.match(line):
            if found.group(1) == "FAIL":
                wrong.append(line)
            elif found.group(2) in seen:
                wrong.append(f"{found.group(2)}: reported twice")
            seen.add(found.group(2))
        elif line.startswith(("# unexpected", "# page pool")):
            wrong.append(line)
    if plan is None:
        wrong.append("no plan: the kernel did not reach its first hypercall, or its console is lost")
    elif len(seen) != plan:
        wrong.append(f"planned {plan} checks, {len(seen)} reported")
    return wrong

#!/bin/sh
# Runs all checks and tests, a line before each part; the status tells whether all passed. `test.sh slow`: the soak.
cd "$(dirname "$0")/.." || exit
. tools/lib.sh
PATH=$PWD/.venv/bin:$PATH
failed=

part() {
    echo ">> $1"
    name=$1
    shift
    "$@" || failed="$failed${failed:+, }$name"
}

tests() { # SUITE MARK ARGUMENTS...
    suite=$1 mark=$2
    shift 2
    find "tests/$suite" -name 'test_*.py' 2>/dev/null | grep -q . || return 0
    part "$suite tests" some_pytest -m "$mark" "$@" "tests/$suite"
}

some_pytest() {
    python -m pytest --no-header "$@"
    status=$?
    [ $status -eq 5 ] || return $status # 5: the mark deselects every test
}

images() {
    python -m xenion.images kernel linux-image-cloud-amd64 linux-image-amd64 >/dev/null &&
        python -m xenion.images busybox >/dev/null
}

if [ "${1:-}" = slow ]; then
    part images images
    for suite in unit processes processor guest system; do tests $suite slow --timeout 3600; done
    part "property tests" env HYPOTHESIS_PROFILE=soak python -m pytest --no-header -m "not slow" -n auto --timeout 3600 \
        tests/unit/core tests/unit/vmm/hypercalls
    part "boots in a row" python -m benches.boots 100
else
    part lint ruff check
    part format ruff format --check
    # pytest's compiling of all tests, once and not by each worker, on the processor that mypy leaves idle
    python -m pytest --collect-only -q tests >/dev/null 2>&1 &
    part types mypy
    wait
    part layers lint-imports --no-logo
    workers=$(($(nproc) + 1)) # these wait a quarter of their time
    tests unit "not slow" -n "$workers"
    tests processes "not slow" -n "$workers"
    part "sanitizers" sh tools/sanitize.sh -q -m "not slow" -n auto
    tests processor "not slow" -n auto
    if [ -d tests/guest ] || [ -d tests/system ]; then part images images; fi
    tests guest "not slow" -n auto
    tests system "not slow" -n auto --maxprocesses 4 --dist loadfile
fi
[ -z "$failed" ] || fail "failed: $failed."

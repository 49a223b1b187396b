#!/bin/sh
# Builds a wheel into dist/, for any recent Linux on x86-64 where auditwheel and patchelf are on the PATH.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh

rm -rf build/wheel dist
step "building the wheel" .venv/bin/pip wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
mkdir -p dist
if command -v auditwheel >/dev/null && command -v patchelf >/dev/null; then
    step "making it a manylinux wheel" auditwheel repair --wheel-dir dist build/wheel/*.whl
else
    echo ">> auditwheel or patchelf is not here: this wheel fits machines like this one only" >&2
    cp build/wheel/*.whl dist/
fi
ls dist/*.whl

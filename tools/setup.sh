#!/bin/sh
# Leaves a working .venv/bin/xm; `setup.sh dev` adds what tests and linters need. Does nothing when up to date.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh
. tools/host.sh
extra=${1:-}

same() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }
digest() { cat "$@" | sha256sum; }

mkdir -p build
exec 9>build/setup.lock
flock 9

choose_python
version=$("$python" -V 2>/dev/null) || version=none
# Stands for all that a virtual environment cannot outlive: a moved tree, another Python.
place="$PWD $python $version"
if ! same .venv/made "$place"; then
    need_packages
    choose_python
    [ "$python" = "$system_python" ] || echo ">> $system_python is older than 3.11: taking $python" >&2
    step "creating the virtual environment" "$python" -m venv --clear .venv
    echo "$PWD $python $("$python" -V)" >.venv/made
fi

core=$(digest setup.py src/xenion/core/build.py src/xenion/core/src/* src/xenion/processor/*/*.[ch])
wanted=$(digest pyproject.toml setup.py)
if ! same .venv/installed-dev "$wanted" && { [ -n "$extra" ] || ! same .venv/installed "$wanted"; }; then
    need_packages
    # Here and not in an environment of pip's own, so that the core can be built again without a network.
    requirements=$(.venv/bin/python -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
    step "installing what the build needs" .venv/bin/pip install $requirements
    step "building Xenion and installing what it needs" \
        .venv/bin/pip install --no-build-isolation --editable ".${extra:+[$extra]}"
    echo "$core" >.venv/core
    echo "$wanted" >".venv/installed${extra:+-$extra}"
fi

[ -z "$extra" ] || test_packages

if ! same .venv/core "$core" || ! ls src/xenion/core/_core*.so >/dev/null 2>&1; then
    step "building the C core" .venv/bin/python setup.py build_ext --inplace --force
    echo "$core" >.venv/core
fi

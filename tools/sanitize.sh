#!/bin/sh
# Runs the core's tests on a core built with address and undefined-behaviour sanitizers. `sanitize.sh ARGUMENTS...`: for
# pytest. CC chooses the compiler: clang, or else gcc. Exits 0 with a word where there is no sanitizer runtime.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh
PATH=$PWD/.venv/bin:$PATH

# What must be loaded before Python, since the library that needs it comes later.
runtime() { # COMPILER
    for name in libclang_rt.asan-x86_64.so libclang_rt.asan.so libasan.so; do
        path=$("$1" -print-file-name="$name" 2>/dev/null) || return 1
        [ ! -f "$path" ] || { readlink -f "$path" && return; }
    done
    return 1
}

for compiler in ${CC:-clang gcc}; do
    if library=$(runtime "$compiler"); then
        echo ">> the core under $compiler's sanitizers"
        # Python's own leaks are not the core's, and its own allocator would hide what lies behind an allocation.
        XENION_SANITIZE=$compiler LD_PRELOAD=$library PYTHONMALLOC=malloc \
            ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=1:allocator_may_return_null=1 \
            UBSAN_OPTIONS=print_stacktrace=1 \
            exec python -m pytest --no-header -p no:cacheprovider ${1:+"$@"} tests/unit/core
    fi
done
echo "skipped: no sanitizer runtime for ${CC:-clang or gcc} (apt install libclang-rt-14-dev, or gcc's libasan)" >&2

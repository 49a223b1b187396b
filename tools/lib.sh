# Sourced by the other scripts here: how they speak.

# step MESSAGE COMMAND...: tells what takes a while; the command's own words are shown only if it fails.
step() {
    echo ">> $1 ..." >&2
    shift
    mkdir -p build
    "$@" >build/step.log 2>&1 </dev/null && return
    cat build/step.log >&2
    fail "this failed: $*"
}

fail() {
    echo "xenion: $1" >&2
    exit 1
}

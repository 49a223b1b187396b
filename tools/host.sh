# Sourced by setup.sh: the host's Python, and the Debian packages that a build needs.

system_python=/usr/bin/python3

# Sets $python. The system's own first: one in somebody's home folder is out of reach for other users.
choose_python() {
    python=$system_python
    if [ ! -x "$python" ] || recent "$python"; then return; fi
    old_path=$PATH
    IFS=:
    for folder in $old_path; do
        for name in python3 python3.14 python3.13 python3.12 python3.11; do
            if [ -x "$folder/$name" ] && recent "$folder/$name"; then
                unset IFS
                python=$folder/$name
                return
            fi
        done
    done
    unset IFS
    fail "Python 3.11 or newer is needed: $system_python is $("$system_python" -V 2>&1), and PATH has no newer one."
}

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Installs the Debian packages that are missing, or tells an ordinary user how to.
need_packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    missing=$(echo $missing)
    command -v apt-get >/dev/null || fail "install what Debian calls $missing, then try again."
    if [ "$(id -u)" -ne 0 ]; then
        echo "xenion: some packages are missing; this installs them:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing" >&2
        exit 1
    fi
    step "installing the Debian packages $missing" install_packages $missing
}

# What is there counts, not what dpkg knows: a compiler or a Python may come from elsewhere.
missing_packages() {
    if [ "$python" = "$system_python" ]; then
        [ -x "$python" ] || echo python3
        "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
        "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' 2>/dev/null || echo python3-dev
    fi
    command -v gcc >/dev/null || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    # A source that cannot be reached stops nothing unless it is the one that is needed.
    apt-get update || echo "(apt-get update failed)"
    apt-get install -y --no-install-recommends "$@"
}

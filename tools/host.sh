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

# What disks, networks and images of guests are tested with. Without them those tests skip, and say so.
test_packages() {
    wanted=
    for pair in mmdebstrap:mmdebstrap newuidmap:uidmap mke2fs:e2fsprogs qemu-img:qemu-utils \
        qemu-storage-daemon:qemu-system-common passt:passt ssh:openssh-client xenstore-ls:xenstore-utils \
        iperf3:iperf3 nft:nftables dnsmasq:dnsmasq-base; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || wanted="$wanted ${pair#*:}"
    done
    for library in libslirp.so.0:libslirp0 libnftables.so.1:libnftables1; do
        ls /usr/lib/*/"${library%%:*}" >/dev/null 2>&1 || wanted="$wanted ${library#*:}"
    done
    wanted=${wanted# }
    [ -n "$wanted" ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "xenion: some tests will skip; these packages are for them: $wanted" >&2
        return 0
    fi
    echo ">> installing what some tests need: $wanted ..." >&2
    install_packages $wanted >build/test-packages.log 2>&1 </dev/null ||
        echo "xenion: some tests will skip, for they cannot be installed: see build/test-packages.log" >&2
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    # A source that cannot be reached stops nothing unless it is the one that is needed.
    apt-get update || echo "(apt-get update failed)"
    apt-get install -y --no-install-recommends "$@"
}

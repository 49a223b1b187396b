#!/bin/sh
# make demo DISK=1: builds a Debian root disk and boots it on this terminal; without a terminal, a few commands run in it
# over ssh. The disk stays as it is: what the guest writes goes to an overlay.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh
. tools/host.sh
PATH=$PATH:/usr/sbin:/sbin

missing_packages() {
    for pair in mmdebstrap:mmdebstrap mke2fs:e2fsprogs ssh:openssh-client qemu-storage-daemon:qemu-system-common \
        qemu-img:qemu-utils; do
        command -v "${pair%:*}" >/dev/null || echo "${pair#*:}"
    done
    [ "$(id -u)" -eq 0 ] || command -v newuidmap >/dev/null || echo uidmap
}

image=xenion-demo
key=$PWD/build/demo.key
xm=.venv/bin/xm
python=
need_packages
mkdir -p build
[ -f "$key" ] || ssh-keygen -q -t ed25519 -N "" -C "$image" -f "$key"
if ! config=$($xm image path "$image" config 2>/dev/null) || ! cmp -s "$key.pub" build/demo.built; then
    $xm image build debian "$image" --ssh-key "$key.pub" --force
    cp "$key.pub" build/demo.built
    config=$($xm image path "$image" config)
fi
sed 's/target=/overlay, target=/' "$config" >build/demo-disk.cfg

if [ -t 0 ]; then
    echo "Debian boots now; root is logged in by itself. \`poweroff\` ends it, ctrl-] leaves the console. Meanwhile:" >&2
    echo "    ssh -p 2222 -i $key root@127.0.0.1" >&2
    exec $xm create -c build/demo-disk.cfg
fi

guest() {
    ssh -p 2222 -i "$key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o ConnectTimeout=10 root@127.0.0.1 "$@" </dev/null
}

$xm create build/demo-disk.cfg
trap '$xm destroy "$image" 2>/dev/null || true' EXIT INT TERM
echo ">> waiting until it answers on port 2222 ..." >&2
tries=0
until guest true 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -ge 300 ] || ! $xm domid "$image" >/dev/null 2>&1; then
        fail "the guest does not answer; its console is in the log that \`xm list --long $image\` names"
    fi
    sleep 1
done
for command in "uname -a" "systemctl is-system-running --wait" "findmnt /" "ip -brief address" "df -h /"; do
    printf '\n# %s\n' "$command"
    guest "$command"
done
$xm shutdown -w "$image"
trap - EXIT INT TERM

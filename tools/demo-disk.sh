#!/bin/sh
# Boots Debian from a disk of its own on this terminal, building the image first if there is none called "demo".
# Without a terminal it waits for the login and for the network, shows both, and powers the guest off.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

xm image path demo >/dev/null 2>&1 || xm image build debian demo
folder=$(xm image path demo)
port=$(.venv/bin/python -c '
import socket
for port in range(2222, 2322):
    with socket.socket() as tried:
        if tried.connect_ex(("127.0.0.1", port)):
            print(port)
            break')
sed -e "s|tcp:2222:22|tcp:$port:22|" -e 's|^disk = .*|disk = ["format=raw, overlay, vdev=xvda, access=rw, target='"$folder"'/root.img"]|' \
    "$folder/demo.cfg" >build/demo-disk.cfg
echo ">> ssh -p $port root@127.0.0.1 will reach it, once it has your key" >&2
if [ -t 0 ]; then exec xm create -c build/demo-disk.cfg; fi
exec .venv/bin/python tools/demo_disk.py build/demo-disk.cfg

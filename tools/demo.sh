#!/bin/sh
# Boots Debian's kernel with a busybox shell on this terminal; without a terminal, a few commands run instead.
# With DISK=1, a Debian of its own on a disk.
set -eu
cd "$(dirname "$0")/.."
if [ "${DISK:-0}" = 1 ]; then exec sh tools/demo_disk.sh; fi

kernel=$(.venv/bin/python -m xenion.images kernel linux-image-cloud-amd64)
ramdisk=$PWD/build/demo.initramfs.gz
.venv/bin/python -m xenion.images initramfs "$ramdisk" --init demo/init
if [ -t 0 ]; then mode=shell; else mode=script; fi

escape() { printf %s "$1" | sed 's/[&|\\]/\\&/g'; }
sed -e "s|@KERNEL@|$(escape "$kernel")|" -e "s|@RAMDISK@|$(escape "$ramdisk")|" -e "s|@MODE@|$mode|" \
    demo/demo.cfg >build/demo.cfg
exec .venv/bin/xm create -c build/demo.cfg

"""The configuration file that starts an image: it lies beside the image, to be used as it is or copied."""

import json

from xenion.images.store import Image

CMDLINE = "console=hvc0 rootfstype=ext4 quiet"
ROOT = "/dev/xvda ro"
PORT = 2222
MEMORY_MIB = 512


def text(image: Image) -> str:
    """An xm file; its paths are absolute."""
    disk = f"format=raw, vdev=xvda, access=rw, target={image.disk}"
    return f"""\
# Debian {image.suite}, kernel {image.release}, as `xm image build` made it. Start it with: xm create -c THIS_FILE
name = {_quoted(image.name)}
kernel = {_quoted(str(image.kernel))}
ramdisk = {_quoted(str(image.initrd))}
root = {_quoted(ROOT)}
extra = {_quoted(CMDLINE)}
memory = {MEMORY_MIB}
vcpus = 1
# With "overlay, " before target= the guest's writes go to a file of the domain's own, and the image stays as it is.
disk = [{_quoted(disk)}]
# A network that needs no root; ssh -p {PORT} root@127.0.0.1 reaches the guest. Another guest needs another port.
vif = ["forward=tcp:{PORT}:22"]
on_poweroff = "destroy"
on_reboot = "restart"
on_crash = "destroy"
"""


def _quoted(value: str) -> str:
    """JSON's texts are Python's too."""
    return json.dumps(value, ensure_ascii=False)

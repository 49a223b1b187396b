"""The configuration file beside an image, as `xm create` reads it."""

from pathlib import Path

import pytest

from tests.unit.images.bases import make_image
from xenion.config.disk import Format
from xenion.config.xmfile import load
from xenion.images.startfile import CMDLINE, MEMORY_MIB, PORT, text


@pytest.mark.parametrize(
    "folder", ["plain", 'with "quotes" and, commas', "b\\ackslash", "tab\there", "ünïcode"]
)
def test_it_starts_the_image(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / folder))
    image = make_image("web")
    image.config.write_text(text(image))
    config = load(image.config, {})
    assert (config.name, config.kernel, config.ramdisk) == ("web", image.kernel, image.initrd)
    assert config.cmdline == f"root=/dev/xvda ro {CMDLINE}"
    assert config.memory_mib == MEMORY_MIB
    assert config.notes == ()
    (disk,) = config.disks
    assert (disk.target, disk.vdev, disk.format, disk.writable) == (str(image.disk), "xvda", Format.RAW, True)
    (vif,) = config.vifs
    assert [(f.host_address, f.host_port, f.guest_port) for f in vif.forwards] == [("127.0.0.1", PORT, 22)]

"""The seed of cloud-init's NoCloud data source: a small CD image that a guest's cloud-init finds by its label.

cloud-init's documentation, reference/datasources/nocloud: a file system labelled CIDATA holds user-data, meta-data
and, if wanted, network-config.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from xenion.images import cache
from xenion.images.failure import RootDiskError

LABEL = "cidata"
MOST_BYTES = 16 << 20
"""What one of the files may have; cloud-init reads each into memory."""
_NOTHING = b"#cloud-config\n{}\n"


class SeedError(RootDiskError):
    """No seed can be made of this."""


def make_seed(
    path: Path,
    *,
    instance_id: str,
    hostname: str,
    user_data: bytes | None = None,
    meta_data: bytes | None = None,
    network_config: bytes | None = None,
    ssh_keys: Sequence[str] = (),
) -> None:
    """Writes the seed to the file at `path` in one step; it is for its owner only, for it may hold secrets.

    `user_data`, `meta_data` and `network_config` are files' contents as they are. Without `meta_data` it is made of the
    instance's id, its host name and the public keys of its default user. cloud-init takes a machine with another
    instance id for a new one. SeedError, OSError.
    """
    if meta_data is None:
        meta_data = meta_data_of(instance_id, hostname, ssh_keys)
    files = {
        "user-data": _NOTHING if user_data is None else user_data,
        "meta-data": meta_data,
        **({} if network_config is None else {"network-config": network_config}),
    }
    for name, content in files.items():
        if len(content) > MOST_BYTES:
            raise SeedError(f"The {name} for cloud-init has {len(content)} bytes: {MOST_BYTES} is the most.")
    cache.write(path, _iso(files), mode=0o600)


def meta_data_of(instance_id: str, hostname: str, ssh_keys: Sequence[str]) -> bytes:
    """JSON, which is YAML as well."""
    content: dict[str, object] = {"instance-id": instance_id}
    if hostname:
        content["local-hostname"] = hostname
    if ssh_keys:
        content["public-keys"] = list(ssh_keys)
    return json.dumps(content, indent=1).encode() + b"\n"


def _iso(files: dict[str, bytes]) -> bytes:
    image = pycdlib.PyCdlib()
    out = io.BytesIO()
    try:
        image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
        for number, (name, content) in enumerate(files.items()):
            # The plain name follows ISO 9660's rules; Linux shows Rock Ridge's.
            image.add_fp(
                io.BytesIO(content),
                len(content),
                f"/FILE{number}.;1",
                rr_name=name,
                joliet_path=f"/{name}",
            )
        image.write_fp(out)
        image.close()
    except PyCdlibException as error:
        raise SeedError(f"No CD image can be made of the data for cloud-init: {error}.") from error
    return out.getvalue()

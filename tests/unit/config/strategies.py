"""Configurations' parts at random, all of them good."""

from pathlib import Path

from hypothesis import strategies as st

from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk, Format
from xenion.config.vdev import name_of
from xenion.config.vif import Attachment, Forward, Vif, check_forwards

_letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
targets = st.text(_letters, max_size=60).map(lambda text: f"/{text}")
urls = st.sampled_from(["nbd://h/x", "nbd://[::1]:10809/", "nbd+unix:///e?socket=/run/s", "nbd://192.0.2.1"])
devids = (
    st.integers(0, 255).map(lambda minor: 202 << 8 | minor)
    | st.integers(0, 255).map(lambda minor: 8 << 8 | minor)
    | st.tuples(st.sampled_from([3, 22]), st.integers(0, 127)).map(lambda place: place[0] << 8 | place[1])
    | st.tuples(st.integers(16, (1 << 20) - 1), st.integers(0, 255)).map(lambda p: 1 << 28 | p[0] << 8 | p[1])
)
vdevs = devids.map(name_of)
amounts = st.integers(0, 1 << 53)


@st.composite
def _disks(draw: st.DrawFn) -> Disk:
    form, cdrom = draw(st.sampled_from(Format)), draw(st.booleans())
    writable = False if cdrom else draw(st.booleans())
    target = draw(urls if form is Format.NBD else targets)
    return Disk(
        target="" if cdrom and form is Format.RAW and draw(st.booleans()) else target,
        vdev=draw(vdevs),
        format=form,
        writable=writable,
        cdrom=cdrom,
        overlay=writable and draw(st.booleans()),
        sector_bytes=draw(st.sampled_from([512, 4096])),
        discard=draw(st.booleans()),
        limit_bytes=draw(amounts),
        limit_requests=draw(amounts),
    )


disks = _disks()
disk_lists = st.lists(disks, max_size=4, unique_by=lambda disk: disk.vdev).map(tuple)

addresses = st.ip_addresses().filter(lambda address: not getattr(address, "scope_id", None)).map(str)
forwards = st.builds(
    Forward,
    protocol=st.sampled_from(["tcp", "udp"]),
    host_address=addresses,
    host_port=st.integers(1, 65535),
    guest_port=st.integers(1, 65535),
)
macs = st.binary(min_size=5, max_size=5).map(lambda tail: f"02:{tail.hex(':')}")


def _place(forward: Forward) -> tuple[str, str, int]:
    return (forward.protocol, forward.host_address, forward.host_port)


@st.composite
def _vifs(draw: st.DrawFn) -> Vif:
    attachment = draw(st.sampled_from(Attachment))
    user = attachment is Attachment.USER
    network = "" if user else draw(st.from_regex("[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}", fullmatch=True))
    return Vif(
        mac=draw(st.just("") | macs),
        attachment=attachment,
        network=network,
        addresses=tuple(draw(st.lists(addresses, max_size=3, unique=True))),
        rate_bytes=draw(amounts),
        rate_window_us=draw(st.integers(1_000, 60_000_000)),
        forwards=tuple(draw(st.lists(forwards, max_size=3 if user else 0, unique_by=_place))),
        name=draw(st.just("") | st.from_regex("[a-z][A-Za-z0-9_.@+-]{0,14}", fullmatch=True)),
        multiqueue=draw(st.integers(1, 16)),
        anti_spoofing=draw(st.booleans()),
    )


vifs = _vifs()


def _fit(several: list[Vif]) -> bool:
    found = [vif.mac for vif in several if vif.mac]
    try:
        check_forwards([forward for vif in several for forward in vif.forwards])
    except ValueError:
        return False
    return len(set(found)) == len(found)


vif_lists = st.lists(vifs, max_size=3).filter(_fit).map(tuple)

_paths = st.none() | targets.map(Path)
_hostnames = st.just("") | st.from_regex(r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?(\.[a-z]{1,5}){0,2}", fullmatch=True)
_ssh_keys = st.from_regex("ssh-[a-z0-9]{1,9} [A-Za-z0-9+/]{8,40}={0,2}( [a-z@. ]{0,9})?", fullmatch=True)


@st.composite
def _cloud_inits(draw: st.DrawFn) -> CloudInit:
    meta = draw(_paths)
    return CloudInit(
        user_data=draw(_paths),
        meta_data=meta,
        network_config=draw(_paths),
        hostname=draw(_hostnames) if meta is None else "",
        ssh_keys=() if meta else tuple(draw(st.lists(_ssh_keys, max_size=3))),
    )


cloud_inits = _cloud_inits()

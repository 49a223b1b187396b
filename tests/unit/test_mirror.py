"""The tests mirror the source: `dom0/net/shaping.py` is tested by `tests/unit/dom0/net/test_shaping.py`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE, UNIT = ROOT / "src/xenion", ROOT / "tests/unit"
ELSEWHERE = {
    # what is data, or a protocol without code
    "api/actions.py": "tests/unit/api/test_reference.py",
    "api/types.py": "tests/unit/xend/web/test_schema.py",
    "builder/errors.py": "tests/unit/builder/test_kernel.py",
    "dom0/guest.py": "tests/unit/dom0/test_domain_guest.py",
    "dom0/net/counters.py": "tests/unit/dom0/net/test_backend.py",
    "dom0/net/wire.py": "tests/unit/dom0/net/test_wires.py",
    "dom0/xenbus/backend.py": "tests/unit/dom0/xenbus/test_device.py",
    "images/failure.py": "tests/unit/images/test_build.py",
    "vmm/errors.py": "tests/unit/vmm/test_guest_door.py",
    "xend/call.py": "tests/unit/xend/test_dispatch.py",
    "xend/disks/errors.py": "tests/unit/xend/disks/test_files.py",
    "xend/disks/place.py": "tests/unit/xend/disks/test_opening.py",
    "xend/networks/place.py": "tests/processes/test_networks.py",
    # what needs a guest, or processes, that run
    "dom0/xenstore/daemon.py": "tests/processes/test_xenstored.py",
    "xend/command.py": "tests/processes/test_command.py",
    "xend/xenstored.py": "tests/processes/test_store_of_xend.py",
    "xend/daemon.py": "tests/processes/test_xend.py",
    "domain/process.py": "tests/processes/test_domain.py",
    "domain/main.py": "tests/processes/test_domain.py",
    "domain/report.py": "tests/processes/test_domain.py",
    "domain/run.py": "tests/guest/test_probes.py",
    "processor/": "tests/processor/test_exceptions.py",
    "vmm/grants.py": "tests/guest/probes/grants.c",
    "vmm/grants_use.py": "tests/guest/probes/grants.c",
    "vmm/hypercalls/": "tests/guest/test_probes.py",
    # what is covered with its neighbour
    "config/device_keys.py": "tests/unit/config/test_keys.py",
    "core/build.py": "tests/unit/core/test_xen_h.py",
    "dom0/net/libslirp.py": "tests/unit/dom0/net/test_slirp.py",
    "dom0/net/switch_client.py": "tests/unit/dom0/net/test_switch.py",
    "xend/disks/storage_daemon.py": "tests/unit/xend/disks/test_opening.py",
    "xend/networks/host_networks.py": "tests/processes/test_networks.py",
    "xend/networks/plugging.py": "tests/processes/test_networks.py",
    "xend/networks/links.py": "tests/processes/test_networks.py",
    "xend/networks/passt.py": "tests/unit/xend/networks/test_user.py",
    "xend/networks/slirp.py": "tests/unit/xend/networks/test_user.py",
    "xend/networks/tap.py": "tests/processes/test_networks.py",
    "xend/web/answers.py": "tests/unit/xend/web/test_app.py",
    "xend/web/disconnect.py": "tests/unit/xend/web/test_connection.py",
    "xend/web/gate.py": "tests/unit/xend/web/test_connection.py",
    "xend/web/limits.py": "tests/unit/xend/web/test_connection.py",
    "xend/web/requests.py": "tests/unit/xend/web/test_app.py",
    "xend/web/stuck.py": "tests/unit/xend/web/test_connection.py",
    "xend/web/websocket.py": "tests/unit/xend/web/test_console.py",
    "xm/attend.py": "tests/unit/xm/test_console.py",
    "xm/capture.py": "tests/unit/xm/commands/test_network_dump.py",
    "xm/commands/_image_": "tests/unit/xm/commands/test_image.py",
}
"""Modules, or the beginnings of their names, and the test that covers them."""


def without_a_test() -> list[str]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE)
        if not path.name.startswith("__") and not (UNIT / module.parent / f"test_{path.name}").exists():
            found.append(str(module))
    return found


def test_each_module_has_its_tests() -> None:
    assert not [module for module in without_a_test() if not module.startswith(tuple(ELSEWHERE))]


def test_where_else_they_are() -> None:
    missing = without_a_test()
    for start, test in ELSEWHERE.items():
        assert (ROOT / test).is_file(), f"{start}: there is no {test}"
        assert any(module.startswith(start) for module in missing), f"{start} has its own test by now"

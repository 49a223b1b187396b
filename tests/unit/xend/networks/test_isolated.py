"""Networks among domains alone."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.networks.kit import Stream, arp_request, place, refusal, run, vif
from xenion.config.vif import Attachment
from xenion.xend import helpers
from xenion.xend.networks import isolated
from xenion.xend.networks.place import Plugged
from xenion.xend.networks.plugging import Networks


def plug(nets: Networks, at: Path, devid: int, network: str = "lab") -> Plugged:
    made = vif(Attachment.ISOLATED, network, mac=f"00:16:3e:00:00:0{devid}")
    return run(nets.plug(made, place(at, devid)))  # type: ignore[no-any-return]


def switches(at: Path) -> list[helpers.Helper]:
    return helpers.strays(at, ())


def end(at: Path, *made: Plugged) -> None:
    for each in made:
        each.close()
    for helper in switches(at):
        run(helper.end())


def test_frames_go_from_domain_to_domain(tmp_path: Path) -> None:
    one, two, other = (
        plug(Networks(tmp_path, {}), tmp_path, number, name)
        for number, name in ((1, "lab"), (2, "lab"), (3, "other"))
    )
    assert one.description["peer"] == "switch"
    assert (one.helpers, one.undo) == ([], {})
    assert len(switches(tmp_path)) == 1, "one for all networks, whichever xend has started it"
    request = arp_request(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    with Stream(one.fds[0]) as sends, Stream(two.fds[0]) as gets, Stream(other.fds[0]) as apart:
        sends.send(request)
        assert gets.receive() == request
        again = plug(Networks(tmp_path, {}), tmp_path, 4, "other")
        with Stream(again.fds[0]) as same:
            same.send(request)
            assert apart.receive() == request, "and nothing from the other network before"
    end(tmp_path, one, two, other, again)


def test_the_switch_has_died(tmp_path: Path) -> None:
    one = plug(Networks(tmp_path, {}), tmp_path, 1)
    (first,) = switches(tmp_path)
    first.process.kill()
    run(first.ended())
    two = plug(Networks(tmp_path, {}), tmp_path, 2)
    (second,) = switches(tmp_path)
    assert second != first
    end(tmp_path, one, two)


def test_a_long_path(tmp_path: Path) -> None:
    at = tmp_path / ("long" * 30)
    at.mkdir()
    end(at, plug(Networks(at, {}), at, 1))


def test_a_switch_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "PROGRAM", ("/bin/true",))
    where = place(tmp_path)
    before = descriptors()
    error = run(refusal(Networks(tmp_path, {}).plug(vif(Attachment.ISOLATED, "lab"), where)))
    assert error.code == "failed"
    assert "isolated network lab: the network switch" in error.message
    assert descriptors() == before
    error = run(refusal(Networks(tmp_path / "gone", {}).plug(vif(Attachment.ISOLATED, "lab"), where)))
    assert "No such file" in error.message

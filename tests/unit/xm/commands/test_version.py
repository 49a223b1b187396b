"""`xm version`."""

import json

from tests.unit.xm.conftest import Xm


def test_the_versions(xm: Xm) -> None:
    facts = json.loads(xm("version", "--json").out)
    assert facts["xen_abi"] == "4.17"
    assert facts.keys() == {"xenion", "xen_abi", "unicorn", "python", "host"}
    assert f"python     {facts['python']}\n" in xm("version").out

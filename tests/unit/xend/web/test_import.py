"""xend starts while somebody waits for it."""

import json
import subprocess
import sys

LATE = [
    "wsproto",
    "starlette.applications",
    "xenion.xend.web.console",
    "xenion.xend.web.openapi",
    "importlib.metadata",
]


def test_what_few_need_is_imported_late() -> None:
    program = (
        "import json, sys, xenion.xend.web.app, xenion.xend.web.server; print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not set(LATE) & set(json.loads(done.stdout))

"""Our programs as processes that really run, without a guest worth the name: what ends them, and what that leaves.

Where a domain's process is not what is tested, the stand-ins of xend's unit tests are domains.
"""

from tests.unit.xend.conftest import standins, tools, world, xend

__all__ = ["standins", "tools", "world", "xend"]

"""What holds for all tests."""

import gc
import itertools
import signal

import pytest
from hypothesis import settings

COLLECTED_EVERY = 200
_tests = itertools.count(1)


# However slow the machine is, an example may take its time; everything else as it was.
settings.register_profile("patient", settings(deadline=None))
settings.load_profile("patient")


def pytest_configure() -> None:
    """A shell starts what it runs in the background with ctrl-C ignored, and programs that we start inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What a test leaves to the collector, descriptors too, goes between two tests and never in the middle of one."""
    gc.disable()
    _collect()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    if next(_tests) % COLLECTED_EVERY == 0:
        _collect()


def _collect() -> None:
    """What survives stays: thousands of tests and their reports are not looked through again."""
    gc.collect()
    gc.freeze()

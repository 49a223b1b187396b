"""What holds for all tests."""

import gc
import itertools
import signal

import pytest

COLLECTED_EVERY = 200
_tests = itertools.count(1)


def pytest_configure() -> None:
    """A shell starts what it runs in the background with ctrl-C ignored, and programs that we start inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Thousands of collected tests are no garbage. What a test leaves to the collector, descriptors too, goes between
    two tests and never in the middle of one."""
    gc.collect()
    gc.freeze()
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    if next(_tests) % COLLECTED_EVERY == 0:
        gc.collect()

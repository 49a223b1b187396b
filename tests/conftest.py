"""What holds for all tests."""

import gc
import signal


def pytest_configure() -> None:
    """A shell starts what it runs in the background with ctrl-C ignored, and programs that we start inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Thousands of collected tests are no garbage: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()

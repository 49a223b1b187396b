"""What goes wrong with images, as xm's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from xenion.images.cache import CacheError
from xenion.images.failure import RootDiskError, WrongRequestError
from xenion.xm.errors import UsageError, XmError


@contextmanager
def told() -> Iterator[None]:
    """Within it, what images raise becomes XmError or UsageError; their sentences begin and end as xm's do."""
    try:
        yield
    except WrongRequestError as error:
        raise UsageError(str(error).rstrip(".")) from error
    except (RootDiskError, CacheError) as error:
        raise XmError(str(error).rstrip(".")) from error

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
        raise UsageError(sentence_of(error)) from error
    except (RootDiskError, CacheError) as error:
        raise XmError(sentence_of(error)) from error


def sentence_of(error: Exception) -> str:
    """As it stands behind "xm: ": without its dot, and begun small unless with a name."""
    text = str(error).rstrip(".")
    return text if text.startswith("Debian") else text[:1].lower() + text[1:]

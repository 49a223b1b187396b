"""What all that can go wrong with root disks has in common."""


class RootDiskError(Exception):
    """A root disk cannot be built, found or removed; the text is one sentence for people."""


class WrongRequestError(RootDiskError):
    """What was asked for can never be: ask for something else."""

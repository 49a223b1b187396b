"""What a command can fail with; `main` prints the one sentence and exits with the status."""


class XmError(Exception):
    """The command could not be done."""

    status = 1


class UsageError(XmError):
    """The command line or the configuration is wrong."""

    status = 2

"""The manual pages: `python -m xenion.xm.manual docs/man` writes xm.1 anew and renews the keys in xm.cfg.5."""

import textwrap
from pathlib import Path

from xenion.xm.description import Argument, Command, commands

_HEAD = r""".\" Made by: python -m xenion.xm.manual docs/man
.TH XM 1 "" "Xenion" "Xenion"
.SH NAME
xm \- start, watch and end domains
.SH SYNOPSIS
.B xm
.I COMMAND
.RI [ ARGUMENT " ...]"
.SH DESCRIPTION
.B xm
is the command line of Xenion: Xen's architecture as an ordinary Linux program.
It asks
.BR xend (8),
which it starts when it does not run.
An unambiguous beginning of a command's name will do.
Wherever a domain is meant, its name, its id or its UUID will do; options may stand anywhere among the arguments.
.PP
Domain\-0 is the host itself.
Where a command prints something,
.B \-\-json
makes it JSON, for programs.
.B xm
.I COMMAND
.B \-h
tells a command's arguments.
.SH COMMANDS
"""
_TAIL = r""".SH EXIT STATUS
.TP
.B 0
It is done.
.TP
.B 1
It failed. Of several domains: it failed for one of them at least.
.TP
.B 2
The command line or the configuration is wrong, or the domain cannot be built or does not fit.
.TP
.B 130
It was interrupted.
.PP
What went wrong is told in one sentence on standard error.
.SH ENVIRONMENT
.TP
.B XEND_URL
A xend on another host, as https://HOST:PORT;
.B XEND_TOKEN
is the token it asks for,
.B XEND_CA
the file of the certificate it is known by.
.TP
.B NO_COLOR
No colours, even on a terminal.
.TP
.BR XDG_STATE_HOME ", " XDG_RUNTIME_DIR
Where a user's xend keeps its files.
.SH FILES
.TP
.I ~/.local/state/xenion/domains/NAME
Console log, crash reports and core dumps of a domain; for root below
.IR /var/lib/xenion .
.TP
.I ~/.local/state/xenion/xend.log
What a xend that xm started has to say.
.SH EXAMPLES
.EX
xm create \-c guest.cfg memory=256
xm list
xm console guest
xm shutdown \-w guest
xm call GET /v1/log last:=5
.EE
.SH SEE ALSO
.BR xm.cfg (5),
.BR xend (8)
"""
_KEYS_BEGIN, _KEYS_END = '.\\" keys begin\n', '.\\" keys end\n'


def page() -> str:
    """xm.1."""
    return _HEAD + "".join(map(_section, commands())) + _TAIL


def _section(command: Command) -> str:
    usage = " ".join(argument.usage for argument in command.arguments)
    lines = [f".SS {_roff(f'{command.name} {usage}'.strip())}"]
    lines.append(_roff(f"{command.summary[0].upper()}{command.summary[1:]}."))
    for argument in command.arguments:
        if argument.text:
            lines += [".TP", _term(argument), _roff(f"{argument.text[0].upper()}{argument.text[1:]}.")]
    if command.epilog:
        lines += [".PP", ".nf", *map(_roff, command.epilog.splitlines()), ".fi"]
    return "\n".join(lines) + "\n"


def _term(argument: Argument) -> str:
    value = f" \\fI{_roff(argument.value)}\\fR" if argument.value else ""
    if not argument.flags:
        return f"\\fI{_roff(argument.value)}\\fR"
    return ", ".join(f"\\fB{_roff(flag)}\\fR" for flag in argument.flags) + value


def _roff(text: str) -> str:
    """Text as it is: no dash becomes a hyphen, no line a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def keys_of_configuration() -> str:
    """What xm.cfg.5 says of the keys that are acted on."""
    from xenion.config.key import Status
    from xenion.config.keys import KEYS

    lines = []
    for key in KEYS.values():
        if key.status is Status.ACTED:
            choices = f" One of {', '.join(key.choices)}." if key.choices else ""
            lines += [".TP", f"\\fB{_roff(key.name)}\\fR ({key.kind.value})"]
            lines += textwrap.wrap(_roff(key.doc.replace("`", "") + choices), 110, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def renewed(document: str) -> str:
    """xm.cfg.5 with the present keys."""
    before, _, rest = document.partition(_KEYS_BEGIN)
    _, _, after = rest.partition(_KEYS_END)
    return before + _KEYS_BEGIN + keys_of_configuration() + _KEYS_END + after


def main(folder: Path) -> None:
    (folder / "xm.1").write_text(page())
    configuration = folder / "xm.cfg.5"
    configuration.write_text(renewed(configuration.read_text()))


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]))

"""For fish."""

from xenion.xm.arguments import COMMAND, DOMAIN, FILE
from xenion.xm.completion import DOMAINS
from xenion.xm.description import Argument, Command, commands


def script() -> str:
    known = commands()
    names = " ".join(command.name for command in known)
    lines = ["# fish completion for xm, made by: xm completion fish", "complete -c xm -f"]
    for command in known:
        when = "not __fish_seen_subcommand_from " + names
        lines.append(f"complete -c xm -n {_quoted(when)} -a {command.name} -d {_quoted(command.summary)}")
    for command in known:
        lines += _lines(command, names)
    return "\n".join(lines) + "\n"


def _lines(command: Command, names: str) -> list[str]:
    start = f"complete -c xm -n {_quoted(f'__fish_seen_subcommand_from {command.name}')}"
    lines = [f"{start}{_option(option)}" for option in command.options]
    words = names if command.takes(COMMAND) else " ".join(command.words)
    if words:
        lines.append(f"{start} -a {_quoted(words)}")
    if command.takes(DOMAIN):
        lines.append(f"{start} -a {_quoted(f'({DOMAINS})')}")
    if command.takes(FILE):
        lines.append(f"{start} -F")
    return lines


def _option(option: Argument) -> str:
    """Its flags, what they take, what they mean."""
    text = "".join(f" -l {f[2:]}" if f.startswith("--") else f" -s {f[1:]}" for f in option.flags)
    if option.choices:
        text += f" -x -a {_quoted(' '.join(option.choices))}"
    elif option.value:
        text += " -r -F" if option.value == FILE else " -x"
    return f"{text} -d {_quoted(option.text)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

"""For zsh's own completion system."""

from xenion.xm.arguments import COMMAND, DOMAIN, FILE
from xenion.xm.completion import DOMAINS
from xenion.xm.description import Argument, Command, commands

_SCRIPT = """\
#compdef xm
# zsh completion for xm, made by: xm completion zsh
_xm_commands() {{
    local -a names
    names=(
{names}
    )
    _describe command names
}}

_xm_domains() {{
    local -a names
    names=(${{(f)"$({domains})"}})
    compadd -a names
}}

_xm() {{
    local curcontext=$curcontext state line
    _arguments -C '1: :_xm_commands' '*:: :->arguments'
    [[ $state == arguments ]] || return
    case $line[1] in
{cases}
    esac
}}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _xm "$@"; else compdef _xm xm; fi
"""
_ACTIONS = {DOMAIN: "_xm_domains", FILE: "_files", COMMAND: "_xm_commands"}


def script() -> str:
    known = commands()
    return _SCRIPT.format(
        names="\n".join(f"        {_quoted(f'{command.name}:{command.summary}')}" for command in known),
        cases="\n".join(_case(command) for command in known),
        domains=DOMAINS,
    )


def _case(command: Command) -> str:
    specs = [spec for argument in command.arguments for spec in _specs(argument)]
    return f"        {command.name}) _arguments {' '.join(map(_quoted, specs))} ;;"


def _specs(argument: Argument) -> list[str]:
    """One for each way to write it."""
    action = f"({' '.join(argument.choices)})" if argument.choices else _ACTIONS.get(argument.value, " ")
    message = argument.value.lower().replace(":", "")
    if not argument.flags:
        return [f"{'*' if argument.nargs in ('*', '+') else ''}:{message}:{action}"]
    value = f":{message}:{action}" if argument.value else ""
    text = "".join(f"\\{c}" if c in "[]:\\" else c for c in argument.text)
    equals = {flag: "=" if value and flag.startswith("--") else "" for flag in argument.flags}
    return [f"{flag}{equals[flag]}[{text}]{value}" for flag in argument.flags]


def _quoted(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"

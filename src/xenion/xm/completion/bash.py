"""For bash, with and without the bash-completion package."""

from shlex import quote

from xenion.xm.arguments import COMMAND, DOMAIN, FILE
from xenion.xm.completion import DOMAINS
from xenion.xm.description import Command, commands

_SCRIPT = """\
# bash completion for xm, made by: xm completion bash
_xm_fill() {{
    local line
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$@" -- "$word")
}}

_xm_fill_domains() {{  # not by compgen -W, which expands what stands in the words
    local line
    while IFS= read -r line; do [[ $line == "$word"* ]] && COMPREPLY+=("$line"); done < <({domains})
}}

_xm() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}}
    local options= words= values= domains= files=
    COMPREPLY=()
    [[ $word == '=' ]] && word=
    [[ $before == '=' ]] && before=${{COMP_WORDS[COMP_CWORD - 2]}}
    if ((COMP_CWORD == 1)); then
        _xm_fill -W {names}
        return
    fi
    case $command in
{cases}
    esac
    case "$command $before" in
{values}
    esac
    if [[ -n $values ]]; then
        _xm_fill -W "$values"
    elif [[ $word == -* ]]; then
        _xm_fill -W "$options"
    else
        [[ -n $words ]] && _xm_fill -W "$words"
        [[ -n $domains ]] && _xm_fill_domains
        [[ -n $files ]] && {{ compopt -o filenames 2>/dev/null; _xm_fill -f; }}
    fi
    return 0
}}

complete -F _xm xm
"""


def script() -> str:
    known = commands()
    names = " ".join(command.name for command in known)
    return _SCRIPT.format(
        names=quote(names),
        cases="\n".join(_case(command, names) for command in known),
        values="\n".join(line for command in known for line in _values(command)) or "        *) ;;",
        domains=DOMAINS,
    )


def _case(command: Command, names: str) -> str:
    flags = [flag for option in command.options for flag in option.flags]
    parts = [f"options={quote(' '.join(['-h', '--help', *flags]))}"]
    words = names if command.takes(COMMAND) else " ".join(command.words)
    if words:
        parts.append(f"words={quote(words)}")
    if command.takes(DOMAIN):
        parts.append("domains=1")
    if command.takes(FILE):
        parts.append("files=1")
    return f"        {command.name}) {' '.join(parts)} ;;"


def _values(command: Command) -> list[str]:
    return [
        f"        {quote(f'{command.name} {flag}')}) values={quote(' '.join(option.choices))} ;;"
        for option in command.options
        for flag in option.flags
        if option.choices
    ]

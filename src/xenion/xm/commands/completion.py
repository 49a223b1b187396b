"""xm completion: scripts for shells."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, parse

SUMMARY = "print a script that completes commands, options and domains in a shell"
EPILOG = """\
bash: xm completion bash > ~/.local/share/bash-completion/completions/xm
zsh:  xm completion zsh > DIRECTORY/_xm, a directory of $fpath
fish: xm completion fish > ~/.config/fish/completions/xm.fish"""


def parser() -> Parser:
    p = command("completion", SUMMARY, EPILOG)
    p.add_argument("shell", choices=("bash", "zsh", "fish"), help="for this shell")
    return p


def run(argv: Sequence[str]) -> int:
    import importlib

    args = parse(parser(), argv)
    print(importlib.import_module(f"xenion.xm.completion.{args.shell}").script(), end="")
    return 0

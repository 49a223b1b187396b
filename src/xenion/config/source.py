"""The text of a configuration file: its syntax tree by Python's parser, and places in it for errors.

A file comes from a stranger: its size and its number of words are bounded before the parser sees it.
"""

from __future__ import annotations

import ast
import re
import warnings

from xenion.config.errors import ConfigError

TEXT_BYTES = 1 << 20
# A mebibyte of one-letter words takes the parser 900 MiB; this many take it a fifth.
WORDS = 100_000

_WORD = re.compile(r"\w+|[^\w\s]")
_LINE_END = re.compile("\r\n|\r|\n")

_REFUSED: dict[type[ast.AST], str] = {
    ast.Call: "a function call",
    ast.Attribute: "an attribute",
    ast.Subscript: "a subscript",
    ast.JoinedStr: "an f-string (write it with %)",
    ast.Lambda: "a lambda",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.NamedExpr: "an assignment inside an expression",
    ast.Starred: "an unpacking",
    ast.operator: "an operator other than + and %",
    ast.unaryop: "the operator ~",
    ast.cmpop: "the comparison is",
    ast.Expr: "an expression without a name",
    ast.If: "an if statement (write NAME = A if CONDITION else B)",
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.FunctionDef: "a function",
    ast.ClassDef: "a class",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.AugAssign: "an operator other than = and +=",
    ast.AnnAssign: "an annotation",
    ast.stmt: "a statement other than NAME = VALUE",
}


class Source:
    """A text and its name, which turns what Python's parser counts into `FILE:LINE:COLUMN`."""

    def __init__(self, text: str, filename: str) -> None:
        self.text = text
        self.filename = filename if filename.isprintable() else ascii(filename)
        self._lines: list[str] | None = None

    def place(self, node: ast.AST) -> str:
        """Where `node` begins, the column in characters from 1."""
        line: int = getattr(node, "lineno", 1)
        if self._lines is None:
            self._lines = _LINE_END.split(self.text)
        before = "".join(self._lines[line - 1 : line]).encode()[: getattr(node, "col_offset", 0)]
        return self.at(line, len(before.decode(errors="replace")) + 1)

    def at(self, line: int, column: int) -> str:
        """`FILE:LINE:COLUMN`."""
        return f"{self.filename}:{line}:{column}"

    def place_of(self, index: int) -> str:
        """Where the character at `index` of the text stands."""
        line = self.text.count("\n", 0, index) + 1
        return self.at(line, index - self.text.rfind("\n", 0, index))

    def error(self, node: ast.AST, sentence: str) -> ConfigError:
        """A `ConfigError` at `node`."""
        return ConfigError(sentence, where=self.place(node))


def statements(source: Source) -> list[ast.stmt]:
    """The statements of a text, none of them checked yet."""
    _check_text(source)
    try:
        with warnings.catch_warnings():
            # Python warns of "\d" and the like, which is the file's affair and not this program's.
            warnings.simplefilter("ignore")
            return ast.parse(source.text).body
    except SyntaxError as error:
        # What follows a semicolon in one of them is advice to a programmer.
        sentence = error.msg.partition(";")[0]
        sentence = sentence if sentence.isprintable() else ascii(sentence)
        where = source.at(max(error.lineno or 1, 1), max(error.offset or 1, 1))
        raise ConfigError(f"this is not the syntax of a configuration: {sentence}", where=where) from None
    except (RecursionError, MemoryError):
        raise ConfigError("the file is nested too deeply: simplify it", where=source.at(1, 1)) from None


def refusal(source: Source, node: ast.AST, placed: ast.AST) -> ConfigError:
    """The error for a node that no configuration may hold; it stands where `placed` does."""
    what = next(
        (name for kind, name in _REFUSED.items() if isinstance(node, kind)), f"Python's {type(node).__name__}"
    )
    return source.error(placed, f"{what} is not allowed: a configuration is read, never run")


def _check_text(source: Source) -> None:
    """Refuse what Python's parser would choke on, before it sees it."""
    text = source.text
    for number, line in enumerate(text.split("\n") if "\0" in text else (), 1):
        if "\0" in line:
            raise ConfigError(
                "a zero byte is not allowed: remove it", where=source.at(number, line.index("\0") + 1)
            )
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        where = source.place_of(error.start)
        raise ConfigError("a character is not UTF-8: save the file as UTF-8", where=where) from None
    if length > TEXT_BYTES:
        raise ConfigError(f"the file is over {TEXT_BYTES} bytes: shorten it", where=source.at(1, 1))
    if sum(1 for _ in _WORD.finditer(text)) > WORDS:
        raise ConfigError(f"the file has over {WORDS} words and signs: shorten it", where=source.at(1, 1))

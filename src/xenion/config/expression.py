"""The expressions of a configuration file, evaluated by this module and never run.

Nothing but the listed nodes is evaluated, and all work is bounded: the depth before an expression is walked,
each value and the sum of all work while it is evaluated. Every function raises `ConfigError` with its place
and nothing else.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from xenion.config.errors import ConfigError, shown
from xenion.config.source import Source, refusal, statements
from xenion.config.values import Value

DEPTH = 64
INTEGER_LIMIT = 1 << 64
VALUE_UNITS = 1 << 16
WORK_UNITS = 1 << 22

_FORMAT = re.compile(r"%[#0\- +]*(\*|[0-9]*)(?:\.(\*|[0-9]*))?[hlL]?(.?)", re.DOTALL)
_CONVERSIONS = frozenset("diouxXeEfFgGcs%")
# No float in Python's "%f" is longer without its precision: 309 digits, a sign and a point.
_NUMBER_CHARACTERS = 320

# What can be compared is known only when it is tried, so the operands have no type here.
_COMPARISONS: dict[type[ast.cmpop], Callable[..., bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: operator.contains(container, item),
    ast.NotIn: lambda item, container: not operator.contains(container, item),
}

_ALLOWED = (
    ast.Constant,
    ast.Name,
    ast.List,
    ast.Tuple,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.expr_context,
    ast.Add,
    ast.Mod,
    ast.USub,
    ast.UAdd,
    ast.Not,
    ast.boolop,
    *_COMPARISONS,
)
_LITERAL = (ast.Constant, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.UAdd, ast.expr_context)


def literal(text: str) -> Value:
    """The value of one literal; raises `ConfigError` if `text` is anything else."""
    source = Source(text.strip(), "command line")
    match statements(source):
        case [ast.Expr(value=expression)]:
            for node in ast.walk(expression):
                if not isinstance(node, _LITERAL):
                    raise source.error(node, "a literal is wanted")
            check(source, expression)
            return Evaluator(source, {}).evaluate(expression)
    raise ConfigError("a literal is wanted", where=source.at(1, 1))


def check(source: Source, expression: ast.expr) -> None:
    """Raise unless every node is on the list, also where it would never be evaluated."""
    waiting: list[tuple[ast.AST, ast.AST, int]] = [(expression, expression, 1)]
    while waiting:
        node, placed, depth = waiting.pop()
        if hasattr(node, "lineno"):
            placed = node
        if not isinstance(node, _ALLOWED):
            raise refusal(source, node, placed)
        if depth > DEPTH:
            raise source.error(
                placed, f"an expression must not be nested more than {DEPTH} deep: simplify it"
            )
        children = [(child, placed, depth + 1) for child in ast.iter_child_nodes(node)]
        waiting.extend(reversed(children))


class Evaluator:
    """Evaluates checked expressions over `scope`, within one sum of work for all of them."""

    def __init__(self, source: Source, scope: Mapping[str, Value]) -> None:
        self._source = source
        self._scope = scope
        self._work = WORK_UNITS

    def evaluate(self, node: ast.expr) -> Value:
        """The value that Python would give the expression."""
        self._spend(1, node)
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.List():
                return self._measured([self.evaluate(item) for item in node.elts], node)
            case ast.Tuple():
                return self._measured(tuple([self.evaluate(item) for item in node.elts]), node)
            case ast.IfExp():
                return self.evaluate(node.body if self.evaluate(node.test) else node.orelse)
            case ast.BoolOp():
                return self._bool_op(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.Compare():
                return self._compare(node)
            case ast.BinOp(op=ast.Add()):
                return self.add(self.evaluate(node.left), self.evaluate(node.right), node)
            case ast.BinOp(op=ast.Mod()):
                return self._modulo(self.evaluate(node.left), self.evaluate(node.right), node)
        raise refusal(self._source, node, node)

    def add(self, left: Value, right: Value, node: ast.AST) -> Value:
        """`left + right`: two numbers, texts, lists or tuples."""
        if isinstance(left, int | float) and isinstance(right, int | float):
            return self._measured(left + right, node)
        self._spend(self._units(left, node) + self._units(right, node), node)
        if isinstance(left, str) and isinstance(right, str):
            return self._measured(left + right, node)
        if isinstance(left, list) and isinstance(right, list):
            return self._measured(left + right, node)
        if isinstance(left, tuple) and isinstance(right, tuple):
            return self._measured(left + right, node)
        raise self._source.error(
            node, f"+ cannot join {shown(left)} and {shown(right)}: make both the same kind"
        )

    def _constant(self, node: ast.Constant) -> Value:
        if node.value is None or isinstance(node.value, str | int | float):
            return self._measured(node.value, node)
        raise self._source.error(node, f"{shown(node.value)} is not allowed: use text, a number or a list")

    def _name(self, node: ast.Name) -> Value:
        if node.id not in self._scope:
            raise self._source.error(
                node, f"{shown(node.id)[1:-1]} is not set above: set it, or quote it if it is text"
            )
        return self._scope[node.id]

    def _bool_op(self, node: ast.BoolOp) -> Value:
        stop = isinstance(node.op, ast.Or)
        value: Value = None
        for operand in node.values:
            value = self.evaluate(operand)
            if bool(value) is stop:
                break
        return value

    def _unary(self, node: ast.UnaryOp) -> Value:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if not isinstance(value, int | float):
            raise self._source.error(node, f"a sign needs a number behind it, not {shown(value)}")
        return -value if isinstance(node.op, ast.USub) else +value

    def _compare(self, node: ast.Compare) -> bool:
        left = self.evaluate(node.left)
        for operation, operand in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(operand)
            self._spend(self._units(left, node) + self._units(right, node), node)
            try:
                holds = _COMPARISONS[type(operation)](left, right)
            except TypeError:
                sentence = f"{shown(left)} and {shown(right)} cannot be compared so: make both the same kind"
                raise self._source.error(node, sentence) from None
            if not holds:
                return False
            left = right
        return True

    def _modulo(self, left: Value, right: Value, node: ast.AST) -> Value:
        if isinstance(left, str):
            return self._measured(self._formatted(left, right, node), node)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise self._source.error(
                node, f"% cannot take {shown(left)} and {shown(right)}: give it numbers or text"
            )
        if right == 0:
            raise self._source.error(node, "% by zero: give another number")
        return left % right

    def _formatted(self, template: str, values: Value, node: ast.AST) -> str:
        arguments = values if isinstance(values, tuple) else (values,)
        if any(isinstance(argument, list | tuple) for argument in arguments):
            raise self._source.error(node, "% formats text and numbers, not a list in it")
        characters = len(template)
        for width, precision, conversion in _FORMAT.findall(template):
            if conversion not in _CONVERSIONS or "*" in (width, precision):
                raise self._source.error(
                    node, f"% knows only the conversions {' '.join(sorted(_CONVERSIONS))}"
                )
            if max(len(width), len(precision)) > len(str(VALUE_UNITS)):
                raise self._source.error(node, f"% has a width of over {VALUE_UNITS} characters: shorten it")
            characters += int(width or 0) + int(precision or 0)
        characters += sum(len(item) if isinstance(item, str) else _NUMBER_CHARACTERS for item in arguments)
        if characters > VALUE_UNITS:
            raise self._source.error(node, f"% would make more than {VALUE_UNITS} characters: shorten it")
        self._spend(characters, node)
        try:
            return template % arguments
        except (TypeError, ValueError, OverflowError) as error:
            raise self._source.error(node, f"% cannot format this: {error}") from None

    def _measured(self, value: Value, node: ast.AST) -> Value:
        if isinstance(value, int) and not -INTEGER_LIMIT < value < INTEGER_LIMIT:
            raise self._source.error(node, "a whole number must have at most 64 bits")
        self._spend(self._units(value, node), node)
        return value

    def _units(self, value: Value, node: ast.AST) -> int:
        units = _units(value, DEPTH)
        if units > VALUE_UNITS:
            raise self._source.error(
                node, f"a value must have at most {VALUE_UNITS} characters and {DEPTH} levels"
            )
        return units

    def _spend(self, units: int, node: ast.AST) -> None:
        self._work -= units
        if self._work < 0:
            raise self._source.error(node, "the file asks for too much work: simplify it")


def _units(value: Value, levels: int) -> int:
    """The size of a value in characters and items; over VALUE_UNITS as soon as it is too big or too deep.

    Values share parts, so a small file can name a value that is huge when it is walked: the walk stops early.
    """
    if isinstance(value, str):
        return 1 + len(value)
    if not isinstance(value, list | tuple):
        return 1
    if levels == 0:
        return VALUE_UNITS + 1
    units = 1
    for item in value:
        units += _units(item, levels - 1)
        if units > VALUE_UNITS:
            break
    return units

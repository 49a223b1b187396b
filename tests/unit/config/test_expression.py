import ast
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.config.errors import ConfigError
from xenion.config.expression import DEPTH, VALUE_UNITS, Evaluator, check, literal
from xenion.config.source import Source, statements
from xenion.config.values import Value

SCOPE: dict[str, Value] = {"a": 3, "b": "text", "c": ["x", 1], "d": ()}


def evaluated(text: str, scope: dict[str, Value] = SCOPE) -> Value:
    source = Source(text, "f.cfg")
    (statement,) = statements(source)
    assert isinstance(statement, ast.Expr)
    check(source, statement.value)
    return Evaluator(source, scope).evaluate(statement.value)


def outcome(text: str) -> tuple[Value, str]:
    try:
        return evaluated(text), ""
    except ConfigError as error:
        return None, error.sentence


atoms = (
    st.integers(-(1 << 63), 1 << 63).map(repr)
    | st.integers(0, 300).map(hex)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.text(max_size=8).map(repr)
    | st.sampled_from(["True", "False", "None", "a", "b", "c", "d", "'a' \"b\"", '"""x\ny"""', r"r'\d'"])
    | st.sampled_from(
        ["'%d'", "'%5s|%-4x'", "'%%'", "'%(a)s'", "'%.3f'", "'%c'", "'%+d'", "'%r'", "'%'", "'%*d'"]
    )
)
operators = st.sampled_from(["+", "%", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"])


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=3)
    return (
        st.builds("({} {} {})".format, inner, operators, inner)
        | st.builds("({} {} {} {} {})".format, inner, operators, inner, operators, inner)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
        | st.builds("({} {})".format, st.sampled_from(["not", "-", "+"]), inner)
        | lists.map(lambda items: f"[{', '.join(items)}]")
        | lists.map(lambda items: f"({', '.join(items)}{',' if len(items) == 1 else ''})")
    )


@settings(max_examples=400)
@given(st.recursive(atoms, compound, max_leaves=8))
def test_allowed_expressions_mean_what_python_means(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = eval(text, {"__builtins__": {}}, dict(SCOPE))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        with pytest.raises(ConfigError):
            evaluated(text)
        return
    value, refusal = outcome(text)
    if refusal:
        # The only things that Python can do and a configuration cannot.
        assert any(limit in refusal for limit in ("not a list in it", "conversions", "64 bits"))
    else:
        assert repr(value) == repr(expected)


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("f()", "function call", 1),
        ("[1, f()]", "function call", 5),
        ("1 if True else f()", "function call", 16),
        ("True or f()", "function call", 9),
        ("'é' + a.b", "attribute", 7),
        ("a[0]", "subscript", 1),
        ("f'{a}'", "f-string", 1),
        ("lambda: 1", "lambda", 1),
        ("{}", "dictionary", 1),
        ("{1}", "set", 1),
        ("[x for x in c]", "comprehension", 1),
        ("{x for x in c}", "comprehension", 1),
        ("{x: x for x in c}", "comprehension", 1),
        ("(x for x in c)", "comprehension", 1),
        ("(x := 1)", "assignment inside", 2),
        ("[*c]", "unpacking", 2),
        ("1 - 1", "operator other than", 1),
        ("'x' * 9", "operator other than", 1),
        ("2 ** 9", "operator other than", 1),
        ("1 << 9", "operator other than", 1),
        ("~1", "operator ~", 1),
        ("1 is 1", "comparison is", 1),
        ("1 is not 1", "comparison is", 1),
        ("b'x'", "use text", 1),
        ("1j", "use text", 1),
        ("...", "use text", 1),
        ("nothing", "nothing is not set above", 1),
        ("await_ + 1", "await_ is not set above", 1),
        ("1 + 'x'", "make both the same kind", 1),
        ("[] + ()", "make both the same kind", 1),
        ("1 < 'x'", "make both the same kind", 1),
        ("1 in 2", "make both the same kind", 1),
        ("5 % 0", "by zero", 1),
        ("5 % 'x'", "numbers or text", 1),
        ("-'x'", "a sign needs a number", 1),
        ("'%d' % 'x'", "cannot format", 1),
        ("'%s %s' % 'x'", "cannot format", 1),
        ("'%999999999d' % 1", "width", 1),
        ("'%.999999999f' % 1.0", "width", 1),
        ("'%65536d' % 1", "more than 65536", 1),
        ("'%60000d%60000d' % (1, 2)", "more than 65536", 1),
        ("'%*d' % (9, 1)", "conversions", 1),
        ("'%r' % 'x'", "conversions", 1),
        ("'%(x)s' % 1", "conversions", 1),
        ("'%s' % c", "not a list", 1),
        ("0xffffffffffffffff + 1", "64 bits", 1),
        ("0x10000000000000000", "64 bits", 1),
    ],
)
def test_what_is_not_allowed_is_refused_where_it_stands(text: str, what: str, column: int) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        evaluated(text)
    assert caught.value.where == f"f.cfg:1:{column}"


def test_depth_is_bounded() -> None:
    assert evaluated("[" * (DEPTH - 2) + "1" + "]" * (DEPTH - 2)) is not None
    with pytest.raises(ConfigError, match="nested"):
        evaluated("[" * DEPTH + "1" + "]" * DEPTH)
    with pytest.raises(ConfigError, match="nested"):
        evaluated("1" + " + 1" * DEPTH)


def test_size_is_bounded() -> None:
    half = "x" * (VALUE_UNITS // 2)
    with pytest.raises(ConfigError, match="at most 65536 characters"):
        evaluated("h + h", {"h": half})
    with pytest.raises(ConfigError, match="at most 65536 characters"):
        evaluated("[h, h]", {"h": half})
    with pytest.raises(ConfigError, match="more than 65536 characters"):
        evaluated("'%sxx' % h", {"h": "x" * (VALUE_UNITS - 3)})


def nested(text: str, times: int) -> Value:
    value: Value = []
    for _ in range(times):
        value = evaluated(text, {"v": value})
    return value


def test_shared_parts_count_each_time() -> None:
    """A list of lists of lists, each held twice, is exponential for whoever walks it."""
    nested("[v, v]", 12)
    with pytest.raises(ConfigError, match="at most 65536 characters"):
        nested("[v, v]", 40)


def test_levels_of_a_value_are_bounded() -> None:
    nested("[v]", DEPTH - 1)
    with pytest.raises(ConfigError, match="levels"):
        nested("[v]", DEPTH)


def test_all_work_together_is_bounded() -> None:
    source = Source("v == v", "f.cfg")
    (statement,) = statements(source)
    assert isinstance(statement, ast.Expr)
    evaluator = Evaluator(source, {"v": "x" * 60_000})
    for _ in range(30):
        evaluator.evaluate(statement.value)
    with pytest.raises(ConfigError, match="too much work"):
        [evaluator.evaluate(statement.value) for _ in range(10)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("256", 256),
        (" 0x10 ", 16),
        ("-1", -1),
        ("1.5", 1.5),
        ("'a' \"b\"", "ab"),
        ("[1, ('x', None)]", [1, ("x", None)]),
        ("True", True),
        ("4 # four", 4),
    ],
)
def test_literals(text: str, value: Value) -> None:
    assert literal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "foo",
        "a b",
        "1 + 1",
        "not 1",
        "1 < 2",
        "f()",
        "[x]",
        "1; 2",
        "a=1",
        "/boot/k",
        "0-3",
        "-[]",
        "(" * 300,
        "\0",
    ],
)
def test_what_is_no_literal(text: str) -> None:
    with pytest.raises(ConfigError):
        literal(text)

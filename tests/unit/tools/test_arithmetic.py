"""The calculator: right, and bounded."""

import pytest

from chatmesh.agent.tools.builtin.arithmetic import NotArithmetic, calculate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("6*7", 42),
        ("1 + 2 * 3 ^ 2", 19),
        ("-2 ^ 2", -4),
        ("2 ^ 3 ^ 2", 512),
        ("(1 + 2) * -3", -9),
        ("7 / 2", 3.5),
        ("8 / 2", 4),
        ("7 // 2 + 7 % 2", 4),
        ("sqrt(16) + max(1, 2, 3)", 7.0),
        ("1e3 + .5", 1000.5),
        ("2 ** 100", 2**100),
    ],
)
def test_it_calculates(expression: str, value: float) -> None:
    """Precedence, powers to the right, whole numbers where they stay whole."""
    assert calculate(expression) == value
    assert type(calculate(expression)) is type(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "(1",
        "1 2",
        "1 / 0",
        "2 ^ 2 ^ 2 ^ 2 ^ 2 ^ 2",
        "9 ^ 9 ^ 9",
        "__import__('os')",
        "a.b",
        "sqrt(-1)",
        "(-8) ^ 0.5",
        "log()",
        "1e308 * 10",
        "(" * 400,
        "-" * 400 + "1",
        "1" * 501,
        "9" * 499 + "*9" * 0 + "^9",
    ],
)
def test_anything_else_is_refused(expression: str) -> None:
    """Nothing is evaluated but arithmetic, and nothing takes long."""
    with pytest.raises(NotArithmetic):
        calculate(expression)

"""A calculator that evaluates nothing but arithmetic, and ends soon whatever it is given."""

import math
import re
from collections.abc import Callable
from typing import Any, Final

CHARS_MAX: Final = 500
DEPTH_MAX: Final = 50
BITS_MAX: Final = 4096
"""Of whole numbers; larger ones are an error."""

Number = int | float

_TOKEN: Final = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z]\w*)"
    r"|(\*\*|//|[-+*/%^(),]))"
)
_CONSTANTS: Final = {"pi": math.pi, "e": math.e, "tau": math.tau}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "ln": math.log,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}


class NotArithmetic(ValueError):
    """An expression that cannot be calculated; says why."""


def calculate(expression: str) -> Number:
    """The value of an expression. Raises NotArithmetic."""
    if len(expression) > CHARS_MAX:
        raise NotArithmetic(f"expression over {CHARS_MAX} characters")
    reader = _Reader(_tokens(expression))
    try:
        value = reader.sum(0)
    except ZeroDivisionError as error:
        raise NotArithmetic("division by zero") from error
    except (OverflowError, ValueError, TypeError) as error:
        raise NotArithmetic(str(error)) from error
    if reader.next is not None:
        raise NotArithmetic(f"unexpected {reader.next!r}")
    return value


def _tokens(expression: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    text = expression.rstrip().replace("×", "*").replace("÷", "/").replace("−", "-")  # noqa: RUF001 - what people type
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotArithmetic(f"unexpected {text[position : position + 10]!r}")
        tokens.append(match[1] or match[2] or match[3])
        position = match.end()
    return tokens


class _Reader:
    """Precedence by descent: sum, product, sign, power, atom."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> str:
        token = self.next
        if token is None:
            raise NotArithmetic("the expression ends too early")
        self._at += 1
        return token

    def sum(self, depth: int) -> Number:
        if depth > DEPTH_MAX:
            raise NotArithmetic("nested too deeply")
        value = self.product(depth)
        while self.next in {"+", "-"}:
            sign = self.take()
            other = self.product(depth)
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def product(self, depth: int) -> Number:
        value = self.sign(depth)
        while self.next in {"*", "/", "//", "%"}:
            operator = self.take()
            other = self.sign(depth)
            match operator:
                case "*":
                    value *= other
                case "/":
                    value = _divided(value, other)
                case "//":
                    value //= other
                case _:
                    value %= other
            value = _bounded(value)
        return value

    def sign(self, depth: int) -> Number:
        if depth > DEPTH_MAX:
            raise NotArithmetic("nested too deeply")
        if self.next in {"+", "-"}:
            negative = self.take() == "-"
            value = self.sign(depth + 1)
            return -value if negative else value
        return self.power(depth)

    def power(self, depth: int) -> Number:
        base = self.atom(depth)
        if self.next not in {"^", "**"}:
            return base
        self.take()
        exponent = self.sign(depth + 1)
        if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
            if base.bit_length() * exponent > BITS_MAX:
                raise NotArithmetic("the result is too large")
            return int(base**exponent)
        value: object = float(base) ** exponent
        if not isinstance(value, float):
            raise NotArithmetic("the result is no real number")
        return _bounded(value)

    def atom(self, depth: int) -> Number:
        token = self.take()
        if token == "(":  # noqa: S105 - a parenthesis
            value = self.sum(depth + 1)
            self.expect(")")
            return value
        if token[0].isdigit() or token[0] == ".":
            return int(token) if token.isdigit() else float(token)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token in _FUNCTIONS:
            return self.function(_FUNCTIONS[token], depth)
        raise NotArithmetic(f"unexpected {token!r}")

    def function(self, function: Callable[..., Number], depth: int) -> Number:
        self.expect("(")
        arguments = [self.sum(depth + 1)]
        while self.next == ",":
            self.take()
            arguments.append(self.sum(depth + 1))
        self.expect(")")
        return _bounded(function(*arguments))

    def expect(self, wanted: str) -> None:
        if self.take() != wanted:
            raise NotArithmetic(f"{wanted!r} is missing")


def _divided(value: Number, other: Number) -> Number:
    if isinstance(value, int) and isinstance(other, int) and value % other == 0:
        return value // other
    return value / other


def _bounded(value: Number) -> Number:
    if isinstance(value, int):
        if value.bit_length() > BITS_MAX:
            raise NotArithmetic("the result is too large")
    elif not math.isfinite(value):
        raise NotArithmetic("the result is no finite number")
    return value

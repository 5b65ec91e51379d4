"""Formulas over quantities: `accelerators * time / 2`, units checked, and shown with their numbers."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from clustersim.errors import InputError, unknown
from clustersim.units import parse, registry

if TYPE_CHECKING:
    from pint import Quantity

#: Takes quantities and words, returns a quantity or a number.
Function = Callable[..., Any]

_OPERATORS: Mapping[type[ast.AST], tuple[str, Callable[[Any, Any], Any]]] = MappingProxyType(
    {
        ast.Add: ("+", operator.add),
        ast.Sub: ("-", operator.sub),
        ast.Mult: ("*", operator.mul),
        ast.Div: ("/", operator.truediv),
        ast.Pow: ("**", lambda base, power: base ** plain(power)),
    }
)
#: How dimensionless results may be shown beside "1": a factor, a share.
_SHOWN: Mapping[str, tuple[float, str]] = MappingProxyType(
    {"1": (1.0, ""), "x": (1.0, "x"), "%": (100.0, " %")}
)


def quantity(given: float | str) -> Quantity[Any]:
    """Return "8 h", "60 USD/Mtok" or a bare number as a quantity; raises InputError for text that is none."""
    import pint

    units = registry()
    if isinstance(given, int | float):
        return units.Quantity(float(given))
    try:
        found = units.parse_expression(given)
    except pint.UndefinedUnitError as error:
        raise InputError(
            f'"{given}" has the unknown unit "{error.unit_names}"; write it like "8 h"'
        ) from None
    except Exception:  # noqa: BLE001 - pint raises its parser's errors, of many types, for text that is no quantity
        raise InputError(f'"{given}" is not a number with a unit; write it like "8 h"') from None
    return found if isinstance(found, pint.Quantity) else units.Quantity(float(found))


def plain(value: Any) -> float:
    """Return a dimensionless quantity as a number; raises InputError for one with a unit."""
    return amount(value, "1")


def amount(value: Any, unit: str) -> float:
    """Return a quantity as a float in `unit`; raises InputError for another dimension."""
    import pint

    units = registry()
    target = units.dimensionless if unit in _SHOWN else units.parse_units(unit)
    try:
        return float(units.Quantity(value).to(target).magnitude)
    except pint.DimensionalityError:
        got = f"{units.Quantity(value).units:~}" or "a number without a unit"
        raise InputError(f"is in {got}, not in {unit if unit not in _SHOWN else 'a number'}") from None


def check_unit(unit: str) -> None:
    """Raise InputError for a unit that does not exist."""
    if unit not in _SHOWN:
        try:
            parse(f"1 {unit}", unit)
        except Exception:  # noqa: BLE001 - the units' parser has many kinds of error
            raise InputError(
                f'no unit "{unit}"; use one of time, money, memory, FLOP, energy, or 1, x, %'
            ) from None


def show(value: Any, unit: str) -> str:
    """Return a quantity for people, in `unit`: "7,200 h", "16x", "0.201"."""
    scale, suffix = _SHOWN.get(unit, (1.0, f" {unit}"))
    return _digits(scale * amount(value, unit)) + suffix


def _digits(value: float) -> str:
    """Return a number with four digits; five and more before the point are all written, up to a million."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


class Formula:
    """A formula: + - * / **, names of values, numbers, and calls of the functions that it may use."""

    def __init__(self, text: str) -> None:
        """Raises InputError for text that is no formula."""
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:
            raise InputError(f'"{text}" is not a formula; write it like "accelerators * time"') from None

    def names(self) -> set[str]:
        """Return the names of the values that it uses."""
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        every = (node for node in ast.walk(self._tree) if isinstance(node, ast.Name))
        return {node.id for node in every if id(node) not in called}

    def value(self, values: Mapping[str, Any], functions: Mapping[str, Function]) -> Quantity[Any]:
        """Return its value; raises InputError for unknown names, and for units that do not fit."""
        import pint

        try:
            return registry().Quantity(self._of(self._tree, values, functions))
        except pint.DimensionalityError as error:
            raise InputError(f'"{self.text}": units do not fit: {error}') from None
        except (ZeroDivisionError, OverflowError, ValueError) as error:
            if isinstance(error, InputError):
                raise InputError(f'"{self.text}": {error}') from None
            raise InputError(f'"{self.text}" has no value: {error}') from None

    def with_numbers(self, shown: Mapping[str, str], functions: Mapping[str, Function]) -> str:
        """Return its text with values in place of their names, and of constants that are called by name."""
        tree = _Numbers(shown, functions).visit(ast.parse(self.text.strip(), mode="eval").body)
        text = ast.unparse(tree)
        return text[1:-1] if isinstance(tree, ast.Name) and text.startswith("(") else text

    def _of(self, node: ast.AST, values: Mapping[str, Any], functions: Mapping[str, Function]) -> Any:
        def inner(each: ast.AST) -> Any:
            return self._of(each, values, functions)

        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)][1](inner(node.left), inner(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -inner(node.operand)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in values:
                raise InputError(unknown("value", node.id, values))
            return values[node.id]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id not in functions:
                raise InputError(unknown("function", node.func.id, functions))
            return self._called(functions[node.func.id], node.func.id, [inner(each) for each in node.args])
        raise InputError(
            f"{ast.unparse(node)} is not allowed; formulas have + - * / **, names, numbers and functions"
        )

    def _called(self, function: Function, name: str, arguments: list[Any]) -> Any:
        import inspect

        try:
            inspect.signature(function).bind(*arguments)
        except TypeError as error:
            raise InputError(f"{name}: {error}") from None
        return function(*arguments)


class _Numbers(ast.NodeTransformer):
    """Puts the text of values in place of their names, in parentheses where a unit would be read as a division."""

    def __init__(self, shown: Mapping[str, str], functions: Mapping[str, Function]) -> None:
        self._shown, self._functions = shown, functions

    def visit_Name(self, node: ast.Name) -> ast.AST:
        text = self._shown.get(node.id, node.id)
        return ast.Name(f"({text})" if "/" in text else text)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        words = [
            each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        if words and len(words) == len(node.args) and isinstance(node.func, ast.Name):
            return ast.Name(show(self._functions[node.func.id](*words), "1"))
        node.args = [self.visit(each) for each in node.args]
        return node

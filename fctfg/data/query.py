"""Questions to a manifest in Python's own notation: ``confidence > 3 and abs(offset) <= 1 and face_px >= 180``.

Names are the manifest's columns. There are comparisons (also chained, and ``in`` with a tuple), ``and``, ``or``,
``not``, arithmetic, ``abs``, ``min`` and ``max``; nothing of it is run as Python. A comparison with a number that is
not known (NaN) is false, and so is ``not`` of it: what is not known passes no filter, but ``unknown(name)`` asks for
it.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fctfg.data.manifest import HEAVY, SCHEMA
from fctfg.errors import UsageError

NAMES = tuple(name for name in SCHEMA.names if name not in HEAVY and name != "crop")

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_COMBINE: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: np.divide(a, np.where(np.equal(b, 0), np.nan, b)),  # a quotient by 0 is unknown
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "min": lambda *values: np.minimum.reduce(np.broadcast_arrays(*values)),
    "max": lambda *values: np.maximum.reduce(np.broadcast_arrays(*values)),
}


class Query:
    """A question that was read.

    Args:
        text: in the notation above.

    Attributes:
        text: as it was given.
        names: the columns that it asks for.

    Raises:
        UsageError: it cannot be read, or names no column.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise self._wrong(f"{error.msg}; an example: confidence > 1 and abs(offset) <= 1") from error
        self.names = self._check(self._tree)

    def mask(self, table: pa.Table) -> np.ndarray:
        """Which rows of a table answer it with yes, bool [rows].

        Args:
            table: with at least the columns `names`.

        Raises:
            UsageError: texts are compared with numbers, or the question is no yes-or-no question.
        """
        columns = {name: _values(table[name]) for name in self.names}
        with np.errstate(invalid="ignore", divide="ignore"):
            try:
                result = self._evaluate(self._tree, columns)
            except TypeError as error:
                raise self._wrong("a text is compared with a number") from error
        result = np.broadcast_to(np.asarray(result), len(table))
        if result.dtype != bool:
            raise self._wrong("it is no yes-or-no question; compare it with something")
        return result

    def _wrong(self, why: str) -> UsageError:
        return UsageError(f"cannot understand the query {self.text!r}: {why}")

    def _check(self, node: ast.expr) -> tuple[str, ...]:
        """The names in a tree; raises for anything but the notation above."""
        match node:
            case ast.Name(id=name):
                if name not in NAMES:
                    near = difflib.get_close_matches(name, NAMES, n=1)
                    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
                    raise self._wrong(f"there is no {name!r}; {hint}")
                return (name,)
            case ast.Constant(value=bool() | int() | float() | str()):
                return ()
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.BoolOp(values=parts):
                pass
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=part):
                parts = [part]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMBINE:
                parts = [left, right]
            case ast.Compare(left=left, ops=ops, comparators=others):
                if any(type(op) not in _COMPARE and not isinstance(op, ast.In | ast.NotIn) for op in ops):
                    raise self._wrong("only < <= > >= == != and in compare")
                parts = [left, *others]
            case ast.Call(func=ast.Name(id="unknown"), args=[ast.Name()] as parts, keywords=[]):
                pass
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as parts, keywords=[]) if name in _FUNCTIONS:
                pass
            case _:
                raise self._wrong(f"{ast.unparse(node)!r} is not allowed here")
        return tuple(dict.fromkeys(name for part in parts for name in self._check(part)))

    def _evaluate(self, node: ast.expr, columns: dict[str, np.ndarray]) -> Any:
        def value(part: ast.expr) -> Any:
            return self._evaluate(part, columns)

        match node:
            case ast.Name(id=name):
                return columns[name]
            case ast.Constant(value=constant):
                return constant
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return [value(part) for part in parts]
            case ast.BoolOp(op=op, values=parts):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return combine.reduce(np.broadcast_arrays(*map(value, parts)))
            case ast.UnaryOp(op=ast.Not(), operand=part):
                known = np.logical_and.reduce([_known(columns[name]) for name in self._check(part)])
                return np.logical_not(value(part)) & known
            case ast.UnaryOp(operand=part):
                return -value(part)
            case ast.BinOp(left=left, op=op, right=right):
                return _COMBINE[type(op)](value(left), value(right))
            case ast.Compare(left=left, ops=ops, comparators=others):
                values = [value(left), *map(value, others)]
                parts_hold = [_compare(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False)]
                return np.logical_and.reduce(np.broadcast_arrays(*parts_hold))
            case ast.Call(func=ast.Name(id="unknown"), args=[ast.Name(id=name)]):
                return ~_known(columns[name])
            case ast.Call(func=ast.Name(id=name), args=parts):
                return _FUNCTIONS[name](*map(value, parts))
        raise AssertionError(node)


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array; unknown numbers are NaN, unknown texts are empty."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        return column.fill_null("").to_numpy().astype(object)
    return column.cast(pa.float64()).fill_null(np.nan).to_numpy()


def _known(values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return True  # a constant
    return values != "" if values.dtype == object else ~np.isnan(values)


def _compare(op: ast.cmpop, left: Any, right: Any) -> Any:
    if isinstance(op, ast.In | ast.NotIn):
        among: Sequence[Any] = right if isinstance(right, list) else [right]
        found = np.logical_or.reduce([np.asarray(_same_kind(left, one) == one) for one in among])
        return found if isinstance(op, ast.In) else ~found & _known(left)
    result = _COMPARE[type(op)](_same_kind(left, right), _same_kind(right, left))
    if isinstance(op, ast.NotEq):
        result = result & _known(left) & _known(right)
    return result


def _same_kind(one: Any, other: Any) -> Any:
    texts = [isinstance(v, str) or (isinstance(v, np.ndarray) and v.dtype == object) for v in (one, other)]
    if texts[0] != texts[1]:
        raise TypeError
    return one

"""Exact amounts: a JSON number for a decimal is taken by its text, and refused where a parser may have rounded it.

Rules of this file
- What a contract has to look at is worked out once for its class; a contract without amounts pays nothing.
- A contract inside another one looks after itself, other models are looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

DECIMAL_DIGITS_MAX = 15  # a JSON number with more digits has already been rounded by some parser on its way here
ROUNDED = "rounded_amount"  # pydantic's name of the error

Exact = Callable[[Any], Any]

_MAY_HOLD_AMOUNTS = frozenset({float, int, list, tuple, dict})


def exact_plan(fields: Mapping[str, Any]) -> dict[str, Exact]:
    """For each of pydantic's fields below which a decimal may stand: what makes its value exact."""
    return {name: _exactly(field.annotation) for name, field in fields.items() if _mentions(field.annotation)}


def exact_fields(plan: Mapping[str, Exact], data: Any) -> Any:
    """The data of a message with exact amounts. Raises an error that names the field."""
    if type(data) is not dict:
        return data
    for name, exact in plan.items():
        given = data.get(name)
        if type(given) in _MAY_HOLD_AMOUNTS:
            try:
                found = exact(given)
            except ValueError as error:
                raise PydanticCustomError(ROUNDED, "{reason}", {"field": name, "reason": str(error)}) from None
            if found is not given:
                data = {**data, name: found}
    return data


def _mentions(annotation: Any, seen: tuple[Any, ...] = ()) -> bool:
    if annotation is Decimal:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if hasattr(annotation, "wire_name") or annotation in seen:
            return False
        return any(_mentions(field.annotation, (*seen, annotation)) for field in annotation.model_fields.values())
    return get_origin(annotation) is not Literal and any(_mentions(part, seen) for part in get_args(annotation))


def _exactly(annotation: Any) -> Exact:
    if annotation is Decimal:
        return _amount
    if not _mentions(annotation):
        return _as_it_is
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return partial(_model, annotation)
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return partial(_places, [_exactly(part) for part in arguments])
    if origin in (list, tuple, Sequence):
        return partial(_items, _exactly(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return partial(_values, _exactly(arguments[1]))
    return partial(_any, [_exactly(part) for part in arguments])  # a union, or an annotation with marks


def _amount(value: Any) -> Any:
    """Raises ValueError for a number of more digits than every JSON parser keeps."""
    if type(value) not in (float, int):
        return value
    amount = Decimal(repr(value))
    if amount.is_finite() and len(amount.normalize().as_tuple().digits) > DECIMAL_DIGITS_MAX:
        raise ValueError(f"{value!r} has more than {DECIMAL_DIGITS_MAX} digits: send the amount as a string")
    return amount


def _as_it_is(value: Any) -> Any:
    return value


@cache
def _plan_of(model: type[BaseModel]) -> dict[str, Exact]:
    """Worked out when it is first needed: a model may hold itself."""
    return exact_plan(model.model_fields)


def _model(model: type[BaseModel], value: Any) -> Any:
    if type(value) is not dict:
        return value
    plan = _plan_of(model)
    return {
        key: plan[key](item) if type(item) in _MAY_HOLD_AMOUNTS and key in plan else item for key, item in value.items()
    }


def _items(exact: Exact, value: Any) -> Any:
    return [exact(item) for item in value] if type(value) in (list, tuple) else value


def _places(ways: Sequence[Exact], value: Any) -> Any:
    if type(value) not in (list, tuple) or len(value) != len(ways):
        return value
    return [exact(item) for exact, item in zip(ways, value, strict=True)]


def _values(exact: Exact, value: Any) -> Any:
    return {key: exact(item) for key, item in value.items()} if type(value) is dict else value


def _any(ways: Sequence[Exact], value: Any) -> Any:
    for exact in ways:
        value = exact(value)
    return value

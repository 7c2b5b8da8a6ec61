"""The functions of authors: their parameters and return types, read once.

Rules of this file
- A function is plain and synchronous; every parameter and the return have a type that can be resolved.
- Nothing is called here. What is wrong is reported, and the function is left out of the rest of the check, so that one
  mistake is not reported twice.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from orchestrator.definition.findings import Reporter
from orchestrator.definition.place import Place, place_of
from orchestrator.definition.words import name_of, text_of
from orchestrator.messages import Approval, Decision

NONE = type(None)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `defaulted`: it has a default, so it may stay unfilled."""

    name: str
    hint: Any
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as the check sees it."""

    function: Callable[..., Any]
    name: str
    place: Place
    params: tuple[Parameter, ...]
    returns: Any


class Signatures:
    """Reads each function once and remembers it."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._read: dict[Callable[..., Any], Signature | None] = {}

    def of(self, function: Callable[..., Any], user: str) -> Signature | None:
        """The signature, or None where it cannot be used (reported). `user` is what uses it, for messages."""
        if function not in self._read:
            self._read[function] = self._inspect(function, user)
        return self._read[function]

    def _inspect(self, function: Callable[..., Any], user: str) -> Signature | None:
        place = place_of(function)
        name = name_of(function)
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            self._report("ORC103", place, f"{user}: {name} shows no parameters", do="write a plain function with types")
            return None
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            do = "write def instead of async def: functions are pure and quick; I/O belongs into a participant"
            self._report("ORC101", place, f"{user}: {name} is async", do=do)
            return None
        hints = self._hints(function, name, place, user)
        if hints is None or not self._usable(parameters, hints, name, place, user):
            return None
        params = tuple(
            Parameter(item.name, normal(hints[item.name]), item.default is not inspect.Parameter.empty)
            for item in parameters
        )
        return Signature(function, name, place, params, normal(hints["return"]))

    def _hints(self, function: Callable[..., Any], name: str, place: Place, user: str) -> dict[str, Any] | None:
        try:
            return typing.get_type_hints(function, localns=_closure(function))
        except NameError as error:
            missing = getattr(error, "name", None) or str(error)
            do = f"import {missing} at run time, not only under TYPE_CHECKING: injection reads the types"
            self._report("ORC109", place, f"{user}: {name} names {missing}, which is not imported", do=do)
        except Exception as error:
            do = "write types that can be evaluated"
            self._report("ORC109", place, f"{user}: a type of {name} cannot be read: {error}", do=do)
        return None

    def _usable(self, parameters: Any, hints: dict[str, Any], name: str, place: Place, user: str) -> bool:
        bad = False
        for item in parameters:
            if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD, item.POSITIONAL_ONLY):
                text = f"{user}: {name} has {str(item).partition(':')[0]}, which nothing can fill"
                self._report("ORC102", place, text, do="name each parameter and give it a type")
                bad = True
            elif item.name not in hints or hints[item.name] is Any:
                do = f"write its type: {item.name}: …"
                self._report("ORC103", place, f"{user}: parameter {item.name} of {name} has no type", do=do)
                bad = True
        if not bad and ("return" not in hints or hints["return"] is Any):
            do = "write what it returns: -> …"
            self._report("ORC103", place, f"{user}: {name} does not say what it returns", do=do)
            bad = True
        return not bad


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    """Names of enclosing functions, so that definitions inside a function (tests) can be read too."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    found = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # an empty cell: the name is bound later
            continue
    return found


def normal(hint: Any) -> Any:
    """A hint in one form: `Decision` is `Decision[Approval]`."""
    return Decision[Approval] if hint is Decision else hint


def members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, `None` included; of anything else, itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(normal(arg) for arg in get_args(hint))
    return (hint,)


def item_of(hint: Any) -> Any | None:
    """T of `list[T]`, `Sequence[T]` or `tuple[T, …]`; None for anything else."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        return normal(args[0]) if len(args) == 2 and args[1] is Ellipsis else None
    if isinstance(origin, type) and issubclass(origin, typing.Sequence) and len(args) == 1:
        return normal(args[0])
    return None


def choices_of(hint: Any) -> tuple[str, ...] | None:
    """The labels of an Enum, a Literal or bool; None for anything else."""
    if hint is bool:
        return ("true", "false")
    if get_origin(hint) is Literal:
        return tuple(text_of(value) for value in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return tuple(text_of(value) for value in hint)
    return None


def is_a(hint: Any, *kinds: type) -> bool:
    """The hint is a class below one of these."""
    return isinstance(hint, type) and issubclass(hint, kinds)


def show(hint: Any) -> str:
    """A type as its author would write it."""
    if hint is NONE:
        return "None"
    alternatives = members(hint)
    if len(alternatives) > 1:
        return " | ".join(show(item) for item in alternatives)
    inner = item_of(hint)
    if inner is not None and get_origin(hint) is list:
        return f"list[{show(inner)}]"
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")

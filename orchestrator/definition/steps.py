"""Steps and calls: the words that ask a participant or a child saga.

Rules of this file
- `Step[P, C]` keeps the parameters and the command type of its function and stays callable as that function, so
  `hold_funds(request) == HoldFunds(…)` is a unit test.
- `@hold_funds.undo` is the one place where a word is written in two statements: the undo is kept in a cell that all
  copies of the step share. It is read when a saga is compiled, so it belongs right below its step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import EllipsisType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from orchestrator.definition.child import Callee
from orchestrator.definition.place import Place, here, place_of
from orchestrator.definition.words import Path, Within, Word, name_of
from orchestrator.kernel.graph import RetryPolicy
from orchestrator.messages import Command, Contract

P = ParamSpec("P")
Q = ParamSpec("Q")
C = TypeVar("C", bound=Command[Any], covariant=True)
D = TypeVar("D", bound=Command[Any], covariant=True)
S = TypeVar("S", bound=Contract)
S_co = TypeVar("S_co", bound=Contract, covariant=True)

STEP_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often and how patiently a command is sent again while its outcome is unknown.

    attempts: in all, from 1; after the pivot a step is asked until done, and this is when the alarm is raised.
    first: pause before the second attempt; factor: growth of the pause; ceiling: longest pause.
    jitter: share of the pause that is drawn from a hash, 0.0–1.0. Raises ValueError outside these ranges.
    """

    attempts: int = 3
    first: timedelta = timedelta(milliseconds=500)
    factor: float = 2.0
    ceiling: timedelta = timedelta(minutes=1)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts}): at least 1, the first attempt counts")
        if self.factor < 1 or not 0 <= self.jitter <= 1 or self.first > self.ceiling or self.first < timedelta(0):
            raise ValueError(f"{self}: factor is at least 1, jitter between 0 and 1, first between 0 and ceiling")

    def policy(self) -> RetryPolicy:
        """The same in the graph's units."""
        return RetryPolicy(self.attempts, ms_of(self.first), self.factor, ms_of(self.ceiling), self.jitter)


def ms_of(duration: timedelta) -> int:
    """Whole milliseconds."""
    return duration // timedelta(milliseconds=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Undo(Generic[Q, D]):
    """Takes a step back. Callable as the function that was decorated."""

    function: Callable[Q, D]
    retry: Retry
    within: timedelta
    place: Place = field(default_factory=here)

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> D:
        return self.function(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return name_of(self.function)


class UndoMaker(Protocol):
    """What `@step.undo(retry=…)` gives."""

    def __call__(self, function: Callable[Q, D], /) -> Undo[Q, D]: ...


class StepMaker(Protocol):
    """What `@step(retry=…)` gives."""

    def __call__(self, function: Callable[P, C], /) -> Step[P, C]: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Step(Word, Generic[P, C]):
    """Asks one participant. `undoable` is False where the author wrote `undo=None`: nothing to undo, on purpose."""

    function: Callable[P, C]
    retry: Retry = Retry()
    within: timedelta = STEP_WITHIN
    reads: bool = False
    undoable: bool = True
    is_pivot: bool = False
    undos: list[Undo[Any, Any]] = field(default_factory=list)  # the shared cell; more than one is refused

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return self.function(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return name_of(self.function)

    @overload
    def undo(self, function: Callable[Q, D], /) -> Undo[Q, D]: ...

    @overload
    def undo(self, function: None = None, /, *, retry: Retry = ..., within: timedelta = ...) -> UndoMaker: ...

    def undo(self, function: Any = None, /, *, retry: Retry = Retry(), within: timedelta = STEP_WITHIN) -> Any:
        """Declares what takes this step back; it runs only for a step known done, so the reply can be asked for."""

        def declare(function: Callable[Q, D], /) -> Undo[Q, D]:
            undo = Undo(function=function, retry=retry, within=within, place=place_of(function))
            self.undos.append(undo)
            return undo

        return declare if function is None else declare(function)

    def without_undo(self) -> Self:
        """A copy that is never taken back: for a version or a saga in which it stands after the pivot."""
        return replace(self, undos=[], undoable=False)

    def on_refused(self, *path: Path) -> Self:
        """A business no takes this path; nothing is undone by it."""
        return self._with("on_refused", path)

    def on_exhausted(self, *path: Path) -> Self:
        """All attempts failed: the step is settled as not done, and this path follows."""
        return self._with("on_exhausted", path)

    def then(self, *path: Path) -> Self:
        """Follows only success."""
        return self._with("then", path)


@overload
def step(function: Callable[P, C], /) -> Step[P, C]: ...


@overload
def step(*, retry: Retry = ..., within: timedelta = ..., undo: None = ..., reads: bool = ...) -> StepMaker: ...


def step(
    function: Any = None,
    /,
    *,
    retry: Retry = Retry(),
    within: timedelta = STEP_WITHIN,
    undo: EllipsisType | None = ...,
    reads: bool = False,
) -> Any:
    """Asks one participant: the function builds the command, its result is the command's reply.

    within: time for one attempt, from when its command was published. undo=None: nothing to undo, on purpose.
    reads: it has no effect at all, so it is never settled and never undone.
    """

    def make(function: Callable[P, C], /) -> Step[P, C]:
        return Step(
            function=function,
            name=name_of(function),
            place=place_of(function),
            retry=retry,
            within=within,
            reads=reads,
            undoable=undo is not None and not reads,
        )

    return make if function is None else make(function)


@dataclass(frozen=True, eq=False, kw_only=True)
class Call(Word, Generic[P, S_co]):
    """A child saga, asked like a step and undone by its own plan."""

    function: Callable[P, S_co]
    child: Callee[Any]
    within: Within | None = None
    is_pivot: bool = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S_co:
        return self.function(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return name_of(self.function)

    def on_refused(self, *path: Path) -> Self:
        """The child failed and is compensated: this path follows, and nothing else is undone by it."""
        return self._with("on_refused", path)

    def on_timeout(self, *path: Path) -> Self:
        """The child took longer than `within`: it is undone, and this path follows."""
        return self._with("on_timeout", path)

    def then(self, *path: Path) -> Self:
        """Follows only success."""
        return self._with("then", path)


class CallMaker(Protocol[S]):
    """What `@call(child)` gives: it takes a function that builds what the child starts on."""

    def __call__(self, function: Callable[P, S], /) -> Call[P, S]: ...


def call(child: Callee[S], *, within: Within | None = None) -> CallMaker[S]:
    """Runs another saga as a step. The function builds its start message; the result is the child's reply.

    within: time for the whole child. It is undone by its own plan, so it has no undo here.
    """

    def make(function: Callable[P, S], /) -> Call[P, S]:
        return Call(function=function, child=child, name=name_of(function), place=place_of(function), within=within)

    return make


@overload
def pivot(step: Step[P, C]) -> Step[P, C]: ...


@overload
def pivot(step: Call[P, S_co]) -> Call[P, S_co]: ...


def pivot(step: Any) -> Any:
    """The point of no return: before it everything is undone on failure, after it the saga only goes forward."""
    return replace(step, is_pivot=True)

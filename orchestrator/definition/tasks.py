"""Tasks: decisions asked of people.

Rules of this file
- `Task[P, Shown, Outcome]` keeps its function's parameters, what is shown, and the enum of its form, so that a path for
  an outcome of another form is a type error.
- Who may decide is a Role, a Person, several of them, or a function that gives one or several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, Literal, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload

from pydantic import BaseModel

from orchestrator.definition.place import Place, here, place_of
from orchestrator.definition.words import Path, Within, Word, WorkingTime, name_of, text_of
from orchestrator.messages import Approval, Event, Form, Money, Person, Role, Verdict

P = ParamSpec("P")
Shown = TypeVar("Shown", bound=BaseModel, covariant=True)
O = TypeVar("O", bound=Enum)  # noqa: E741 - outcome

People: TypeAlias = Role | Person | Sequence[Role | Person]
Deciders: TypeAlias = (
    "People | Callable[..., Role | Person | Sequence[Role] | Sequence[Person] | Sequence[Role | Person]]"
)
Excluded: TypeAlias = "Callable[..., Person | None] | Callable[..., Sequence[Person]] | Task[..., Any, Any]"


Span: TypeAlias = "timedelta | WorkingTime"
CatchUp: TypeAlias = Literal["each", "last"]


@dataclass(frozen=True, slots=True)
class Escalate:
    """One level of escalation: this long after the task was opened, these people may decide too.

    reset_sla: the task's time begins anew when this level happens.
    """

    after: Span
    to: People
    reset_sla: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """The authority of a role or person: amounts up to this one, in its currency; without one, any amount.

    >>> Limit(Role("manager"), Money("10000", "INR"))                                       # doctest: +SKIP
    """

    to: Role | Person
    up_to: Money | None = None


Confirm: TypeAlias = "bool | Money | Sequence[Money]"  # True: whatever the amount


def confirmed(confirm: Confirm) -> tuple[Money | Literal[True], ...]:
    """What `confirm=` says, as a list."""
    if isinstance(confirm, bool):
        return (True,) if confirm else ()
    return (confirm,) if isinstance(confirm, Money) else tuple(confirm)


@dataclass(frozen=True, eq=False, kw_only=True)
class OnEvent:
    """An event that interrupts, and the path that follows it."""

    event: type[Event]
    path: tuple[Path, ...]
    early: bool = True
    place: Place = field(default_factory=here)


class _NoOutcome(Enum):
    """A form that names no enum."""


def outcome_enum(form: type[Form[Any]]) -> type[Enum]:
    """The enum of a form's outcomes. A form that names none has no outcomes and gives an empty enum."""
    annotation = form.model_fields["outcome"].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Enum) else _NoOutcome


def outcomes_of(form: type[Form[Any]]) -> tuple[str, ...]:
    """The outcomes of a form, as block names and records spell them."""
    return tuple(text_of(outcome) for outcome in outcome_enum(form))


class TaskMaker(Protocol[O]):
    """What `@task(…)` gives."""

    def __call__(self, function: Callable[P, Shown], /) -> Task[P, Shown, O]: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(Word, Generic[P, Shown, O]):
    """A decision asked of a person. Callable as its function, which builds what is shown."""

    function: Callable[P, Shown]
    to: Deciders
    within: Within
    answer: type[Form[O]]
    exclude: tuple[Excluded, ...] = ()
    votes: int = 1
    rejects: tuple[Enum, ...] = ()
    escalate: tuple[Escalate, ...] = ()
    amends: type[Event] | None = None
    events: tuple[OnEvent, ...] = ()
    remind: tuple[Span, ...] = ()
    catch_up: CatchUp = "each"
    amount: Callable[[Any], Money] | None = None
    limits: tuple[Limit, ...] = ()
    confirm: tuple[Money | Literal[True], ...] = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Shown:
        return self.function(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return name_of(self.function)

    def on(self, outcome: O, *path: Path) -> Self:
        """What follows this outcome."""
        return self._with(f"on/{text_of(outcome)}", path)

    def on_approve(self: Task[P, Shown, Verdict], *path: Path) -> Task[P, Shown, Verdict]:
        """What follows an approval; unwritten, the flow goes on."""
        return self._with(f"on/{text_of(Verdict.APPROVE)}", path)

    def on_reject(self: Task[P, Shown, Verdict], *path: Path) -> Task[P, Shown, Verdict]:
        """What follows a rejection."""
        return self._with(f"on/{text_of(Verdict.REJECT)}", path)

    def otherwise(self, *path: Path) -> Self:
        """What follows every outcome that has no path of its own."""
        return self._with("otherwise", path)

    def on_timeout(self, *path: Path) -> Self:
        """What follows when nobody decided in time; unwritten, the saga turns back."""
        return self._with("on_timeout", path)

    def on_event(self, event: type[Event], *path: Path, early: bool = True) -> Self:
        """The event withdraws the task, and ends the paths that the task chose; this path follows instead.

        Compiled as `scope(task).on_event(…)`, so the same rules hold: a pivot does not stand inside.
        """
        return replace(self, events=(*self.events, OnEvent(event=event, path=path, early=early)))

    def amend_on(self, event: type[Event]) -> Self:
        """The event changes what is shown: it is built anew, and earlier votes are void."""
        return replace(self, amends=event)


@overload
def task(
    *,
    to: Deciders,
    within: Within,
    exclude: Sequence[Excluded] = ...,
    votes: int = ...,
    escalate: Sequence[Escalate] = ...,
    remind: Sequence[Span] = ...,
    catch_up: CatchUp = ...,
    amount: Callable[[Any], Money] = ...,
    limits: Sequence[Limit] = ...,
    confirm: Confirm = ...,
) -> TaskMaker[Verdict]: ...


@overload
def task(
    *,
    to: Deciders,
    within: Within,
    answer: type[Form[O]],
    exclude: Sequence[Excluded] = ...,
    votes: int = ...,
    rejects: Sequence[O] = ...,
    escalate: Sequence[Escalate] = ...,
    remind: Sequence[Span] = ...,
    catch_up: CatchUp = ...,
    amount: Callable[[Any], Money] = ...,
    limits: Sequence[Limit] = ...,
    confirm: Confirm = ...,
) -> TaskMaker[O]: ...


def task(
    *,
    to: Deciders,
    within: Within,
    answer: type[Form[Any]] = Approval,
    exclude: Sequence[Excluded] = (),
    votes: int = 1,
    rejects: Sequence[Enum] | None = None,
    escalate: Sequence[Escalate] = (),
    remind: Sequence[Span] = (),
    catch_up: CatchUp = "each",
    amount: Callable[[Any], Money] | None = None,
    limits: Sequence[Limit] = (),
    confirm: Confirm = False,
) -> TaskMaker[Any]:
    """A decision asked of a person: the function builds what is shown, its docstring is the help on the task page.

    within: how long people have; it is the limit of the decision, not of one attempt. answer: the form, `Approval`
    unless written. votes: so many distinct people must agree. rejects: outcomes of which one vote decides, for a plain
    approval REJECT. exclude: functions that give persons, or tasks whose voters may not decide this one (four eyes).
    escalate: levels, each once and in order; remind: after so long, people are reminded and nothing else changes.
    catch_up: of levels (or reminders) that are overdue together after downtime, `each` happens, or only the `last`.
    amount and limits: who may decide up to which amount; `amount` reads it out of what is shown, a plain function.
    confirm: True, or from which amount on (one for each currency), the page asks to check and confirm before it counts.
    """

    def make(function: Callable[P, Shown], /) -> Task[P, Shown, Any]:
        plain = outcome_enum(answer) is Verdict
        return Task(
            function=function,
            name=name_of(function),
            place=place_of(function),
            to=to,
            within=within,
            answer=answer,
            exclude=tuple(exclude),
            votes=votes,
            rejects=(Verdict.REJECT,) if rejects is None and plain else tuple(rejects or ()),
            escalate=tuple(escalate),
            remind=tuple(remind),
            catch_up=catch_up,
            amount=amount,
            limits=tuple(limits),
            confirm=confirmed(confirm),
        )

    return make

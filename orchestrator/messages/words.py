"""The words that authors, approvers and the kernel share: people, decisions, forms, and what a function may ask for."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from orchestrator.messages.contract import Contract

_FROZEN = ConfigDict(frozen=True)


class Person(BaseModel):
    """One human being, by the id that the identity provider gives."""

    model_config = _FROZEN
    id: str

    def __init__(self, id: str, **data: Any) -> None:
        super().__init__(id=id, **data)


class Role(BaseModel):
    """Everybody who holds this role or belongs to this group."""

    model_config = _FROZEN
    name: str

    def __init__(self, name: str, **data: Any) -> None:
        super().__init__(name=name, **data)


class Money(BaseModel):
    """An exact amount in one currency (ISO 4217: three capital letters), never below zero: `Money("10000", "INR")`.

    A Decimal, an int or a text; a float is refused, for it has been rounded already. Currencies are never converted.
    """

    model_config = ConfigDict(frozen=True, strict=False)
    amount: Annotated[Decimal, Field(ge=0, allow_inf_nan=False, max_digits=38)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]

    def __init__(self, amount: Decimal | int | str, currency: str, **data: Any) -> None:
        if isinstance(amount, (float, bool)):
            raise TypeError(f"{amount!r} is no exact amount: write a text, an int or a Decimal")
        super().__init__(amount=amount, currency=currency, **data)

    @property
    def text(self) -> str:
        """For people and records, without an exponent: `10000.50 INR`."""
        return f"{self.amount:f} {self.currency}"


class Verdict(Enum):
    """The outcomes of a plain approval."""

    APPROVE = "approve"
    REJECT = "reject"


O = TypeVar("O", bound=Enum, default=Verdict)  # noqa: E741 - outcome


class Form(Contract, Generic[O]):
    """What a person fills in to decide a task. The field `outcome` is the decision; add fields of your own."""

    outcome: O


class Approval(Form[Verdict], name="orchestrator.Approval"):
    """Approve or reject, with a reason."""

    reason: str = ""


F = TypeVar("F", bound=Form[Any], default=Approval)


class Vote(BaseModel):
    """One person's vote: who, when, what, seeing what (hash), on whose behalf."""

    model_config = _FROZEN
    by: Person
    at: datetime
    outcome: str
    subject_hash: str
    reason: str = ""
    on_behalf_of: Person | None = None


class Decision(BaseModel, Generic[F]):
    """The outcome of a task: the deciding form, the person, the instant, and every vote."""

    model_config = _FROZEN
    answer: F
    by: Person
    at: datetime
    on_behalf_of: Person | None = None
    votes: tuple[Vote, ...] = ()

    @property
    def outcome(self) -> Enum:
        """The outcome that the deciding form states."""
        outcome: Enum = self.answer.outcome
        return outcome


class Failure(BaseModel):
    """Why a saga (or scope) goes back. Only undo functions and failure paths may ask for it."""

    model_config = _FROZEN
    step: str
    kind: str  # refused | exhausted | failed | expired | cancelled | deadline | parent
    reason: str = ""


class Context(BaseModel):
    """Where a function runs: ids and the instant of the turn. `iteration`: rounds and items from 0, outermost first."""

    model_config = _FROZEN
    saga_id: str
    tenant: str
    business_key: str
    now: datetime
    iteration: tuple[int, ...] = ()


class Refused(Exception):
    """A participant's business no: `raise Refused("out_of_stock", "only 2 left")`. Definite, and never retried."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    @property
    def reason(self) -> str:
        """Code and detail in one line, as it is recorded."""
        return f"{self.code}: {self.detail}" if self.detail else self.code

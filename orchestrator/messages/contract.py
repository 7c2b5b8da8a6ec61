"""Contracts: the frozen pydantic models that services exchange.

Rules of this file
- An **event** is a fact (`OrderPlaced`), a **command** an order to one participant (`ReserveInventory`), a **reply**
  its answer. A command names its participant (`to=`) and, as type parameter, its reply.
- Every contract has a wire name (`<context>.<ClassName>` unless `name=` says otherwise) and a version. The wire name is
  what other languages see; the class name is what Python authors see. Two classes never share a wire name.
- `Key[...]` marks the business key of an event: routing, saga start ids and wait matching follow it.
- `Personal[...]` marks a field about a person, in any model: what it holds is sealed under that person's key wherever
  it is written, where a vault is set up (ADR 60).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from orchestrator.messages.amounts import ROUNDED, exact_fields, exact_plan
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.personal import ErasedText, note_personal

T = TypeVar("T")
R = TypeVar("R", bound="Reply")


class _KeyMark:
    """Marks the business key of an event."""


def _personal(value: Any, handler: Callable[[Any], Any]) -> Any:
    return value if type(value) is ErasedText else note_personal(handler(value))


class _PersonalMark:
    """Marks a field about a person. Whoever seals hears of its value when a model is read or made."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_personal, handler(source))


def is_personal(mark: object) -> bool:
    """Is this the mark that `Personal[...]` puts on a field?"""
    return isinstance(mark, _PersonalMark)


Key = Annotated[T, _KeyMark()]
Personal = Annotated[T, _PersonalMark()]

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class ContractError(ValueError):
    """A contract class is declared wrongly, or data does not fit it. The text names contract and field."""


class Contract(BaseModel):
    """Base of everything that is exchanged or recorded. Frozen; unknown fields are refused nowhere, but dropped.

    Class arguments: `name` (wire name), `version` (whole number from 1), `context` (topic context).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    wire_name: ClassVar[str] = ""
    wire_version: ClassVar[int] = 1
    context: ClassVar[str] = ""
    key_fields: ClassVar[tuple[str, ...]] = ()
    personal_fields: ClassVar[frozenset[str]] = frozenset()
    _upcasters: ClassVar[dict[int, Upcaster]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Class arguments are taken by `__pydantic_init_subclass__`, once the fields are known."""
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls, name: str | None = None, version: int = 1, context: str | None = None, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_generic_metadata__["args"]:
            return
        cls.context = context or (
            name.rpartition(".")[0] if name and "." in name else cls.__module__.rpartition(".")[2]
        )
        cls.wire_name = name or f"{cls.context}.{cls.__qualname__.rpartition('.')[2]}"
        cls.wire_version = version
        cls._upcasters = {}
        cls.key_fields = tuple(
            n for n, f in cls.model_fields.items() if any(isinstance(m, _KeyMark) for m in f.metadata)
        )
        cls.personal_fields = frozenset(
            n for n, f in cls.model_fields.items() if any(isinstance(m, _PersonalMark) for m in f.metadata)
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A JSON number for a decimal field is taken by its text, and refused where a parser may have rounded it.

        Contracts without amounts pay nothing for that, the others one call a message.
        """
        schema = handler(source)
        fields: Mapping[str, Any] = getattr(cls, "__pydantic_fields__", {})
        amounts = exact_plan(fields)
        if not amounts:
            return schema
        return core_schema.no_info_before_validator_function(partial(exact_fields, amounts), schema)

    @classmethod
    def upcast(cls, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Registers the function that turns data of `from_version` into data of `from_version + 1`, on read."""

        def register(function: Upcaster) -> Upcaster:
            cls._upcasters[from_version] = function
            return function

        return register

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], version: int | None = None) -> Self:
        """Reads recorded or received data, upcasting older versions. Raises ContractError naming the fields."""
        body = dict(data)
        for older in range(version or cls.wire_version, cls.wire_version):
            if older not in cls._upcasters:
                raise ContractError(f"{cls.wire_name}: no upcaster from version {older} to {older + 1}")
            body = cls._upcasters[older](body)
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise ContractError(f"{cls.wire_name}: {_fields(error)}") from error

    @classmethod
    def from_bytes(cls, raw: bytes, version: int | None = None) -> Self:
        """Reads the JSON bytes of a message. Raises ContractError for bad JSON or data that does not fit."""
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ContractError(f"{cls.wire_name}: not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ContractError(f"{cls.wire_name}: a JSON object was expected, a {type(data).__name__} came")
        return cls.from_plain(data, version)

    def canonical(self) -> bytes:
        """The canonical bytes of this message (RFC 8785): what is sent, stored and hashed."""
        return canonical_bytes(self.model_dump())

    def plain(self) -> dict[str, Any]:
        """The message as plain JSON values in normal form (decimals and instants are strings)."""
        loaded: dict[str, Any] = orjson.loads(self.canonical())
        return loaded


class Event(Contract):
    """A fact that has happened, in the past tense. Goes to topic `<context>.events`, keyed by its business key."""

    @classmethod
    def key_of(cls, *values: object) -> str:
        """The key text for these key values, as `wait_for(..., match=)` needs it. ContractError without a Key."""
        if len(values) != len(cls.key_fields) or not values:
            raise ContractError(f"{cls.wire_name}: {len(cls.key_fields)} key values expected, {len(values)} given")
        return "|".join(_key_text(value) for value in values)

    def key(self) -> str:
        """The business key of this event. Raises ContractError where the contract marks no field with Key."""
        if not self.key_fields:
            raise ContractError(
                f"{self.wire_name} has no Key field, so it cannot be routed to a saga: mark one with Key[...]"
            )
        return "|".join(_key_text(getattr(self, name)) for name in self.key_fields)


class Reply(Contract):
    """What a participant answers when it did what it was asked."""


class Done(Reply, name="orchestrator.Done"):
    """A reply that says only yes."""


class Command(Contract, Generic[R]):
    """An order to one participant: `class HoldFunds(Command[FundsHeld], to="accounts")`. May also start a saga."""

    participant: ClassVar[str] = ""
    reply_type: ClassVar[type[Reply]] = Done
    key_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(
        cls, name: str | None = None, version: int = 1, context: str | None = None, to: str = "", **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(name, version, context, **kwargs)
        if cls.__pydantic_generic_metadata__["args"]:
            return
        cls.participant = to
        for base in cls.__mro__[1:]:
            args = getattr(base, "__pydantic_generic_metadata__", {}).get("args") or ()
            if args and isinstance(args[0], type) and issubclass(args[0], Reply):
                cls.reply_type = args[0]
                break

    def key(self) -> str:
        """The business key, where a command starts a saga. Raises ContractError without a Key field."""
        if not self.key_fields:
            raise ContractError(f"{self.wire_name} has no Key field, so it cannot start a saga: mark one with Key[...]")
        return "|".join(_key_text(getattr(self, name)) for name in self.key_fields)


def _key_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return canonical_bytes(value).decode().strip('"')


def _fields(error: ValidationError) -> str:
    """The validation errors, one clause per field; values are left out since they may be personal."""
    return "; ".join(f"{_place(item)}: {item['msg']}" for item in error.errors(include_input=False)[:8])


def _place(item: Any) -> str:
    names = [*item["loc"], *([item["ctx"]["field"]] if item["type"] == ROUNDED else [])]
    return ".".join(map(str, names)) or "message"

"""The installed code of a graph: functions with their plans, and codecs between Python values and plain JSON.

Rules of this file
- A result's codec carries the node's path; several events of one scope `<path>:<wire name>`; start messages
  `start:<wire name>`; items `item:<path>`, all items of a loop `items:<path>`; contracts `contract:<wire name>`; what a
  task shows `shown:<path>`; the event that amends a task `amend:<path>`; people `people`.
- What is dumped is in canonical normal form, so that two processes record the same bytes for one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import time, timedelta
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from orchestrator.definition.draft import Draft
from orchestrator.definition.emit import people
from orchestrator.definition.forks import When
from orchestrator.definition.functions import is_a, show
from orchestrator.definition.layout import Placed
from orchestrator.definition.loops import ForEach
from orchestrator.definition.plans import plan
from orchestrator.definition.results import fits
from orchestrator.definition.roles import Use
from orchestrator.definition.tasks import Task
from orchestrator.definition.waits import Scope, Wait
from orchestrator.definition.words import WorkingTime, name_of
from orchestrator.kernel.graph import Codec, Function, Graph, Param, Program
from orchestrator.messages import Command, Contract, Person, Role, plain

_DURATION = TypeAdapter(timedelta)


class ContractCodec:
    """Reads and writes one contract."""

    def __init__(self, contract: type[Contract]) -> None:
        self.contract = contract

    def load(self, raw: Any) -> Contract:
        """Raises ContractError where the data does not fit."""
        return self.contract.from_plain(raw)

    def dump(self, value: Any) -> Any:
        """The message as plain values."""
        return value.plain()


class ValueCodec:
    """Reads and writes any type that pydantic knows. Durations are ISO 8601 texts; sets are refused."""

    def __init__(self, hint: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(hint)

    def load(self, raw: Any) -> Any:
        """Raises pydantic's ValidationError (a ValueError) where the data does not fit."""
        return self._adapter.validate_python(raw)

    def dump(self, value: Any) -> Any:
        """Raises NotCanonicalError where there is no canonical form, ValidationError for a value of another type."""
        return plain(_storable(self._adapter.dump_python(self._adapter.validate_python(value))))


class PeopleCodec:
    """A Role, a Person, or several, as `[{"role": name}]` or `[{"person": id}]`."""

    def load(self, raw: Any) -> list[Role | Person]:
        """The people of a recorded list."""
        return [Role(entry["role"]) if "role" in entry else Person(entry["person"]) for entry in raw]

    def dump(self, value: Any) -> Any:
        """None is nobody."""
        return [] if value is None else people(value)


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    if isinstance(value, timedelta):
        return _DURATION.dump_python(value, mode="json")
    return value.isoformat() if isinstance(value, time) else value


def codec_for(hint: Any) -> Codec:
    """The codec of a type. Raises pydantic's schema error where it cannot be stored."""
    return ContractCodec(hint) if is_a(hint, Contract) else ValueCodec(hint)


def contracts_of(draft: Draft) -> tuple[type[Contract], ...]:
    """Every contract class that the saga uses, by wire name. Reports two of one name."""
    found: dict[str, type[Contract]] = {}
    for contract in _contracts(draft):
        other = found.setdefault(contract.wire_name, contract)
        if other is not contract:
            names = f"{other.__module__}.{other.__qualname__} and {contract.__module__}.{contract.__qualname__}"
            do = f'give one of them another name: class {contract.__name__}(…, name="…")'
            text = f"two contracts are called {contract.wire_name}: {names}"
            draft.report("ORC245", draft.settings.place, text, do=do)
    return tuple(found[name] for name in sorted(found))


def _contracts(draft: Draft) -> Iterator[type[Contract]]:
    yield from draft.settings.starts_on
    for use in draft.uses:
        if is_a(use.signature.returns, Contract):
            yield use.signature.returns
        if is_a(use.signature.returns, Command):
            yield use.signature.returns.reply_type
    for node in draft.layout.nodes.values():
        yield from _written(node)


def _written(node: Placed) -> Iterator[type[Contract]]:
    word = node.word
    if isinstance(word, Task):
        yield word.answer
        if word.amends is not None:
            yield word.amends
    if isinstance(word, Wait):
        yield word.event
    if isinstance(word, Scope):
        yield from (on_event.event for on_event in word.events)


def plans_of(draft: Draft) -> dict[str, tuple[Param, ...]]:
    """The injection plan of every function, by `<path>#<role>`; what is wrong is reported."""
    found = {use.key: plan(draft, use) for use in draft.uses if draft.reached(use.node.path)}
    for node in draft.layout.nodes.values():
        if isinstance(node.word, When) and isinstance(node.word.condition, type):
            found[f"{node.path}#test"] = (_presence(draft, node, node.word.condition),)
    return found


def _presence(draft: Draft, node: Placed, wanted: type[Any]) -> Param:
    asked = [found for found in draft.results if fits(wanted, found.type)]
    if not asked:
        do = f"put a step, wait or compute(…) that gives {show(wanted)} before it"
        draft.report("ORC105", node.word.place, f"{node.label}: {show(wanted)} is not made anywhere", do=do)
    question, walk = draft.known(asked)
    there = {question.there(state) for state, _ in walk.seen.get(node.path, {})}
    ever = [found for found in asked if any(found.bit & state for state in there)]
    if asked and there and not ever:
        made_by = ", ".join(found.made_by for found in asked)
        text = f"{node.label} never holds: no {show(wanted)} can be there yet"
        draft.report("ORC203", node.word.place, text, made_by=made_by, do="put it after that, or drop the path")
    return Param("found", "optional", tuple(found.source for found in ever))


def program_of(draft: Draft, graph: Graph, plans: Mapping[str, Sequence[Param]]) -> Program:
    """Graph, functions and codecs together."""
    codecs = codecs_of(draft)
    functions = {
        use.key: Function(use.signature.name, use.signature.function, tuple(plans[use.key]), _returns(use))
        for use in draft.uses
        if use.key in plans
    }
    for node in draft.layout.nodes.values():
        if isinstance(node.word, When) and isinstance(node.word.condition, type):
            key = f"{node.path}#test"
            functions[key] = Function(name_of(node.word.condition), _found, tuple(plans[key]))
        functions.update(_working_times(node))
        if isinstance(node.word, Task) and node.word.amount is not None:
            functions[f"{node.path}#amount"] = Function(name_of(node.word.amount), node.word.amount)
    return Program(graph, functions, codecs)


def _working_times(node: Placed) -> Iterator[tuple[str, Function]]:
    """What the kernel calls where a limit is working time: it gives the instant at which that is over."""
    spans: dict[str, Any] = {"within": getattr(node.word, "within", None)}
    if isinstance(node.word, Task):
        spans |= {f"escalate{number}": level.after for number, level in enumerate(node.word.escalate)}
        spans |= {f"remind{number}": after for number, after in enumerate(node.word.remind)}
    for role, span in spans.items():
        if isinstance(span, WorkingTime):
            yield f"{node.path}#{role}", Function(str(span), span.ends, (Param("now", "context"),))


def _found(found: object) -> object:
    """The test of a condition over a type: the kernel asks whether it is None (`ChooseNode.present`)."""
    return found


def _returns(use: Use) -> str:
    """The codec of what a function returns, "" where the kernel takes it as it is."""
    path, role = use.node.path, use.role
    if role in ("build", "undo", "event", "result"):
        return f"contract:{use.signature.returns.wire_name}"
    if role == "to" or role.startswith("exclude"):
        return "people"
    return {"value": path, "items": f"items:{path}", "shown": f"shown:{path}"}.get(role, "")


def codecs_of(draft: Draft) -> dict[str, Codec]:
    """Every codec of the saga. Reports types that cannot be stored."""
    codecs: dict[str, Codec] = {"people": PeopleCodec()}
    for contract in _contracts(draft):
        codecs[f"contract:{contract.wire_name}"] = ContractCodec(contract)
    for found in draft.results:
        _add(draft, codecs, found.source.codec, found.type, found.owner)
    for use in draft.uses:
        if use.role == "items" and isinstance(use.node.word, ForEach):
            _add(draft, codecs, f"items:{use.node.path}", use.signature.returns, use.node)
        elif use.role == "shown":
            _add(draft, codecs, f"shown:{use.node.path}", use.signature.returns, use.node)
            amends = use.node.word.amends if isinstance(use.node.word, Task) else None
            if amends is not None:
                codecs[f"amend:{use.node.path}"] = ContractCodec(amends)
    return codecs


def _add(draft: Draft, codecs: dict[str, Codec], name: str, hint: Any, owner: Placed | None) -> None:
    try:
        codecs[name] = codec_for(hint)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        place = owner.word.place if owner is not None else draft.settings.place
        label = owner.label if owner is not None else "the start message"
        do = "use a pydantic model, a dataclass, or plain types (str, int, Decimal, datetime, list, …)"
        draft.report("ORC114", place, f"{label}: {show(hint)} cannot be recorded as JSON", do=do)

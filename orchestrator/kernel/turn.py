"""A turn: the fork that one input works on, and what every kind of node needs of it.

Rules of this file
- `emit` appends a record and folds it at once, so what follows sees it.
- Nothing here knows the kinds. A token is given only where control may go on (`gives`): not inside a closing scope, not
  while the saga goes back (S7, rule 16).
- `now` is an argument; user functions are called only through `call`, and what they return is recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import Limit, Node, Program, RetryPolicy, node_path
from orchestrator.kernel.inject import FunctionError, invoke
from orchestrator.kernel.inputs import Refusal
from orchestrator.kernel.places import enclosing_scopes, enter_block
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages.canonical import canonical_bytes, parse
from orchestrator.messages.contract import Contract
from orchestrator.messages.personal import written_form

MS = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one turn: records before the rest becomes a `resume`, and bytes of one message.

    `two_people`: operators' acts that one person proposes and another confirms (four eyes).
    """

    turn_records_max: int = 400
    message_bytes_max: int = 900_000
    two_people: frozenset[str] = frozenset()


class StuckError(Exception):
    """A place cannot go on: a user function raised, or a message is too large. Becomes a saga.stuck record."""

    def __init__(self, cause: str, reason: str, function: str = "", activity: str = "") -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason
        self.function = function
        self.activity = activity


@dataclass(slots=True)
class Turn:
    """One input at work. `records` grows; `state` is a fork."""

    program: Program
    state: State
    now: int
    limits: Limits
    records: list[Record]
    refusal: Refusal | None = None

    def emit(self, type_: str, activity: str = "", /, **data: Any) -> None:
        """Records what happened, and folds it at once."""
        record = Record(type_, activity, data)
        evolve(self.state, record)
        self.records.append(record)

    def refuse(self, code: str, text: str, **facts: Any) -> None:
        """The input asked for something that may not be; nothing is recorded for it."""
        self.refusal = Refusal(code, text, facts)

    def node(self, activity: str) -> Node:
        """The graph node of an activity."""
        return self.program.graph.nodes[node_path(activity)]

    def call(self, activity: str, role: str, path: str | None = None) -> Any:
        """Calls the author's function of a role, with its results injected. Raises StuckError if it raises."""
        key = f"{path or node_path(activity)}#{role}"
        try:
            return invoke(self.program, self.state, activity, key, self.now)
        except FunctionError as error:
            raise StuckError("function", str(error), key, activity) from error

    def call_plain(self, activity: str, role: str) -> Any:
        """As `call`, in the plain form that is recorded."""
        value = self.call(activity, role)
        codec = self.program.functions[f"{node_path(activity)}#{role}"].returns
        try:
            return self.program.codecs[codec].dump(value)
        except ValueError as error:
            raise StuckError("function", f"what {role} of {activity} returned cannot be recorded: {error}") from error

    def live(self, activity: str) -> bool:
        """May control go on from here? Not while the saga goes back, nor inside the body of a closing scope."""
        if self.state.phase not in ("forward", "on_failed"):
            return False
        if not self.state.scopes:
            return True
        closing = {key for key, scope in self.state.scopes.items() if scope.mode != "open"}
        return not closing or closing.isdisjoint(enclosing_scopes(self.program.graph, activity))

    def gives(self, activity: str, *blocks: str) -> list[str]:
        """The token after a node settled: of the first of these blocks that the author wrote, else "it is over"."""
        if not self.live(activity):
            return []
        present = self.node(activity).blocks
        for block in blocks:
            if block in present:
                return [enter_block(self.program.graph, activity, block)]
        return [f"-{activity}"]

    def stick(self, place: str, cause: str, reason: str, error: StuckError | None = None) -> None:
        """Marks a place that only a person can move. `error`: the function that raised, for a value by hand."""
        where = {"function": error.function, "at": error.activity} if error and error.function else {}
        self.emit("saga.stuck", place[1:], place=place, cause=cause, reason=reason, **where)

    def due(self, activity: str, limit: Limit | None, role: str = "within") -> int | None:
        """The instant at which a limit ends, or None for no limit. Functions give a timedelta or an aware datetime."""
        if limit is None or (limit.ms is None and limit.function is None):
            return None
        if limit.ms is not None and not limit.calendar:
            return self.now + limit.ms * MS
        return due_of(self.call(activity, role), self.now)

    def message(self, activity: str, contract: Contract, participant: str, key: str) -> dict[str, Any]:
        """The stored form of a command: {type, version, body, participant, key}. Raises StuckError when too large."""
        raw, body = contract.canonical(), None
        plain = parse(raw)
        written = written_form(plain)  # a retry must be the same bytes, so what is sealed is sealed once (ADR 60)
        if written is not plain:
            raw, body = canonical_bytes(written), written
        self.fits(len(raw), contract.wire_name)
        digest = hashlib.sha256(raw).hexdigest()[:16]
        return {
            "type": contract.wire_name,
            "version": contract.wire_version,
            "body": plain if body is None else body,
            "participant": participant,
            "key": f"{key}:{digest}",
        }

    def fits(self, size: int, what: str) -> None:
        """Raises StuckError for a message above the limit (rule 30)."""
        if size > self.limits.message_bytes_max:
            limit = self.limits.message_bytes_max
            raise StuckError("size", f"{what} has {size} bytes, the limit is {limit}: send a reference instead")

    def key(self, activity: str, suffix: str) -> str:
        """An idempotency key: tenant, saga, activity and round; never the attempt."""
        return f"{self.state.tenant}:{self.state.saga_id}:{activity}{suffix}"


def due_of(value: Any, now: int) -> int:
    """Microseconds from a timedelta (from now) or an aware datetime; an operator's hand types whole seconds from now.

    Raises StuckError for anything else.
    """
    if type(value) is int:
        return now + value * 1_000_000
    if hasattr(value, "total_seconds"):
        return now + int(value.total_seconds() * 1_000_000)
    if hasattr(value, "timestamp") and value.tzinfo is not None:
        return int(value.timestamp() * 1_000_000)
    raise StuckError("function", f"a time limit must be a timedelta or an aware datetime, got {value!r}")


def backoff_ms(policy: RetryPolicy, tries: int, seed: str) -> int:
    """Delay before the next try, milliseconds. The jitter is a hash: deciding twice gives the same (rule 6)."""
    delay = min(policy.ceiling_ms, policy.first_ms * policy.factor ** min(tries - 1, 60))
    draw = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest(), "big") / 2**32
    return max(1, int(delay * (1 + policy.jitter * (2 * draw - 1))))


def subject_hash(shown: Any) -> str:
    """The hash of what a person is shown, as it is recorded: SHA-256 (hex) of its canonical bytes."""
    return hashlib.sha256(canonical_bytes(written_form(shown))).hexdigest()


Handler = Callable[..., None]

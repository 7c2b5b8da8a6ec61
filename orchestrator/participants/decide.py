"""What to do with one command, given what the inbox says: pure, so that every rule can be read and tried by itself.

Rules of this file (the numbers are those of the kernel's semantics)
- A settled key answers for ever, the same. Same key, other body is nobody's answer (3).
- A fence answers with the outcome, or refuses the key for ever. A do after that is refused (13, 14).
- Keys of earlier rounds come first: what was done under one of them answers under it; the others are refused for
  ever (15). An undo first fences the key that it undoes; what was never done is undone by doing nothing (13, 19).
- A key that was started and has no outcome is resolved before anything else: by look-up, else by repeating an
  idempotent call. "Not found" counts only if it was asked after lease + settling and answered while the outside still
  remembers; a refusal counts only if no earlier call can still arrive; *never* is said only when none can (13).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.messages.value import value

Purpose = Literal["do", "undo", "fence", "fence_undo"]  # fence_undo: before a person takes an undo over
FENCES: frozenset[Purpose] = frozenset({"fence", "fence_undo"})
RowKey = tuple[str, str]  # tenant, key without the hash of the body

_BODY_HASH = re.compile(r":[0-9a-f]{16}\Z")


def without_body_hash(key: str) -> str:
    """`saga:activity:round` of a key as it came: one round is one key, whatever body somebody sends under it."""
    return _BODY_HASH.sub("", key)


@value
class Row:
    """One inbox row. `closed`: fenced (refused for ever) or never (can never be known). Source: kernel rule 13."""

    tenant: str
    key: str
    wire_key: str
    type: str = ""
    type_version: int | None = None
    body_hash: bytes | None = None
    command: bytes | None = None
    first_started_at: datetime | None = None
    started_at: datetime | None = None
    lease_until: datetime | None = None
    starts: int = 0
    outcome: Literal["ok", "refused"] | None = None
    reply: bytes | None = None
    reply_type: str = ""
    reply_schema: str = ""
    closed: Literal["fenced", "never"] | None = None
    under: str = ""

    @property
    def settled(self) -> bool:
        """It answers for ever."""
        return self.outcome is not None or self.closed is not None


@value
class Wanted:
    """The part of a command that decides: its keys (without body hash; `wire_*` as they came) and its purpose."""

    tenant: str
    purpose: Purpose
    key: str
    wire_key: str
    body_hash: bytes
    earlier: tuple[str, ...] = ()  # as they came, oldest first
    undoes: str = ""  # as it came

    def keys(self) -> list[RowKey]:
        """All inbox rows that this command looks at."""
        if not self.earlier and not self.undoes:
            return [(self.tenant, self.key)]
        found = [self.key, *map(without_body_hash, self.earlier)]
        if self.undoes:
            found.append(without_body_hash(self.undoes))
        return [(self.tenant, key) for key in dict.fromkeys(found)]


@value
class FromRow:
    """Answer with what this row holds."""

    row: Row


@value
class UnderEarlier:
    """It was done under an earlier key: answer so, and store that under the own key as well. `close`: keys to fence."""

    row: Row
    close: tuple[str, ...] = ()


@value
class Fenced:
    """Nothing was done and now never will be: close these wire keys (this command's own is among them)."""

    close: tuple[str, ...]


@value
class NothingToUndo:
    """The key to be undone was never done, and now never will be. `close`: keys to fence."""

    close: tuple[str, ...]


@value
class Run:
    """Run the handler. `close`: keys to fence in the same transaction."""

    close: tuple[str, ...]


@value
class Resolve:
    """This row was started and has no outcome: resolve it first. `own`: it is the command's own key."""

    row: Row
    own: bool


@value
class OtherBody:
    """The key came before with another body."""

    row: Row


Act = FromRow | UnderEarlier | Fenced | NothingToUndo | Run | Resolve | OtherBody


def next_act(wanted: Wanted, rows: Mapping[RowKey, Row]) -> Act:
    """The one thing to do now. After `Resolve` the rows are read again and the question is asked anew."""
    own = rows.get((wanted.tenant, wanted.key))
    if own is not None:
        if own.body_hash is not None and own.body_hash != wanted.body_hash:
            return OtherBody(own)
        return FromRow(own) if own.settled else Resolve(own, own=True)
    close: list[str] = []
    for wire_key in wanted.earlier:
        row = rows.get((wanted.tenant, without_body_hash(wire_key)))
        if row is None:
            close.append(wire_key)
        elif not row.settled:
            return Resolve(row, own=False)
        elif row.outcome == "ok":
            return UnderEarlier(row, tuple(close))
    if wanted.undoes and wanted.purpose in ("undo", "fence_undo"):
        row = rows.get((wanted.tenant, without_body_hash(wanted.undoes)))
        if row is None:
            return NothingToUndo((*close, wanted.undoes))
        if not row.settled:
            return Resolve(row, own=False)
        if row.outcome == "refused" or (row.outcome is None and row.closed == "fenced"):
            return NothingToUndo(tuple(close))
        # Done, or `never`: who undoes that has evidence of two people that it was done, and theirs is the last word.
    if wanted.purpose in FENCES:
        return Fenced((*close, wanted.wire_key))
    return Run(tuple(close))


# --- effects outside the database -------------------------------------------------------------------------------------


@value
class OutsidePolicy:
    """What the author declared. `lookup_for`, `idempotent_for`: how long the outside remembers a key; None: not at all.

    lease: how long one delivery may call. settling: how long after its end a call may still arrive at the outside.
    """

    lease: timedelta
    settling: timedelta
    lookup_for: timedelta | None = None
    idempotent_for: timedelta | None = None


@value
class InDoubt:
    """No answer yet; ask again at `until`."""

    until: datetime


Next = Literal["free", "repeat", "never"] | InDoubt
"""free: nothing was done and nothing can arrive any more. repeat: call again with the same key."""


def clear_at(row: Row, policy: OutsidePolicy) -> datetime:
    """From then on no call that was ever sent under this key can still arrive."""
    assert row.lease_until is not None
    return row.lease_until + policy.settling


def may_repeat(row: Row, policy: OutsidePolicy, now: datetime) -> bool:
    """A repeated call is sure to meet an outside that still remembers the key."""
    assert row.first_started_at is not None
    return policy.idempotent_for is not None and now + policy.settling < row.first_started_at + policy.idempotent_for


def call_limit(row: Row | None, policy: OutsidePolicy, now: datetime) -> timedelta:
    """How long a call that starts now may take. A repeated one must arrive while the outside remembers."""
    if row is None or policy.idempotent_for is None or not may_repeat(row, policy, now):
        return policy.lease
    assert row.first_started_at is not None
    return min(policy.lease, row.first_started_at + policy.idempotent_for - policy.settling - now)


def after_nothing_found(
    row: Row, policy: OutsidePolicy, purpose: Purpose, sent_at: datetime, returned_at: datetime
) -> Next:
    """The look-up found nothing. `sent_at` was read before it was sent, `returned_at` after it came back."""
    assert policy.lookup_for is not None
    assert row.first_started_at is not None
    clear = clear_at(row, policy)
    if sent_at < clear:
        # A call may still arrive. Who wants it done may repeat an idempotent call; a fence waits rather than cause it.
        if purpose not in FENCES and may_repeat(row, policy, returned_at):
            return "repeat"
        return InDoubt(clear)
    if returned_at <= row.first_started_at + policy.lookup_for:
        return "free"
    return "repeat" if may_repeat(row, policy, returned_at) else "never"


def after_lookup_failed(row: Row, policy: OutsidePolicy, now: datetime) -> InDoubt:
    """The look-up itself failed: nothing is known. It may still find something later, so this is never `never`."""
    return InDoubt(max(clear_at(row, policy), now + max(policy.settling, timedelta(seconds=1))))


def without_lookup(row: Row, policy: OutsidePolicy, now: datetime) -> Next:
    """No look-up is declared (or its handler is gone): repeat while that is safe, wait, or give up for ever."""
    if may_repeat(row, policy, now):
        return "repeat"
    clear = clear_at(row, policy)
    return InDoubt(clear) if now < clear else "never"


def refusal_counts(earlier: Row | None, policy: OutsidePolicy, sent_at: datetime) -> bool:
    """The outside refused a call sent at `sent_at`. That is the outcome only if no earlier call can still arrive."""
    return earlier is None or sent_at >= clear_at(earlier, policy)

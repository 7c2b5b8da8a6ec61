"""Inputs: everything that can make a saga move. One input, one turn.

Instants are microseconds since the epoch (UTC). Data is plain JSON as it was received and validated.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from orchestrator.messages.value import value

Purpose = Literal["do", "undo", "fence", "fence_undo"]  # fence_undo: before a person takes an undo over
Outcome = Literal["ok", "refused", "error", "not_done", "in_doubt", "never"]


@value
class Parent:
    """Who called this saga: the activity of the parent and its round."""

    saga_id: str
    activity: str
    round: int


@value
class Start:
    """The start message. `saga_id` is derived from tenant, name and business key (or from the parent) by the caller."""

    saga_id: str
    tenant: str
    business_key: str
    type: str
    data: Any
    parent: Parent | None = None
    forward_only: bool = False


@value
class Answer:
    """A participant's reply.

    do/undo: ok (with data), refused (reason), error (reason; unknown). fence: ok (data: it was done), refused (it was
    refused), not_done (refused for ever now), in_doubt (ask again at `until`), never (can never be known), error.
    `done_key` names the key of the earlier round under which it really happened.
    """

    purpose: Purpose
    activity: str
    round: int
    attempt: int
    outcome: Outcome
    data: Any = None
    reason: str = ""
    until: int = 0
    done_key: str = ""
    participant: str = ""


@value
class TimerDue:
    """A timer came due. `armed` is the record version that set it; another one is stale and changes nothing."""

    activity: str
    armed: int


@value
class Arrived:
    """A domain event for this saga, by (type, key). `arrived_at` is the broker's append time."""

    type: str
    key: str
    data: Any
    event_id: str
    arrived_at: int


@value
class StandIn:
    """Somebody who stands in for `person` until `until`, with the rights that the person had when this was arranged,
    as far as they still have them.

    `source` names the arrangement: it becomes evidence on the vote.
    """

    person: str
    roles: tuple[str, ...]
    since: int
    until: int
    source: str


@value
class Held:
    """The roles that a person holds now, as far as is known: of a right that they lent before, no more than these."""

    person: str
    roles: tuple[str, ...]


@value
class Vote:
    """One person's decision on a task. `roles` are those of the person now; `received_at` is when the request came.

    `stands_in`: for whom this person stands in by an absence that was arranged outside of the task. `on_behalf_of`
    names one of those, one who delegated the task, or the voter: their own right alone. "" leaves it to the rules.
    """

    activity: str
    by: str
    roles: tuple[str, ...]
    answer: Any  # the form as plain JSON, with `outcome`
    subject_hash: str
    received_at: int
    reason: str = ""
    on_behalf_of: str = ""
    authentication: str = ""
    stands_in: tuple[StandIn, ...] = ()
    barred: tuple[str, ...] = ()  # lenders of a right on this task who may not decide any more
    holds: tuple[Held, ...] = ()  # what the other lenders hold now; who is not named is not known


TaskVerb = Literal["claim", "release", "delegate", "reassign", "comment", "attach"]


@value
class TaskAct:
    """What a person does with an open task beside deciding it. `steers`: they may direct the work of others.

    delegate: `to` is one person ("" takes it back), until `until`. reassign: `to` as tasks have it. comment: `text`,
    and `replaces`, the record version of an own one that is rewritten. attach: `url` and its title in `text`.
    """

    activity: str
    act: TaskVerb
    by: str
    roles: tuple[str, ...]
    received_at: int
    reason: str = ""
    to: tuple[dict[str, str], ...] = ()
    until: int = 0
    text: str = ""
    url: str = ""
    replaces: int = 0
    steers: bool = False
    authentication: str = ""
    stands_in: tuple[StandIn, ...] = ()
    barred: tuple[str, ...] = ()  # lenders of a right on this task who may not decide any more
    holds: tuple[Held, ...] = ()  # what the other lenders hold now; who is not named is not known


@value
class ChildAnswer:
    """What a child tells its parent.

    completed (result) · failed (compensated by itself; reason) · refused (did not start: already_running, unknown) ·
    undone (its undo, asked by the parent, is over) · pivot_passed (it cannot be undone any more).
    """

    activity: str
    round: int
    outcome: Literal["completed", "failed", "refused", "undone", "pivot_passed"]
    data: Any = None
    reason: str = ""


@value
class UndoAsked:
    """The parent asks this child to undo itself."""

    parent: Parent


@value
class Cancel:
    """A person or service asks the saga to turn back."""

    by: str
    reason: str


@value
class Operate:
    """An operator's act on a named stuck place; `version` is the stuck record that it answers.

    retry · value (a function's value by hand) · done (done by hand, with a validated reply) · not_done · skip ·
    take_over · give_back · settle (evidence; two people).
    """

    act: Literal["retry", "value", "done", "not_done", "skip", "take_over", "give_back", "settle"]
    place: (
        str  # the stuck place's name, as `State.stuck` has it: "+node", "-node", "!activity", "~activity", "?activity"
    )
    version: int
    by: str
    reason: str
    data: Any = None
    outcome: str = ""  # for settle: done | not_done


@value
class SubjectErased:
    """The key of this saga's subject is no more (ADR 61): what was personal in its records opens no more."""

    request: str
    key_ids: tuple[str, ...]
    reason: str
    asked_by: str
    confirmed_by: str


@value
class SendRefused:
    """The broker refused a message of this saga for good (too large); `version` is the record it was made of."""

    version: int
    reason: str


@value
class Resume:
    """Go on where the last turn stopped at its record limit."""


Input = (
    Start
    | Answer
    | TimerDue
    | Arrived
    | Vote
    | TaskAct
    | ChildAnswer
    | UndoAsked
    | Cancel
    | Operate
    | SubjectErased
    | SendRefused
    | Resume
)


@value
class Refusal:
    """Why an input changed nothing although somebody asked for it: code, sentence, and facts for the answer.

    Codes: not_found, already_decided, expired, withdrawn, not_eligible, excluded, voted_already, subject_changed,
    subject_missing, over_limit, not_substitute, claimed_already, not_claimed, not_holder, not_supervisor, not_author,
    too_much, cancel_refused, already_turning, ended, not_stuck, version_moved, second_person, invalid,
    same_id_other_body.
    """

    code: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)

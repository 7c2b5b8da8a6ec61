"""What an operator may do about a stuck place, and what follows from it, in one sentence, before the button.

Rules of this file
- Pure: a state and a graph in, offers out. The kernel decides; an offer that it would refuse is a bug of this file.
- Every sentence says what is sent to whom, or that nothing is; what stays; and whether it can be taken back.
- What needs the evidence or the word of a second person says so before the first one acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from orchestrator.api.views import Act
from orchestrator.kernel.graph import CallNode, Graph, StepNode, node_path
from orchestrator.kernel.operators import ACTS, proposed
from orchestrator.kernel.state import Activity, State, Stuck
from orchestrator.pages.drawing.standing import stuck_at

_TITLES: Mapping[str, str] = {
    "retry": "Retry",
    "value": "Give the value by hand",
    "done": "Complete by hand",
    "not_done": "Have it refused for ever",
    "skip": "Skip the undo",
    "take_over": "Take over",
    "give_back": "Give back",
    "settle": "Settle by evidence",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one person has said (`act`, with the outcome or value that belongs to it), and a second must confirm."""

    act: str
    by: str
    reason: str
    record: int
    outcome: str = ""
    value: Any = None

    @property
    def what(self) -> str:
        """In words."""
        if self.act == "settle":
            return "it was done" if self.outcome == "done" else "it was not done"
        return _TITLES.get(self.act, self.act).lower()


@dataclass(frozen=True, slots=True)
class Offer:
    """An act on a place. `version`: the record that it answers. `wants`: "" | "reply" | "value" | "outcome".

    `danger`: it cannot be taken back. `proposal`: somebody has said so already, and this confirms it.
    """

    act: Act
    place: str
    version: int
    title: str
    consequence: str
    danger: bool = False
    second: bool = False
    wants: str = ""
    proposal: Proposal | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """A place that needs a person: what is wrong, and what may be done."""

    place: str
    name: str
    reason: str
    cause: str
    version: int
    proposal: Proposal | None
    offers: Sequence[Offer]


def needs(state: State, graph: Graph | None, two_people: Set[str] = frozenset()) -> list[Need]:
    """Every place of a saga that only a person can move, with what may be done there.

    `two_people`: the acts that a second person must confirm; settling by evidence is always one.
    """
    found = [_stuck(state, graph, place, stuck, two_people) for place, stuck in state.stuck.items()]
    for name, activity in state.activities.items():
        if activity.undo is not None and activity.undo.status == "handed":
            found.append(_handed(state, name, activity, graph, two_people))
    return found


def _stuck(state: State, graph: Graph | None, place: str, stuck: Stuck, two_people: Set[str]) -> Need:
    activity = place[1:]
    found = state.activities.get(activity)
    proposal = _proposal(state, place, stuck.version)
    offers = [
        _offer(act, place, stuck_at(state, place), stuck.version, graph, found, proposal, two_people)
        for act in ACTS[place[0]]
        if _fits(act, place, stuck, found)
    ]
    name = stuck_at(state, place).rpartition("/")[2] or "the saga itself"
    return Need(place, name, stuck.reason, stuck.cause, stuck.version, proposal, offers)


def _handed(state: State, name: str, found: Activity, graph: Graph | None, two_people: Set[str]) -> Need:
    assert found.undo is not None
    place, version = f"~{name}", found.undo.taken_at
    proposal = _proposal(state, place, version)
    acts: Sequence[Act] = ("done", "skip", "give_back")
    offers = [_offer(act, place, node_path(name), version, graph, found, proposal, two_people) for act in acts]
    reason = f"in the hands of {found.undo.taken_by}: the participant will not do this undo any more"
    return Need(place, node_path(name).rpartition("/")[2], reason, "taken", version, proposal, offers)


def _proposal(state: State, place: str, about: int) -> Proposal | None:
    """What somebody proposed for this place as it is stuck (or taken over) since record `about`."""
    first = proposed(state, place, about)
    if first is not None:
        return Proposal(first["act"], first["by"], first["reason"], first["version"], "", first["value"])
    found = state.activities.get(place[1:])
    said = found.proposal if found is not None else None
    if not said:
        return None
    return Proposal("settle", said["by"], said.get("reason", ""), said["version"], said["outcome"], said.get("result"))


def _fits(act: str, place: str, stuck: Stuck, found: Activity | None) -> bool:
    """Whether the kernel takes this act here."""
    taken = found is not None and found.undo_status == "taken"
    is_effect = stuck.cause == "effect_found"
    sure = {
        "retry": not is_effect and not (place[0] == "~" and taken),
        "value": bool(stuck.function),
        "done": is_effect or (found is not None and found.kind in ("step", "call")),
        "not_done": found is not None and found.unsettled and not found.reads,
        "take_over": found is not None and found.kind != "call" and not taken,
        "settle": place[0] == "?" or taken,
    }
    return sure.get(act, True)


def _offer(
    act: Any,
    place: str,
    path: str,
    version: int,
    graph: Graph | None,
    found: Activity | None,
    proposal: Proposal | None,
    two_people: Set[str],
) -> Offer:
    needs_two = act == "settle" or act in two_people
    confirms = proposal if proposal is not None and proposal.act == act else None
    wants = {"value": "value", "settle": "outcome"}.get(act, "")
    if act == "done" and place[0] == "!":
        wants = "reply"
    return Offer(
        act=act,
        place=place,
        version=confirms.record if confirms else version,
        title=f"Review and confirm: {_TITLES[act].lower()}" if confirms else _TITLES[act],
        consequence=_consequence(act, place, path, graph, found),
        danger=act in ("skip", "settle", "done", "value", "not_done", "take_over"),
        second=needs_two,
        wants=wants,
        proposal=confirms,
    )


def _consequence(act: str, place: str, path: str, graph: Graph | None, found: Activity | None) -> str:
    name = path.rpartition("/")[2] or "the message"
    node = graph.nodes.get(node_path(place[1:])) if graph is not None else None
    whom = _whom(node, undo=place[0] == "~")
    command = str((found.command or {}).get("type", "")).rpartition(".")[2] if found is not None else ""
    again = {
        "+": f"The saga calls the code of {name} again, as it is installed now. Nothing is sent before that.",
        "-": f"The saga calls the code of {name} again, as it is installed now. Nothing is sent before that.",
        "!": f"{command or name} is sent to {whom} again. If {whom} did it before under the same key, it answers with"
        " what it did then and does nothing twice.",
        "?": f"{whom} is asked once more what became of {name}.",
        "~": f"The undo of {name} is sent to {whom} again, and its attempts start afresh.",
    }
    sentences = {
        "retry": again[place[0]],
        "value": f"The saga goes on with the value that you type in place of what the code of {name} would have given."
        " It is checked against the type, and cannot be changed later.",
        "done": f"The saga takes the undo of {name} as done by you. Nobody is asked to do it."
        if place[0] == "~"
        else f"The saga takes {name} as done, with the reply that you type, and goes on. {whom} is asked nothing: make"
        " sure that it was really done.",
        "not_done": f"{whom} is asked to refuse this command for ever. Once it confirms, {name} counts as failed and"
        " the saga goes the way that it goes then. If it had been done after all, the saga takes its reply.",
        "skip": f"The effect of {name} STAYS. The saga goes on as if it were undone, and nothing will undo it later.",
        "take_over": f"{whom} is asked to refuse the undo of {name} from now on. Then it is yours: undo it outside, and"
        " say so here; or give it back.",
        "give_back": f"The undo of {name} goes back into the plan and is sent to {whom} anew.",
        "settle": f"Nobody can ever ask {whom} what became of {name}. What two people say from evidence is taken as the"
        " truth, and nobody can heal a wrong one.",
    }
    return sentences[act]


def _whom(node: Any, *, undo: bool) -> str:
    if isinstance(node, StepNode):
        return (node.undo_participant if undo else "") or node.participant
    return f"saga {node.child}" if isinstance(node, CallNode) else "the participant"


@dataclass(frozen=True, slots=True)
class Undoing:
    """What a turn back would do now. `cannot`: done, and without an undo. `unknown`: asked, and not answered yet."""

    items: Sequence[tuple[str, str]]
    cannot: Sequence[str]
    unknown: Sequence[str]


def undoing(state: State, graph: Graph | None, plan: Sequence[tuple[str, str]]) -> Undoing:
    """The undo plan with what it leaves out. `plan`: (activity, command), first to last."""
    cannot, unknown = [], []
    planned = {activity for activity, _ in plan}
    for name, found in state.activities.items():
        if found.kind not in ("step", "call") or found.reads or state.ended:
            continue
        if found.unsettled:
            unknown.append(name)
        elif found.stands and name not in planned and not found.undoable:
            cannot.append(name)
    return Undoing(tuple(plan), tuple(cannot), tuple(unknown))

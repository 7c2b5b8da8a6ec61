"""What people do with an open task beside deciding it: claim, release, delegate, reassign, comment, attach.

Rules of this file
- None of it decides anything, and none of it gives a right that was not there: a claim is a courtesy with a visible
  holder, a substitute has the right of the one who named them, and who reassigns a task may not decide it; nor does
  anybody reassign it who was excluded from it or has voted.
- A task whose time is over takes none of it. What says nothing new is no record.
"""

from __future__ import annotations

import re
from typing import Any

from orchestrator.kernel.graph import TaskNode
from orchestrator.kernel.inputs import TaskAct
from orchestrator.kernel.ladder import extended
from orchestrator.kernel.state import TaskState
from orchestrator.kernel.tasks import open_one
from orchestrator.kernel.turn import Turn
from orchestrator.kernel.voices import Voice, barred, earlier_voters, voices

COMMENTS_MAX, EDITS_MAX, ATTACHMENTS_MAX, DELEGATIONS_MAX = 200, 20, 50, 50
TEXT_CHARACTERS_MAX, TITLE_CHARACTERS_MAX, URL_CHARACTERS_MAX = 4_000, 200, 2_000
PEOPLE_MAX = 50
_LINK = re.compile(
    r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[1-9][0-9]{0,4})?(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?"
)


def task_act(turn: Turn, act: TaskAct) -> None:
    """One act of one person: it counts, or it is refused with the rule's name."""
    found = open_one(turn, act.activity)
    if found is None:
        return
    assert found.task is not None
    if act.received_at >= found.task.expires and not extended(turn, act.activity, act.received_at):
        turn.refuse("expired", "the time of this task is over")
        return
    task = turn.state.activities[act.activity].task
    assert task is not None
    _ACTS[act.act](turn, act, task)


def _claim(turn: Turn, act: TaskAct, task: TaskState) -> None:
    if not _may(turn, act, task):
        return
    if task.claim is None:
        turn.emit("task.claimed", act.activity, by=act.by, at=turn.now)
    elif task.claim["by"] != act.by:
        by = task.claim["by"]
        turn.refuse("claimed_already", f"{by} works on this task; a claim keeps nobody from deciding it", by=by)


def _release(turn: Turn, act: TaskAct, task: TaskState) -> None:
    if task.claim is None:
        turn.refuse("not_claimed", "nobody has claimed this task")
    elif task.claim["by"] != act.by and not act.steers:
        turn.refuse("not_holder", f"only {task.claim['by']} or an operator may release this task", by=task.claim["by"])
    else:
        turn.emit("task.released", act.activity, by=act.by, held_by=task.claim["by"], reason=act.reason, at=turn.now)


def _delegate(turn: Turn, act: TaskAct, task: TaskState) -> None:
    to = act.to[0].get("person", "") if act.to else ""
    known = next((one for one in task.delegations if one["by"] == act.by), None)
    if not to:
        if known is not None:
            turn.emit(
                "task.delegated", act.activity, by=act.by, to="", roles=[], until=0, reason=act.reason, at=turn.now
            )
        return
    node = turn.node(act.activity)
    assert isinstance(node, TaskNode)
    refusal = barred(turn, Voice(act.by, "", act.roles), task, node)
    until = act.until or task.expires
    if refusal is not None:
        turn.refusal = refusal
    elif to == act.by:
        turn.refuse("invalid", "nobody stands in for themselves")
    elif to in task.excluded or to in task.steered or to in earlier_voters(turn, node):
        turn.refuse("excluded", f"{to} may not decide this task, also not for somebody else", by=to)
    elif until <= act.received_at:
        turn.refuse("invalid", "a delegation must end in the future")
    elif len(task.delegations) >= DELEGATIONS_MAX:
        turn.refuse("too_much", f"a task has at most {DELEGATIONS_MAX} delegations")
    else:
        turn.emit(
            "task.delegated", act.activity, by=act.by, to=to, roles=list(act.roles), until=until, reason=act.reason,
            at=turn.now,
        )  # fmt: skip


def _reassign(turn: Turn, act: TaskAct, task: TaskState) -> None:
    node = turn.node(act.activity)
    assert isinstance(node, TaskNode)
    names = [entry["person"] for entry in act.to if "person" in entry]
    out = next((name for name in names if name in task.excluded or name in earlier_voters(turn, node)), "")
    if not act.steers:
        turn.refuse("not_supervisor", "only an operator may give this task to others")
    elif not act.reason.strip():
        turn.refuse("invalid", "giving a task to others needs a reason")
    elif not act.to or len(act.to) > PEOPLE_MAX:
        turn.refuse("invalid", f"name one to {PEOPLE_MAX} people or roles who shall decide")
    elif act.by in names or any(name in task.steered for name in names):
        turn.refuse("excluded", "who chooses who decides a task may not decide it", by=act.by)
    elif act.by in _takes_part(turn, task, node):
        turn.refuse("excluded", f"{act.by} may not choose who decides this task: four eyes are needed", by=act.by)
    elif out:
        turn.refuse("excluded", f"{out} may not decide this task: four eyes are needed", by=out)
    else:
        turn.emit(
            "task.reassigned", act.activity, by=act.by, to=list(act.to), before=list(task.to), reason=act.reason,
            at=turn.now,
        )  # fmt: skip


def _takes_part(turn: Turn, task: TaskState, node: TaskNode) -> set[str]:
    """Who may not decide this task, or has: the second pair of eyes is not of their choice."""
    voters = {name for cast in task.votes for name in (cast["by"], cast["on_behalf_of"])}
    return voters.union(task.excluded, earlier_voters(turn, node))


def _comment(turn: Turn, act: TaskAct, task: TaskState) -> None:
    if not act.text.strip() or len(act.text) > TEXT_CHARACTERS_MAX:
        turn.refuse("invalid", f"a comment has 1 to {TEXT_CHARACTERS_MAX} characters")
        return
    if act.replaces:
        known = next((one for one in task.comments if one["id"] == act.replaces), None)
        if known is None:
            turn.refuse("not_found", f"this task has no comment {act.replaces}")
        elif known["by"] != act.by:
            turn.refuse("not_author", f"only {known['by']} may rewrite this comment", by=known["by"])
        elif len(known["edits"]) >= EDITS_MAX:
            turn.refuse("too_much", f"a comment is rewritten at most {EDITS_MAX} times")
        elif known["text"] != act.text:
            _commented(turn, act)
    elif len(task.comments) >= COMMENTS_MAX:
        turn.refuse("too_much", f"a task has at most {COMMENTS_MAX} comments")
    else:
        _commented(turn, act)


def _commented(turn: Turn, act: TaskAct) -> None:
    turn.emit("task.commented", act.activity, by=act.by, text=act.text, replaces=act.replaces, at=turn.now)


def _attach(turn: Turn, act: TaskAct, task: TaskState) -> None:
    if not is_link(act.url):
        turn.refuse("invalid", "a link is https://… without a password in it, of at most 2,000 characters")
    elif not act.text.strip() or len(act.text) > TITLE_CHARACTERS_MAX or not act.text.isprintable():
        turn.refuse("invalid", f"a link has a title of 1 to {TITLE_CHARACTERS_MAX} characters")
    elif len(task.attachments) >= ATTACHMENTS_MAX:
        turn.refuse("too_much", f"a task has at most {ATTACHMENTS_MAX} links")
    elif not any((one["url"], one["title"]) == (act.url, act.text) for one in task.attachments):
        turn.emit("task.attached", act.activity, by=act.by, url=act.url, title=act.text, at=turn.now)


def is_link(url: str) -> bool:
    """A link that a page may show: https, a host, nothing invisible, nobody's password."""
    return len(url) <= URL_CHARACTERS_MAX and _LINK.fullmatch(url) is not None


def _may(turn: Turn, act: TaskAct, task: TaskState) -> bool:
    """The act is open only to those who may decide the task, by their own right or as a substitute."""
    node = turn.node(act.activity)
    assert isinstance(node, TaskNode)
    refusals = [barred(turn, voice, task, node) for voice in voices(act, task)]
    if None in refusals:
        return True
    turn.refusal = refusals[0]
    return False


_ACTS: dict[str, Any] = {
    "claim": _claim, "release": _release, "delegate": _delegate, "reassign": _reassign, "comment": _comment,
    "attach": _attach,
}  # fmt: skip

"""Rule 24, continued: a task is claimed, released, given to others, talked about. None of it decides anything."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator import Person, Role, Saga, task
from orchestrator.kernel.api import advance, fold
from orchestrator.kernel.inputs import TaskAct
from orchestrator.kernel.task_acts import ATTACHMENTS_MAX, COMMENTS_MAX, EDITS_MAX, is_link
from orchestrator.testing import (
    APPROVE,
    REJECT,
    Spec,
    arrived,
    attached,
    cancelled,
    claimed,
    commented,
    decided,
    delegated,
    denied,
    elapsed,
    ended,
    given,
    reassigned,
    released,
)
from tests.kernel.trips import WANTED, TripChanged, TripToApprove, TripWanted, customer, of

DAY = timedelta(hours=24)


@task(to=Role("desk"), within=DAY, votes=2, exclude=[customer])
def agree(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
    """Two people agree."""
    return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")


BOTH = Saga("desk_both", version=1, starts_on=TripWanted, flow=[agree.amend_on(TripChanged)])
REQUESTER = "customer of t-1"


def row(spec: Spec) -> dict[str, object]:
    """The open task as lists have it."""
    [found] = spec.world.main.tasks.values()
    return found.data


def test_a_claim_shows_its_holder_and_keeps_nobody_from_deciding() -> None:
    """ADR 30: a courtesy. Somebody who went home with a claim blocks nothing."""
    spec = given(BOTH, WANTED).when(claimed(agree, by="max")).then_nothing()
    assert row(spec)["claim"] == {"by": "max", "at": spec.world.clock}
    spec.when(claimed(agree, by="mia")).then(denied("claimed_already"))
    spec.when(decided(agree, APPROVE, by="mia"))
    [vote] = [record.data["vote"] for record in of(spec, "task.voted")]
    assert vote["claimed_by"] == "max", "the evidence says over whose claim"
    spec.when(decided(agree, APPROVE, by="max")).then(ended())
    assert "claimed_by" not in of(spec, "task.voted")[1].data["vote"]


def test_a_claim_twice_is_one_record() -> None:
    """What says nothing new is no record."""
    spec = given(BOTH, WANTED, claimed(agree, by="max"), claimed(agree, by="max"))
    assert len(of(spec, "task.claimed")) == 1


def test_ones_own_vote_ends_ones_claim() -> None:
    """The work is done."""
    spec = given(BOTH, WANTED, claimed(agree, by="max"), decided(agree, APPROVE, by="max"))
    assert "claim" not in row(spec)
    spec.when(claimed(agree, by="mia"))
    assert row(spec)["claim"]["by"] == "mia"  # type: ignore[index]


@pytest.mark.parametrize(
    ("who", "code"), [({"by": REQUESTER}, "excluded"), ({"by": "eve", "roles": ("kitchen",)}, "not_eligible")]
)
def test_only_who_may_decide_a_task_may_claim_it(who: dict[str, object], code: str) -> None:
    """Else a name would stand there that means nothing."""
    given(BOTH, WANTED).when(claimed(agree, **who)).then(denied(code))  # type: ignore[arg-type]


def test_the_holder_or_an_operator_releases_a_claim() -> None:
    """Nobody else, and not what nobody holds."""
    spec = given(BOTH, WANTED).when(released(agree, by="max")).then(denied("not_claimed"))
    spec.when(claimed(agree, by="max")).then_nothing()
    spec.when(released(agree, by="mia")).then(denied("not_holder"))
    spec.when(released(agree, by="olga", operator=True)).then_nothing()
    assert "claim" not in row(spec)
    spec.when(claimed(agree, by="mia"), released(agree, by="mia")).then_nothing()
    assert [record.data["held_by"] for record in of(spec, "task.released")] == ["max", "mia"]


def test_an_operator_gives_a_task_to_others_with_a_reason() -> None:
    """Those who were asked before are not asked any more."""
    spec = given(BOTH, WANTED, claimed(agree, by="max"))
    spec.when(reassigned(agree, by="olga", to=[Person("ann"), Role("lead")])).then_nothing()
    assert row(spec)["to"] == [{"person": "ann"}, {"role": "lead"}]
    assert "claim" not in row(spec)
    spec.when(decided(agree, APPROVE, by="max", roles=("desk",))).then(denied("not_eligible"))
    spec.when(decided(agree, APPROVE, by="ann", roles=())).then_nothing()
    spec.when(decided(agree, APPROVE, by="bob", roles=("lead",))).then(ended())
    [record] = of(spec, "task.reassigned")
    assert (record.data["before"], record.data["reason"]) == ([{"role": "desk"}], "they know it better")


def test_reassigning_needs_an_operator_a_reason_and_people() -> None:
    """C13: who decides changes by a record, never quietly."""
    to = Person("ann")
    given(BOTH, WANTED).when(reassigned(agree, by="max", to=to, operator=False)).then(denied("not_supervisor"))
    given(BOTH, WANTED).when(reassigned(agree, by="olga", to=to, reason=" ")).then(denied("invalid"))
    given(BOTH, WANTED).when(reassigned(agree, by="olga", to=[])).then(denied("invalid"))
    given(BOTH, WANTED).when(reassigned(agree, by="olga", to=Person(REQUESTER))).then(denied("excluded"))


def test_who_chose_who_decides_does_not_decide() -> None:
    """Else an operator could name themselves, or a friend with whom they swap."""
    given(BOTH, WANTED).when(reassigned(agree, by="olga", to=Person("olga"))).then(denied("excluded"))
    spec = given(BOTH, WANTED, reassigned(agree, by="olga", to=Role("desk")))
    spec.when(decided(agree, APPROVE, by="olga", roles=("desk",))).then(denied("excluded"))
    spec.when(reassigned(agree, by="piet", to=Person("olga"))).then(denied("excluded"))
    spec.when(delegated(agree, by="max", to="olga")).then(denied("excluded"))


def test_who_may_not_decide_a_task_does_not_choose_who_decides_it_either() -> None:
    """Four eyes: whoever asked for it, or has voted, would pick the second pair themselves."""
    to = Person("ann")
    given(BOTH, WANTED).when(reassigned(agree, by=REQUESTER, to=to)).then(denied("excluded"))
    voted = decided(agree, APPROVE, by="olga", roles=("desk",))
    given(BOTH, WANTED, voted).when(reassigned(agree, by="olga", to=to)).then(denied("excluded"))
    stood_in = delegated(agree, by="olga", to="max", roles=("desk",)), decided(agree, APPROVE, by="max", roles=())
    given(BOTH, WANTED, *stood_in).when(reassigned(agree, by="olga", to=to)).then(denied("excluded"))
    changed = arrived(TripChanged(trip="t-1", note="two beds"))
    given(BOTH, WANTED, voted, changed).when(reassigned(agree, by="olga", to=to)).then_nothing()
    spec = given(BOTH, WANTED).when(reassigned(agree, by="piet", to=to)).then_nothing()
    assert row(spec)["to"] == [{"person": "ann"}]


def test_a_comment_keeps_what_it_said_before() -> None:
    """A person rewrites their own; the history stays on the task and in the stream."""
    spec = given(BOTH, WANTED, commented(agree, "looks odd", by="max"))
    [said] = row(spec)["comments"]  # type: ignore[misc]
    spec.when(commented(agree, "looks fine", by="max", replaces=said["id"])).then_nothing()  # type: ignore[has-type]
    [now] = row(spec)["comments"]  # type: ignore[misc]
    assert (now["text"], [edit["text"] for edit in now["edits"]]) == ("looks fine", ["looks odd"])  # type: ignore[has-type]
    spec.when(commented(agree, "no!", by="mia", replaces=now["id"])).then(denied("not_author"))  # type: ignore[has-type]
    spec.when(commented(agree, "no!", by="max", replaces=999)).then(denied("not_found"))
    assert [record.data["text"] for record in of(spec, "task.commented")] == ["looks odd", "looks fine"]


@pytest.mark.parametrize("text", ["", "   ", "x" * 4_001])
def test_a_comment_says_something_and_not_too_much(text: str) -> None:
    """Limits are rules."""
    given(BOTH, WANTED).when(commented(agree, text, by="max")).then(denied("invalid"))


def test_comments_rewrites_and_links_have_limits() -> None:
    """A stream does not grow without end."""
    spec = given(BOTH, WANTED, *(commented(agree, f"{number}", by="max") for number in range(COMMENTS_MAX)))
    spec.when(commented(agree, "more", by="max")).then(denied("too_much"))
    first = row(spec)["comments"][0]["id"]  # type: ignore[index]
    spec.when(*(commented(agree, f"again {n}", by="max", replaces=first) for n in range(EDITS_MAX))).then_nothing()
    spec.when(commented(agree, "once more", by="max", replaces=first)).then(denied("too_much"))
    spec.when(
        *(attached(agree, f"https://x.example/{n}", "a", by="max") for n in range(ATTACHMENTS_MAX))
    ).then_nothing()
    spec.when(attached(agree, "https://x.example/", "b", by="max")).then(denied("too_much"))


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://files.example/case/1?page=2#top", True),
        ("https://files.example:8443", True),
        ("http://files.example/", False),
        ("javascript:alert(1)", False),
        ("https://", False),
        ("https://user:secret@files.example/", False),
        ("https://files.example@evil.example/", False),
        ("https://files.example/\u202egpj.exe", False),
        ("https://files.example/a b", False),
        ("https://files.example/\n", False),
        ('https://files.example/"><script>', False),
        ("https://files.example/" + "x" * 2_000, False),
    ],
)
def test_a_link_is_https_and_shows_where_it_leads(url: str, fits: bool) -> None:
    """Nothing invisible, nobody's password, no other scheme."""
    assert is_link(url) is fits
    spec = given(BOTH, WANTED).when(attached(agree, url, "the case", by="max"))
    assert len(of(spec, "task.attached")) == fits


def test_nothing_of_it_moves_a_task_that_is_closed_or_whose_time_is_over() -> None:
    """Rule 24: closing is one record; anything after it is refused."""
    for act in (
        claimed(agree, by="mia"),
        released(agree, by="mia"),
        delegated(agree, by="mia", to="max"),
        reassigned(agree, by="olga", to=Person("ann")),
        commented(agree, "late", by="mia"),
        attached(agree, "https://x.example", "x", by="mia"),
    ):
        given(BOTH, WANTED, decided(agree, REJECT, by="max")).when(act).then(denied("already_decided"))
        given(BOTH, WANTED, cancelled("ann", "enough")).when(act).then(denied("withdrawn"))
        given(BOTH, WANTED, elapsed(hours=24)).when(act).then(denied("expired"))


def test_an_act_at_the_due_time_finds_it_over_although_no_timer_has_fired() -> None:
    """And leaves the record of that to the timer or to a vote."""
    spec = given(BOTH, WANTED)
    [due] = [found.due for found in spec.world.main.tasks.values()]
    turn = advance(BOTH.program, spec.state, TaskAct("agree", "claim", "max", ("desk",), due), due)
    assert turn.refusal is not None
    assert (turn.refusal.code, turn.records) == ("expired", [])


def test_an_amendment_voids_votes_and_nothing_else() -> None:
    """Claim, comments, links and substitutes are about the task, not about one version of what is shown."""
    spec = given(
        BOTH, WANTED, claimed(agree, by="max"), commented(agree, "hm", by="mia"), decided(agree, APPROVE, by="ida"),
        attached(agree, "https://x.example", "x", by="mia"), delegated(agree, by="max", to="eve"),
        arrived(TripChanged(trip="t-1", note="two beds")),
    )  # fmt: skip
    task_ = fold(spec.world.main.records).activities["agree"].task
    assert task_ is not None
    assert (task_.round, task_.votes, len(task_.void), task_.amended_at) == (2, [], 1, spec.world.clock)
    assert (task_.claim or {})["by"] == "max"
    assert (len(task_.comments), len(task_.attachments), len(task_.delegations)) == (1, 1, 1)

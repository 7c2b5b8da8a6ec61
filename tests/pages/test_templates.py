"""Templates hold no style, script or handler of their own, and every state of a page can be drawn."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

import orchestrator.pages
from orchestrator.api.problems import PROBLEMS
from orchestrator.api.sign_in import Choices
from orchestrator.api.views import Actor, RefusedError, TaskView
from orchestrator.identity.keeping import LocalUser
from orchestrator.pages.assets import assets
from orchestrator.pages.consequences import Consequence, Effect
from orchestrator.pages.forms import Wrong, fields_of
from orchestrator.pages.inbox import Filter, Listing, gone_words, row_of
from orchestrator.pages.profile import Profile
from orchestrator.pages.subject import amount_of, facts_of, party_of
from orchestrator.pages.task_facts import Event, changes
from orchestrator.pages.task_pages import Typed
from tests.pages.rendered import MARIA, NOW, flaws, rendered, shell, task

FOLDER = Path(orchestrator.pages.__file__).parent / "templates"
TEMPLATES = sorted(FOLDER.rglob("*.html"))
FORBIDDEN = {
    "a style of its own": re.compile(r"\sstyle\s*=|<style", re.IGNORECASE),
    "a handler": re.compile(r"\son[a-z]+\s*=\s*[\"']|\shx-on|javascript:|\bjs:", re.IGNORECASE),
    "a script of its own": re.compile(r"<script(?![^>]*\bsrc=\"\{\{ asset\()[^>]*>", re.IGNORECASE),
    "somebody else's host": re.compile(r"""(?:src|href)=["'](?:https?:)?//""", re.IGNORECASE),
    "text that is not escaped": re.compile(r"\|\s*safe\b|autoescape false"),
}


def violations(text: str) -> list[str]:
    """What a template may not hold."""
    return [name for name, pattern in FORBIDDEN.items() if pattern.search(text)]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_template_holds_nothing_that_the_policy_forbids(template: Path) -> None:
    """The browser would block it; nobody should find out there."""
    assert violations(template.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        '<p style="color:red">', "<style>p{}</style>", '<a onclick="x()">', '<a hx-on:click="x">',
        '<a href="javascript:x">', "<script>x()</script>", '<script src="https://cdn.example/x.js"></script>',
        '<img src="//cdn.example/x.png">', "{{ reason | safe }}",
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(text: str) -> None:
    """Each kind."""
    assert violations(text)


def test_assets_are_named_by_their_content_and_are_all_there() -> None:
    """What templates ask for exists; icons that they name are in the sprite."""
    found = assets()
    assert all(
        re.fullmatch(r"/office/assets/[a-z]+\.[0-9a-f]{12}\.(css|js|svg|txt)", each.url) for each in found.values()
    )
    sprite = found["icons.svg"].body.decode()
    there = set(re.findall(r'<symbol id="([a-z0-9-]+)"', sprite))
    named = {
        name for path in TEMPLATES for name in re.findall(r'icon\("([a-z0-9-]+)"', path.read_text(encoding="utf-8"))
    }
    assert named <= there, named - there
    assert b"ISC License" in found["licences.txt"].body
    assert b"Zero-Clause BSD" in found["licences.txt"].body


def facts(view: TaskView, **changes: Any) -> dict[str, Any]:
    """What the page of a task gets."""
    usual: dict[str, Any] = {
        "task": view, "headline": "Manager approval", "about": party_of(view.shown), "facts": facts_of(view.shown),
        "amount": amount_of(view.shown, view.amount), "consequences": CONSEQUENCES, "expiry": CONSEQUENCES[-1],
        "fields": fields_of(view.form_schema), "reason_required": False, "history": HISTORY,
        "undo_plan": ["hold funds"], "typed": Typed(), "changed": (), "problem": None, "form_key": "key",
        "done": "", "gone": gone_words(view),
        "seen": view.subject_hash, "votes": 0, "moved": "", "sign_in_again": "/office/login", "steers": False,
        "can_see_saga": True,
        "second_look": False,
    }  # fmt: skip
    return {**usual, **changes}


PAY = Effect("asks", "Pay.", facts_of({"amount": "5.00", "currency": "EUR", "to": "x"}), irrevocable=True)
KINDS = ("asks", "undoes", "tells", "person", "waits", "state", "ends", "counts", "stuck", "turns", "child")
CONSEQUENCES = (
    Consequence("approve", (PAY,), ("others are told: paid",)),
    Consequence("reject", tuple(Effect(kind, f"{kind}.") for kind in KINDS), exact=False),
    Consequence("", ()),
)
HISTORY = (
    Event(NOW, "idle", "Asked of group manager", "", 4),
    Event(NOW, "info", "Voted: approve", "bert", 5, "fine", (("Groups then", "manager"),)),
)
DECIDED = {"answer": {"outcome": "approve"}, "by": {"id": "bert"}}
COMMENT = {"id": 7, "by": "maria", "at": NOW, "text": "hm", "edits": [{"text": "h", "at": NOW}]}
RICH = {
    "properties": {
        "outcome": {"enum": ["full", "none"]},
        "rationale": {"type": "string", "minLength": 5, "maxLength": 500, "description": "why"},
        "percent": {"type": "integer", "minimum": 1, "maximum": 100},
        "charge": {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]},
        "press": {"type": "boolean"}, "kind": {"enum": ["a", "b"]}, "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"}, "tags": {"type": "array", "items": {"type": "string"}},
        "more": {"type": "object"}, "home": {"properties": {"street": {"type": "string"}}, "required": ["street"]},
    },
    "required": ["outcome", "rationale"],
}  # fmt: skip
REFUSED = ("excluded", "already_decided", "expired", "subject_changed", "reauth", "over_limit")
STATES: dict[str, dict[str, Any]] = {
    "open": facts(task()),
    "claimed, delegated, escalated, amended": facts(
        task(
            claimed_by="maria", claimed_at=NOW, delegated=({"by": "asha", "to": "maria", "until": NOW, "reason": ""},),
            escalations=(
                {"level": 1, "at": NOW, "to": [{"role": "head"}], "done": True, "reset_sla": False},
                {"level": 2, "at": NOW, "to": [{"person": "ceo"}], "done": False, "reset_sla": True},
            ),
            round=2, void_votes=1, amended_at=NOW, sla="at risk", position="first of two", votes_needed=2,
            comments=(COMMENT,), attachments=({"by": "x", "at": NOW, "url": "https://x.example/", "title": "s"},),
            authority="6000 INR; manager up to 10000 INR",
        ), steers=True,
    ),
    "overdue": facts(task(due=NOW - timedelta(minutes=12), sla="overdue")),
    "not for me": facts(task(may_decide=False, why="excluded: four eyes are needed")),
    "decided": facts(task(state="decided", decision=DECIDED, votes=({"reason": "ok", "by": "bert"},), sla="")),
    "expired": facts(task(state="expired", sla="")),
    "withdrawn": facts(task(state="withdrawn", sla=""), moved="withdrawn"),
    "no due time, nothing shown": facts(task(due=None, shown=None, form_schema=None), expiry=None, history=()),
    "a form of many kinds": facts(task(form_schema=RICH, outcomes=("full", "none"))),
    "what was typed is wrong": facts(
        task(form_schema=RICH),
        typed=Typed("approve", "r", {"form.percent": "400"}, "x", [Wrong("form-percent", "Percent: at most 100.")]),
    ),
    "changed": facts(
        task(), changed=changes({"amount": "5.00", "currency": "INR", "gone": "x"}, task().shown), moved="changed",
        typed=Typed(seen="old"),
    ),
    "draft": facts(task(), typed=Typed("approve", "half", {}, "", saved="2026"), done="Your comment is recorded."),
    **{
        f"refused: {code}": facts(task(), typed=Typed(refusal=RefusedError(code, "no")), problem=PROBLEMS.get(code))
        for code in REFUSED
    },
}  # fmt: skip


def test_a_button_repeats_the_amount_only_where_the_form_cannot_decide_on_another() -> None:
    """Half of a refund is no refund of all that is shown."""
    plain = rendered("tasks/show.html", MARIA, **STATES["open"])
    partly = rendered("tasks/show.html", MARIA, **STATES["a form of many kinds"])
    said = re.compile(r'data-button="([^"]*)"')
    assert any("6,000.00" in words for words in said.findall(plain)), said.findall(plain)
    assert said.findall(partly)
    assert not any("6,000.00" in words for words in said.findall(partly)), said.findall(partly)


@pytest.mark.parametrize("state", STATES)
def test_a_task_is_drawn_in_every_state(state: str) -> None:
    """Nothing undefined, nothing unclosed, no id twice; the confirming page and the live part, too."""
    for actor in (MARIA, Actor("odd\u202e", capacities=frozenset({"operator", "viewer"}))):
        text = rendered("tasks/show.html", actor, **STATES[state])
        assert flaws(text) == [], state
        assert "manager_approval" not in text.partition("<main")[2].partition("orchestrator task show")[0].replace(
            "saga-1%3Amanager_approval", ""
        ).replace("saga-1:manager_approval", ""), "names in code are told in words"
    given = STATES[state]
    names = ("task", "headline", "about", "facts", "amount")
    confirm: dict[str, Any] = {name: given[name] for name in names}
    confirm |= {"consequence": CONSEQUENCES[0], "key": "k", "filled": [(field, "x") for field in given["fields"]]}
    confirm["typed"] = replace(given["typed"], outcome="approve")
    assert flaws(rendered("tasks/confirm.html", **confirm)) == []
    for moved in ("", "changed", "voted"):
        assert flaws(rendered("tasks/now.html", task=given["task"], seen="x", votes=0, moved=moved, gone="x")) == []


def test_an_undefined_name_is_an_error_and_no_empty_space() -> None:
    """A page is right or not at all."""
    with pytest.raises(UndefinedError):
        rendered("tasks/show.html", **{**STATES["open"], "task": {}})


LISTS = {
    "full": Listing([row_of(task()), replace(row_of(task(claimed_by="bert")), gone="expired", twin="TRF-1")], "next"),
    "stopped": Listing([row_of(task(votes_needed=2, shown={}))], "next", 4_000),
    "empty": Listing(()),
}


@pytest.mark.parametrize("listing", LISTS)
@pytest.mark.parametrize("tab", ["me", "claimed", "groups", "others", "all"])
@pytest.mark.parametrize("narrow", [False, True])
def test_the_inbox_is_drawn_in_every_state(listing: str, tab: str, narrow: bool) -> None:
    """Each tab, full, filtered and empty: an empty list and a filter that finds nothing say different things."""
    wanted = Filter(tab=tab, text="x" if narrow else "", cursor="c")
    around = shell(profile=Profile(locale="en_IN", zone="Asia/Kolkata", theme="dark", shortcuts=narrow))
    given: dict[str, Any] = {
        "wanted": wanted, "listing": LISTS[listing], "counts": {"me": "4"}, "tabs": [("For me", "/x", True, "4")],
        "new": 2, "kinds": ["transfer"], "views": (), "rows_url": "/r", "here": "/h", "done": (),
    }  # fmt: skip
    text = rendered("inbox/list.html", around=around, **given)
    assert flaws(text) == []
    assert ("No task matches" in text) == (listing == "empty" and narrow)
    assert "2 new" in text


def test_the_sign_in_is_drawn_in_every_state() -> None:
    """With a provider, with people of a demonstration, with neither, and after a failure."""
    people = (LocalUser("asha", "Asha Rao", ("finance",), frozenset({"approver"}), "Finance"),)
    for choices in (
        Choices("/office/login/provider", (), "/office"),
        Choices("", (*people, replace(people[0], id="b", password_hash="asked for")), "/office", "That did not work."),
        Choices("", (), "/office"),
    ):
        text = rendered("sign_in.html", Actor(""), choices=choices)
        assert flaws(text) == []
        assert "Sign out" not in text

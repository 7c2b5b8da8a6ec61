"""Templates without a product: a page from facts alone, for every state that is hard to bring about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from orchestrator.api.views import Actor, TaskView
from orchestrator.pages.formats import Reader
from orchestrator.pages.profile import Profile
from orchestrator.pages.shell import NAVIGATION, places_for
from orchestrator.pages.site import Shell, templates

NOW = datetime(2026, 11, 20, 9, 41, 7, tzinfo=UTC)
MARIA = Actor("maria", ("manager",), "oidc", name="Maria Lopez", capacities=frozenset({"approver"}))
VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
# What may stand inside svg without an end of its own.
SVG = frozenset({"path", "circle", "rect", "line", "polyline", "use"})


def shell(actor: Actor = MARIA, **changes: Any) -> Shell:
    """What stands around a page."""
    known = frozenset(place.path for place in NAVIGATION)
    usual = Shell(
        environment="production",
        tenant="retail",
        actor=actor,
        name=actor.name,
        capacities=actor.capacities,
        places=places_for(actor, known),
        path="/office/inbox",
        here="/office/inbox",
        profile=Profile(),
        as_of=NOW,
        position=184_220,
        csrf_token="token",
    )
    return replace(usual, **changes)


def rendered(template: str, actor: Actor = MARIA, *, around: Shell | None = None, **facts: Any) -> str:
    """A template's text. Raises jinja2.UndefinedError for a name that is not there."""
    found = around or shell(actor)
    reader = Reader(found.profile.locale, found.profile.zone, found.as_of)
    text: str = templates().get_template(template).render({**facts, "shell": found, "fmt": reader, "request": None})
    return text


def task(**changes: Any) -> TaskView:
    """A task as its page gets it."""
    usual = TaskView(
        id="saga-1:manager_approval",
        saga_id="saga-1",
        saga_name="transfer",
        business_key="TRF-88",
        activity="manager_approval",
        state="open",
        shown={"amount": "6000.00", "currency": "INR", "recipient": "Kiran N.", "threshold": "5000.00"},
        form_schema={"properties": {"outcome": {"enum": ["approve", "reject"]}, "reason": {"type": "string"}}},
        outcomes=("approve", "reject"),
        to=({"role": "manager"}, {"person": "asha"}),
        excluded=("ravi", "kiran"),
        votes=(),
        votes_needed=1,
        subject_hash="ab" * 32,
        opened_at=NOW - timedelta(hours=1),
        due=NOW + timedelta(minutes=49),
        help="Approve the transfer if the recipient is known.",
        expires=NOW + timedelta(minutes=49),
        sla="in time",
        may_decide=True,
        why="you are manager",
        may_decide_for=("maria",),
    )
    return replace(usual, **changes)


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.wrong.append(f"<{tag}> has an attribute twice: {names}")
        if tag not in VOID and not (tag in SVG and "svg" in self.open):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag in SVG and tag not in self.open:
            return
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> closes {self.open[-3:]}")
            return
        self.open.pop()


def flaws(text: str) -> list[str]:
    """Elements that are not closed where they should be, attributes and ids that are there twice."""
    found = _Balance()
    found.feed(text)
    twice = sorted({each for each in found.ids if found.ids.count(each) > 1})
    left = [f"never closed: {found.open}"] if found.open else []
    return [*found.wrong, *left, *(f"id twice: {each}" for each in twice)]

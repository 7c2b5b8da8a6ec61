"""The words of notices: every kind has some, nothing of the case is in them, and nothing in them is code."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.notices.plan import KINDS
from orchestrator.notices.texts import Texts, due_text, single_id
from tests.notices.samples import AT, FACTS, told


def base_url() -> str:
    """Where the pages are; an end slash makes no difference."""
    return "https://office.bank.example/"


@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_every_kind_has_its_words(kind: str) -> None:
    """A subject that says what to do, a sentence, the title, the link."""
    found = Texts(base_url).notice(told(kind=kind, due=AT, language="en-IN", zone="Asia/Kolkata"))
    assert found.subject.endswith("Approval")
    assert len(found.subject) > len("Approval")
    for body in (found.text, found.html):
        assert "https://office.bank.example/office/tasks/3f0c:approval" in body
        assert "Sat, 22 Nov, 2025, 14:00 IST (UTC+05:30)" in body
        assert "TR-1001" not in body
    assert found.text.splitlines()[0].endswith(".")
    assert "business_key" not in found.facts


def test_a_business_key_is_shown_only_where_the_installation_says_so() -> None:
    """And on the broker, where it is on every message anyway."""
    shown = Texts(base_url, show_key=True).notice(told())
    assert shown.subject == "To decide: Approval (TR-1001)"
    assert "TR-1001" in shown.text
    assert Texts(base_url).notice(told(channel="event")).facts["business_key"] == "TR-1001"


def test_what_somebody_wrote_is_never_markup() -> None:
    """A title with tags, quotes, line ends and template signs in it."""
    evil = "<script>alert(1)</script>\r\nBcc: x {{ 7*7 }} {% raw %} \"'"
    found = Texts(base_url, show_key=True).notice(
        told(facts={**FACTS, "title": evil, "business_key": evil, "saga": evil})
    )
    assert "<script>" not in found.html
    assert "{{ 7*7 }}" in found.text
    assert "\n" not in found.subject
    assert "\r" not in found.text


def test_a_task_id_stays_inside_its_link() -> None:
    """Loops and odd names have signs that mean something in URLs."""
    found = Texts(base_url).notice(told(facts={**FACTS, "task": "3f0c:lines[1]~1a?b#c/../d"}))
    assert "/office/tasks/3f0c:lines%5B1%5D~1a%3Fb%23c%2F..%2Fd" in found.text


def test_an_id_is_of_record_recipient_and_channel_and_of_nothing_else() -> None:
    """Sent again with other words, or to a corrected address, it is the same notice."""
    first = single_id(told())
    same = [told(id=99), told(kind="reminded"), told(address="other@bank.example"), told(planned_at=AT + 1)]
    assert {single_id(row) for row in same} == {first}
    other = [told(version=5), told(saga_id="x"), told(who="person:noel"), told(channel="webhook")]
    assert len({first, *(single_id(row) for row in other)}) == 5


def test_a_digest_has_what_is_due_first_first() -> None:
    """And without a due time last."""
    rows = [
        told(id=n, version=n, due=due, facts={**FACTS, "title": f"T{n}"}) for n, due in ((1, 0), (2, AT + 9), (3, AT))
    ]
    found = Texts(base_url).digest(rows)
    assert [found.text.index(f"T{n}") for n in (3, 2, 1)] == sorted(found.text.index(f"T{n}") for n in (1, 2, 3))
    assert (found.kind, found.subject, len(found.facts["notices"])) == ("digest", "3 notices about tasks", 3)
    assert found.id == Texts(base_url).digest(rows[:2]).id, "that of its first row"


def test_own_templates_win_by_language(tmp_path: Path) -> None:
    """One file for one language; what is not there is ours. A locale that nobody knows is English."""
    (tmp_path / "subject.de.txt").write_text("Zu entscheiden: {{ title }}")
    texts = Texts(base_url, templates=tmp_path)
    assert texts.notice(told(language="de-CH")).subject == "Zu entscheiden: Approval"
    assert texts.notice(told(language="fr")).subject == "To decide: Approval"
    assert texts.notice(told(language="zz-99")).html.count('lang="en"') == 1


def test_a_due_time_is_told_in_the_readers_zone() -> None:
    """With its name and its distance from UTC; an unknown zone is UTC, and says so."""
    assert due_text(AT, "en", "UTC") == "Sat, Nov 22, 2025, 08:30 UTC (UTC+00:00)"
    assert due_text(AT, "de", "Europe/Berlin").endswith("09:30 CET (UTC+01:00)")
    assert due_text(AT, "en", "America/Sao_Paulo").endswith("05:30 (UTC-03:00)")
    assert due_text(AT, "en", "Mars/Olympus").endswith("(UTC+00:00)")

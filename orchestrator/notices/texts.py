"""The words of notices: subject, plain text and HTML, in the recipient's language and time zone.

Rules of this file
- A mail says that there is something to decide, not what: the task's title, its process, when it is due, and a link.
  A business key stands in it only where the installation says that it is no secret.
- Templates are plain Jinja files; an installation may lay its own beside them (`notice.de.txt` for one language,
  `notice.txt` for all). In HTML everything is escaped; a name that no template has stops the rendering.
- Instants are shown in the recipient's zone, with its name and offset: "due at ten" must not be guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, select_autoescape

from orchestrator.notices.contract import Channel, Kind, Notice
from orchestrator.notices.preferences import instant
from orchestrator.notices.words import SUBJECT_CHARACTERS_MAX, line

TASK_PATH = "/office/tasks/"
DIGEST_ITEMS_MAX = 200


@dataclass(frozen=True, slots=True)
class Told:
    """One row of the outbox, as far as words need it. due: microseconds, 0 for none. version: of the record."""

    id: int
    tenant: str
    saga_id: str
    version: int
    activity: str
    kind: Kind
    who: str
    channel: Channel
    address: str
    planned_at: int
    due: int = 0
    language: str = "en"
    zone: str = "UTC"
    facts: dict[str, Any] = field(default_factory=dict)  # task, saga, business_key, title, to, at, level, outcome


class Texts:
    """Turns rows of the outbox into notices. link_base: gives where the product's pages are, without a path."""

    def __init__(self, link_base: Callable[[], str], *, show_key: bool = False, templates: Path | None = None) -> None:
        self._link_base, self._show_key = link_base, show_key
        own = [FileSystemLoader(templates)] if templates is not None else []
        self._templates = Environment(
            loader=ChoiceLoader([*own, PackageLoader("orchestrator.notices", "templates")]),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )

    def notice(self, told: Told) -> Notice:
        """One row as one notice."""
        words = self._words(told)
        words["subject"] = self._line("subject", told.language, words)
        words["sentence"] = self._line("sentence", told.language, words)
        return Notice(
            id=single_id(told),
            tenant=told.tenant,
            kind=told.kind,
            who=told.who,
            address=told.address,
            subject=words["subject"],
            text=self._filled("notice", "txt", told.language, words),
            html=self._filled("notice", "html", told.language, words),
            planned_at=told.planned_at,
            facts=self._facts(told),
        )

    def digest(self, several: Sequence[Told]) -> Notice:
        """Rows of one recipient as one notice: those with a due time first, in its order."""
        first = min(several, key=lambda told: told.id)
        if len(several) == 1:
            return self.notice(first)
        items = []
        for told in sorted(several, key=lambda told: (not told.due, told.due, told.id))[:DIGEST_ITEMS_MAX]:
            words = self._words(told)
            items.append({**words, "subject": self._line("subject", told.language, words)})
        words = {"items": items, "language": _locale(first.language).language}
        words["subject"] = self._line("digest_subject", first.language, words)
        return Notice(
            id=_hashed("digest", single_id(first)),
            tenant=first.tenant,
            kind="digest",
            who=first.who,
            address=first.address,
            subject=words["subject"],
            text=self._filled("digest", "txt", first.language, words),
            html=self._filled("digest", "html", first.language, words),
            planned_at=first.planned_at,
            facts={"notices": [{"kind": told.kind, **self._facts(told)} for told in several]},
        )

    def _words(self, told: Told) -> dict[str, Any]:
        return {
            "kind": told.kind,
            "title": line(told.facts.get("title", ""), 120),
            "saga": line(told.facts.get("saga", ""), 100),
            "key": line(told.facts.get("business_key", ""), 100) if self._show_key else "",
            "outcome": line(told.facts.get("outcome", ""), 60),
            "level": told.facts.get("level", 0),
            "due": due_text(told.due, told.language, told.zone) if told.due else "",
            "link": self._link(told),
            "language": _locale(told.language).language,
        }

    def _facts(self, told: Told) -> dict[str, Any]:
        """For machines. The broker is inside, as all business keys are; a webhook may be anywhere."""
        facts = {**told.facts, "saga_id": told.saga_id, "link": self._link(told)}
        facts["due"] = instant(told.due).isoformat().replace("+00:00", "Z") if told.due else None
        if told.channel != "event" and not self._show_key:
            facts.pop("business_key", None)
        return facts

    def _link(self, told: Told) -> str:
        return f"{self._link_base().rstrip('/')}{TASK_PATH}{quote(told.facts.get('task', ''), safe=':~')}"

    def _line(self, name: str, language: str, words: dict[str, Any]) -> str:
        return line(self._filled(name, "txt", language, words), SUBJECT_CHARACTERS_MAX)

    def _filled(self, name: str, kind: str, language: str, words: dict[str, Any]) -> str:
        spoken = _locale(language)
        names = [f"{name}.{spoken}.{kind}", f"{name}.{spoken.language}.{kind}", f"{name}.{kind}"]
        return self._templates.select_template(names).render(words)


def single_id(told: Told) -> str:
    """The id of a notice: of the record that it tells about, its recipient and the channel, and nothing else."""
    return _hashed(told.saga_id, str(told.version), told.who, told.channel)


def due_text(due: int, language: str, zone: str) -> str:
    """An instant as its reader writes it: "Wed, Nov 18, 2026, 17:00 GMT (UTC+00:00)"."""
    at, locale = instant(due).astimezone(_zone(zone)), _locale(language)
    return f"{format_skeleton('yMMMEd', at, locale=locale)}, {format_skeleton('Hm', at, locale=locale)} {_offset(at)}"


def _offset(at: datetime) -> str:
    shift = at.isoformat()[-6:]
    name = at.tzname() or ""
    return f"{name} (UTC{shift})" if name[:1].isalpha() else f"(UTC{shift})"


@cache
def _locale(language: str) -> Locale:
    try:
        return Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError):
        return Locale("en")


def _zone(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _hashed(*parts: str) -> str:
    return "n-" + hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

"""What of a record is personal, and how it is sealed and opened.

Rules of this file
- Personal is every text that says what a field marked `Personal[...]` has held in this saga: the same, one that
  contains it, and one with a word of a name. So what functions compute from personal fields (what approvers are shown,
  reasons, comments, tracebacks) is sealed without anybody's marking it. What cannot be recognised in this way, like
  initials or a hash, its author has to mark.
- Sealed are whole texts, each by itself; numbers and what the kernel steers by (types, places, keys) stay. People who
  act for the bank stay too: who may decide and who did is evidence. The subject's own id is sealed even there.
- A command is sealed when it is built, and stays so in the state: a retry must be the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.personal import PREFIX, TOKEN, broken
from orchestrator.vault.tokens import DataKey, ScopeKey

CONTAINED_MIN = 3  # shorter ones are found only where they stand alone
WORD_MIN = 4
NAMES_MAX = 80  # longer texts are no names: their words are anybody's
FORMS_MAX = 64

# What steers, in a record and in its envelopes. Everything else there, and all that lies deeper, may be personal.
_STRUCTURE = frozenset(
    {
        "activity", "at", "authentication", "business_key", "cause", "event_id", "form", "form_schema", "function",
        "gives", "hash", "key", "kind", "name", "outcome", "outcomes", "participant", "partition_key", "place",
        "purpose", "rejects", "roles", "saga", "saga_id", "shown_type", "state", "takes", "tenant", "topic", "type",
        "under", "wants",
    }
)  # fmt: skip
_ENVELOPES = frozenset({"command", "event", "vote", "votes", "void", "parent", "decision"})
_PEOPLE = frozenset(
    {
        "by", "claim", "delegations", "earlier", "excluded", "held_by", "levels", "limits", "on_behalf_of", "stands_in",
        "steered", "to",
    }
)  # fmt: skip
_PLAIN = frozenset({int, float, bool, type(None)})  # holds no text
_WORD = re.compile(rf"\w{{{WORD_MIN},}}")
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')


@dataclass(slots=True)
class Person:
    """What is known of a saga's subject while it is in memory. `subject`: their id, "" where only the key is known."""

    key_id: str
    subject: str = ""
    exact: set[str] = field(default_factory=set)
    needles: set[str] = field(default_factory=set)
    long: set[str] = field(default_factory=set)
    plain: bool = True  # everything that is looked for stands in JSON as it is

    def note(self, value: Any) -> None:
        """Everything that this holds as text is personal."""
        if isinstance(value, str):
            if value and value not in self.exact and not value.startswith(PREFIX):
                self._add(value)
        elif isinstance(value, Mapping):
            for item in value.values():
                self.note(item)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                self.note(item)
        elif hasattr(value, "model_dump"):
            self.note(value.model_dump())
        elif value is not None and not isinstance(value, (bool, int, float, bytes)):
            try:
                self.note(orjson.loads(canonical_bytes(value)))
            except (TypeError, ValueError):
                self.note(str(value))

    def _add(self, value: str) -> None:
        self.exact.add(value)
        if len(value) < CONTAINED_MIN:
            self.plain = False
            return
        folded = value.casefold()
        self.needles.add(folded)
        if _ESCAPED.search(value):
            self.plain = False
        if len(value) > NAMES_MAX:
            self.long.add(folded)
        elif " " in value:
            self.needles.update(word.casefold() for word in _WORD.findall(value))


@dataclass(slots=True)
class Sealer:
    """Seals what one saga writes: a `Sealing`. `scope`: of the saga."""

    person: Person
    key: DataKey | ScopeKey
    scope: str
    _forms: dict[bytes, Any] = field(default_factory=dict)

    def note(self, value: Any) -> None:
        """This value is personal."""
        self.person.note(value)

    def form(self, plain: Any) -> Any:
        """A plain value as it is written. The same value has the same form as long as this sealer lives."""
        raw = orjson.dumps(plain)
        found = self._forms.get(raw)
        if found is None:
            if len(self._forms) >= FORMS_MAX:
                self._forms.clear()
            found = self._forms[raw] = self._content(plain, "value") if self._touched(raw) else plain
        return found

    def record(self, data: Mapping[str, Any]) -> Any:
        """A record's data, or what a list shows of it, as it is written."""
        return self._envelope(data) if self._touched(orjson.dumps(data)) else data

    def actor(self, actor: str) -> str:
        """Who acts, as it is recorded: the subject themselves by what stands for them, others by their id."""
        person = self.person
        return f"person:{person.key_id}" if person.subject and actor == f"person:{person.subject}" else actor

    def _touched(self, raw: bytes) -> bool:
        """Could anything of it be personal? Most records are not, and need no closer look."""
        person = self.person
        if not person.exact:
            return PREFIX.encode() in raw
        if not person.plain or person.long:
            return True
        text = raw.decode().casefold()
        return PREFIX in text or any(needle in text for needle in person.needles)

    def _personal(self, text: str) -> bool:
        person = self.person
        if text in person.exact or PREFIX in text:
            return True
        if len(text) < CONTAINED_MIN:
            return False
        folded = text.casefold()
        for needle in person.needles:
            if needle in folded:
                return True
        return len(text) > NAMES_MAX // 4 and any(folded in value for value in person.long)

    def _envelope(self, data: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in data.items():
            if name in _STRUCTURE:
                found[name] = value
            elif name in _PEOPLE:
                found[name] = self._people(value, name)
            elif name == "shown":
                found[name] = self.form(value)
            elif name == "body" and _is_sealed_body(value):
                found[name] = value
            elif name in _ENVELOPES:
                found[name] = self._inner(value, name)
            else:
                found[name] = self._content(value, name)
        return found

    def _inner(self, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            if name == "command":  # built and sealed in one go
                return value
            return self._envelope(value)
        if isinstance(value, list):
            return [self._inner(item, name) for item in value]
        return self._content(value, name)

    def _people(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            own = bool(self.person.subject) and value == self.person.subject
            return self.key.seal(value, self.scope, name) if own else value
        if isinstance(value, Mapping):
            return {key: self._people(item, key) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._people(item, name) for item in value]
        return value

    def _content(self, value: Any, name: str) -> Any:
        kind = type(value)  # what comes from JSON is told by its type alone: asking an abstract class costs most here
        if kind is str:
            return self.key.seal(value, self.scope, name) if self._personal(value) else value
        if kind is dict:
            return {key: self._content(item, key) for key, item in value.items()}
        if kind is list:
            return [self._content(item, name) for item in value]
        if kind in _PLAIN:
            return value
        if isinstance(value, str):
            return self.key.seal(value, self.scope, name) if self._personal(value) else value
        if isinstance(value, Mapping):
            return {key: self._content(item, key) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._content(item, name) for item in value]
        return value


def _is_sealed_body(value: Any) -> bool:
    return False if not isinstance(value, Mapping) else any(PREFIX in text for text in texts(value))


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if type(value) in _PLAIN:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def opened(value: Any, open_one: Callable[[str], str], keep: Callable[[str], bool] = lambda _: False) -> Any:
    """A JSON value with what is sealed in it opened. `keep`: names under which it stays as it is, but is looked at."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return open_one(value) if value.startswith(PREFIX) and TOKEN.fullmatch(value) else value
    if isinstance(value, Mapping):
        found = {}
        for name, item in value.items():
            inner = opened(item, open_one, keep)
            found[name] = item if keep(name) else inner
        return found
    if isinstance(value, list):
        return [opened(item, open_one, keep) for item in value]
    return value


def harmless(value: Any) -> Any:
    """A JSON value in which nothing looks sealed."""
    return _broken(value) if PREFIX.encode() in orjson.dumps(value) else value


def _broken(value: Any) -> Any:
    if isinstance(value, str):
        return broken(value)
    if isinstance(value, Mapping):
        return {name: _broken(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_broken(item) for item in value]
    return value

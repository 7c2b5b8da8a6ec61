"""Text from outside, made safe to read: what would not be seen, or would be taken for something else, is marked.

Rules of this file
- Nothing is removed or replaced silently: each such character is shown as what it is, `U+202E right-to-left override`.
- Letters of another script inside an otherwise Latin word are marked: a Cyrillic a looks like ours.
- The result is escaped HTML. Sources: Unicode TR36 and TR39 (mixed scripts), CVE-2021-42574 (bidirectional overrides).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from html import escape

SHOWN_CHARACTERS_MAX = 20_000  # of one value; then its whole length is told beside it

_VISIBLE_SPACE = " \n\t"
_WORD = re.compile(r"\w+")
_LOOK_ALIKE_SCRIPTS = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "FULLWIDTH", "MATHEMATICAL")
_SPACES = {"\u00a0": "", "\u202f": "", "\u2009": ""}  # honest spaces of typographic numbers


class Html(str):
    """Text that is HTML already: templates put it in as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def marked(value: object) -> Html:
    """A value as HTML, in full, with odd characters visible. For anything that a person reads before deciding."""
    text = value if isinstance(value, str) else str(value)
    shown = text[:SHOWN_CHARACTERS_MAX]
    strange = _look_alikes(shown)
    parts = [_one(sign, index in strange) for index, sign in enumerate(shown)]
    if len(text) > len(shown):
        parts.append(_tag(f"{len(text):,} characters, the first {len(shown):,} are shown"))
    return Html(f"<bdi>{''.join(parts)}</bdi>")


def is_odd(text: str) -> bool:
    """True where `marked` would mark something."""
    return bool(_look_alikes(text)) or any(_hidden(sign) for sign in text)


def _one(sign: str, is_look_alike: bool) -> str:
    if _hidden(sign):
        return _tag(f"U+{ord(sign):04X} {_name(sign)}")
    if is_look_alike:
        return escape(sign) + _tag(f"{_name(sign)}")
    return escape(sign)


def _hidden(sign: str) -> bool:
    if sign in _VISIBLE_SPACE or sign in _SPACES or (sign.isascii() and sign.isprintable()):
        return False
    category = unicodedata.category(sign)
    return category in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp") or (category == "Zs" and sign != " ")


def _look_alikes(text: str) -> frozenset[int]:
    """Where letters of other scripts stand in words that hold Latin letters, too."""
    if text.isascii():
        return frozenset()
    found: set[int] = set()
    for word in _WORD.finditer(text):
        scripts = [_script(sign) for sign in word.group()]
        if "LATIN" in scripts:
            found.update(word.start() + at for at, script in enumerate(scripts) if script in _LOOK_ALIKE_SCRIPTS)
        else:
            found.update(
                word.start() + at
                for at, script in enumerate(scripts)
                if script in ("FULLWIDTH", "MATHEMATICAL") and len(set(scripts)) >= 1
            )
    return frozenset(found)


@lru_cache(maxsize=4_096)
def _script(sign: str) -> str:
    """The first word of the character's name, which is its script for letters."""
    return unicodedata.name(sign, "").partition(" ")[0] if sign.isalpha() or not sign.isascii() else ""


def _name(sign: str) -> str:
    return unicodedata.name(sign, "control character").lower()


def _tag(text: str) -> str:
    return f'<span class="odd">{escape(text)}</span>'

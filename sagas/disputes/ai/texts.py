"""Texts that others wrote: which of them speak to a machine, and how they are made fit to be shown.

Rules of this file
- Nobody decides by these patterns that a text is harmless: a text that is found is read by a person, one that is not
  found is still only data to whoever handles it.
"""

from __future__ import annotations

import re
import unicodedata

SENTENCE_CHARACTERS_MAX = 500

# Looked for in the folded text: case, accents, look-alike forms, invisible characters and repeated blanks are gone.
_SPEAKS_TO_MACHINES = re.compile(
    r"(ignore|disregard|forget|override)\W+(\w+\W+){0,4}(instructions?|prompts?|rules|above|previous)"
    r"|(system|developer|assistant)\s*(prompt|message|role)\b"
    r"|\b(system|assistant)\s*:"
    r"|you are (now|no longer)\b"
    r"|(act|behave|respond|answer|pretend)\s+as\s+(if you|an? (ai|model|assistant))"
    r"|\b(classify|mark|rate|score|set)\s+(this|it|the case|my case)\s+(as|to)\b"
    r"|(passed|compliant)\W{1,6}true\b"
    r"|<\|?\s*(im_start|im_end|system|endoftext)"
    r"|\[/?inst\]"
    r"|as an? (ai|language model)"
)


def speaks_to_a_machine(text: str) -> bool:
    """Does the text look as if it were meant for a program that reads it, rather than for a person?"""
    return _SPEAKS_TO_MACHINES.search(folded(text)) is not None


def folded(text: str) -> str:
    """The text as patterns see it: one case, no accents, no invisible characters, single blanks."""
    decomposed = unicodedata.normalize("NFKD", text)
    kept = "".join(sign for sign in decomposed if unicodedata.category(sign) not in ("Mn", "Cf"))
    return " ".join(kept.casefold().split())


def fit_to_show(text: str) -> str:
    """A sentence that may be shown: without control characters and direction marks, and not too long."""
    kept = "".join(sign if unicodedata.category(sign)[0] != "C" else " " for sign in text)
    short = " ".join(kept.split())
    return short if len(short) <= SENTENCE_CHARACTERS_MAX else short[: SENTENCE_CHARACTERS_MAX - 1] + "…"

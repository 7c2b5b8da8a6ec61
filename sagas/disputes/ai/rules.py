"""The default: a naive Bayes classifier trained on bundled examples, and rules that a compliance officer can read.

Rules of this file
- The same text always gives the same answer, on every machine: there is no chance and no clock in it.
- The rules say what to write instead, in a sentence that a relationship manager can act on.
Sources: multinomial naive Bayes with add-one smoothing, as in Manning, Raghavan and Schütze 2008, chapter 13.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

from events.disputes import (
    CaseClassified,
    Category,
    CheckCompliance,
    ClassifyCase,
    ComplianceChecked,
    Finding,
    Priority,
    Severity,
)
from sagas.disputes.ai.texts import folded, speaks_to_a_machine

NAME = "rules-1"
EXAMPLES = Path(__file__).parent / "examples.json"
WORDS_MIN = 12  # of a rationale: fewer cannot say what was looked at, what it shows and what follows
UNSURE = 0.5  # below this, the category is only a guess, and is called so
_LARGE, _VERY_LARGE = Decimal(1_000), Decimal(10_000)

_WORD = re.compile(r"[a-z]{3,}")
_STOP = frozenset(
    {"the", "and", "was", "for", "that", "with", "this", "have", "has", "had", "not", "but", "from", "they", "were"}
    | {"are", "which", "been", "our", "your"}
)

_GRAVE = ("vulnerable", "cannot pay", "eviction", "homeless", "disab", "bereave", "suicid", "hardship", "elderly")
_BAD = ("fraud", "stolen", "scam", "never made", "did not authorise", "unauthorised", "identity", "again and again")
_EVIDENCE = re.compile(
    r"statement|record|receipt|call|log|letter|email|terms|contract|agreement|document|transaction|evidence|history"
)
_REASON = re.compile(r"because|since|therefore|due to|shows?|confirms?|proves?|as a result|so that|which means|found")
_UNFIT = {
    re.compile(r"\b(liar|lying|stupid|idiot|greedy|ridiculous)\b"): "Leave out what judges the customer as a person.",
    re.compile(r"not our problem|nothing we can do|take it or leave it"): "Say what was examined, not that it ends.",
    re.compile(r"(no right|may not|cannot) (to )?(complain|appeal|go to the ombudsman)|waives? (his|her|their|the)"): (
        "The customer keeps the right to go to the Ombudsman: do not deny it."
    ),
    re.compile(
        r"(because|since|due to) (of )?(his|her|their|the customer'?s?)?\s*(age|religion|race|nationality|gender)"
    ): ("A protected characteristic is no reason for a decision."),
}


class RulesEngine:
    """Classifies and checks by counting and by rules; never away, never slow."""

    async def classify(self, case: ClassifyCase, seconds: float) -> CaseClassified:
        """Category by the words, severity by amount, priority and what happened to the customer."""
        likely = _bayes().likely(case.case_summary)
        category, confidence = max(likely.items(), key=lambda item: (item[1], item[0].value))
        suspicious = speaks_to_a_machine(case.case_summary)
        sure = "" if confidence >= UNSURE else "; it is only the likeliest of several"
        return CaseClassified(
            category=category,
            severity=severity_of(case, suspicious=suspicious),
            confidence=round(confidence, 4),
            explanation=f"the words of the complaint fit {category.value.replace('_', ' ')} best{sure}",
            engine=NAME,
            suspicious=suspicious,
        )

    async def check(self, case: CheckCompliance, seconds: float) -> ComplianceChecked:
        """All that is missing at once, so that one more attempt can be enough."""
        feedback = tuple(faults_of(case))
        return ComplianceChecked(passed=not feedback, feedback=feedback, engine=NAME)


def severity_of(case: ClassifyCase, *, suspicious: bool = False) -> Severity:
    """How bad it is: points for what happened, for the amount, and for how it was marked."""
    text = folded(case.case_summary)
    points = 3 * any(word in text for word in _GRAVE) + any(word in text for word in _BAD)
    points += (case.dispute_amount >= _LARGE) + (case.dispute_amount >= _VERY_LARGE)
    points += {Priority.LOW: 0, Priority.MEDIUM: 0, Priority.HIGH: 1, Priority.URGENT: 2}[case.priority]
    points += suspicious
    return (Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)[min(points, 3)]


def faults_of(case: CheckCompliance) -> Iterable[str]:
    """What keeps a rationale from being given to a regulator, each with what to write instead."""
    text = folded(case.rationale)
    if speaks_to_a_machine(case.rationale):
        yield "The rationale speaks to a machine: write it for the customer and the regulator."
    if len(_WORD.findall(text)) < WORDS_MIN:
        yield f"Write at least {WORDS_MIN} words: what you looked at, what it shows, and what follows."
    if not _EVIDENCE.search(text):
        yield "Name what you looked at: a statement, record, call, receipt or contract."
    if not _REASON.search(text):
        yield "Say why this decides the case: 'because', 'this shows', 'therefore'."
    if case.finding == Finding.PARTIAL_REFUND.value and not re.search(r"refund|percent|%|half|part|share|amount", text):
        yield "Say why the customer gets this part back and not all."
    for unfit, remedy in _UNFIT.items():
        if unfit.search(text):
            yield remedy


class NaiveBayes:
    """Counts words by category. `likely` gives each category's probability."""

    def __init__(self, examples: Mapping[Category, Iterable[str]]) -> None:
        texts = {category: list(found) for category, found in examples.items()}
        self._counts = {
            category: Counter(w for text in found for w in words(text)) for category, found in texts.items()
        }
        self._totals = {category: sum(counts.values()) for category, counts in self._counts.items()}
        self._known = {word for counts in self._counts.values() for word in counts}
        number = sum(map(len, texts.values()))
        self._priors = {category: math.log(len(found) / number) for category, found in texts.items()}

    def likely(self, text: str) -> dict[Category, float]:
        """The probability of each category; words that no example has say nothing."""
        known = [word for word in words(text) if word in self._known]
        scores = {
            category: self._priors[category] + sum(map(self._weight(category), known)) for category in self._counts
        }
        highest = max(scores.values())
        raised = {category: math.exp(score - highest) for category, score in scores.items()}
        total = math.fsum(raised.values())
        return {category: value / total for category, value in raised.items()}

    def _weight(self, category: Category) -> Callable[[str], float]:
        counts, total = self._counts[category], self._totals[category] + len(self._known)
        return lambda word: math.log((counts[word] + 1) / total)


def words(text: str) -> list[str]:
    """The words that count, without endings that only grammar needs."""
    return [_stem(word) for word in _WORD.findall(folded(text)) if word not in _STOP]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


@cache
def _bayes() -> NaiveBayes:
    found = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return NaiveBayes({Category(name): texts for name, texts in found.items()})

"""21x: every value has one path (212 comes from the layout, 213 from the roles)."""

from __future__ import annotations

from orchestrator.definition.draft import Draft
from orchestrator.definition.forks import Choose
from orchestrator.definition.functions import choices_of
from orchestrator.definition.layout import Placed
from orchestrator.definition.tasks import Task, outcomes_of
from orchestrator.definition.words import text_of


def check(draft: Draft) -> None:
    """Code 211, and 203 for paths of values that do not exist."""
    values = {use.node.path: choices_of(use.signature.returns) for use in draft.uses if use.role == "test"}
    for node in draft.layout.nodes.values():
        if isinstance(node.word, Choose):
            known = values.get(node.path)
            if known is not None:
                _compare(draft, node, known, set(node.blocks) - {"otherwise"}, "value", frozenset())
        elif isinstance(node.word, Task):
            written = {key.removeprefix("on/") for key in node.blocks if key.startswith("on/")}
            failing = frozenset(text_of(outcome) for outcome in node.word.rejects)
            _compare(draft, node, outcomes_of(node.word.answer), written, "outcome", failing)


def _compare(
    draft: Draft, node: Placed, known: tuple[str, ...], written: set[str], kind: str, failing: frozenset[str]
) -> None:
    """`failing`: outcomes that turn the saga back where they have no path."""
    missing = [value for value in known if value not in written and value not in failing]
    unknown = sorted(written - set(known))
    if missing and "otherwise" not in node.blocks:
        text = f"{node.label}: no path for {kind} {', '.join(missing)}"
        draft.report("ORC211", node.word.place, text, do=f"write .on(…) for {' and '.join(missing)}, or .otherwise(…)")
    if unknown:
        text = f"{node.label}: a path for {', '.join(unknown)}, which is no {kind} of it"
        draft.report("ORC203", node.word.place, text, do=f"use one of {', '.join(known)}")
    told = isinstance(node.word, Task) and node.blocks.get("otherwise")  # as a path that can never be taken
    if "otherwise" in node.blocks and not set(known) - written and not told:
        text = f"{node.label}: .otherwise can never happen, every {kind} has a path"
        draft.report("ORC203", node.word.place, text, do="drop .otherwise")

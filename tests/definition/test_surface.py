"""The one import of authors: every name is a decision."""

from __future__ import annotations

import pkgutil

import orchestrator

WORDS_MAX = 45
CONTRACT_WORDS = {
    "Approval", "Command", "Context", "CustomerView", "Decision", "Done", "Event", "Failure", "Form", "Key", "Money",
    "Person", "Personal", "Refused", "Reply", "Role", "Verdict",
}  # fmt: skip
FLOW_WORDS = {
    "Escalate", "Limit", "Retry", "Saga", "call", "choose", "compute", "delay", "end", "enter", "fail",
    "WorkingTime", "for_each", "keep", "leave", "parallel", "pivot", "publish", "repeat", "scope", "step", "task",
    "wait_for", "when",
}  # fmt: skip


def test_the_surface_is_pinned() -> None:
    assert set(orchestrator.__all__) == CONTRACT_WORDS | FLOW_WORDS
    assert len(orchestrator.__all__) <= WORDS_MAX
    assert list(orchestrator.__all__) == sorted(orchestrator.__all__)


def test_every_word_is_there_and_explains_itself() -> None:
    for name in orchestrator.__all__:
        word = getattr(orchestrator, name)
        if name not in ("Key", "Personal"):  # aliases
            assert word.__doc__, name
            assert not word.__doc__.startswith(f"{name}("), f"{name}: a dataclass's own signature is no explanation"


def test_nothing_else_is_public_by_accident() -> None:
    public = {name for name in vars(orchestrator) if not name.startswith("_")}
    packages = {module.name for module in pkgutil.iter_modules(orchestrator.__path__)}  # once imported
    assert public - set(orchestrator.__all__) <= packages

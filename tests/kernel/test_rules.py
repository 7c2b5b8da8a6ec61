"""Every rule of the kernel has a test that says so, here or where the rule belongs to the runtime or a participant."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RULES = [*map(str, range(1, 34)), *(f"S{number}" for number in range(1, 13)), "S5a"]

# Parts of rules that no pure function can keep: file, rule and what it says, and the test that it is kept by.
ELSEWHERE = (
    ("participants/test_inbox.py", "13: a fence is definite", "fence_before_the_command_refuses_it_for_ever"),
    ("participants/test_inbox.py", "13: an undo first fences", "an_undo_first_fences_what_it_undoes"),
    ("participants/test_inbox.py", "14: a do after its fence", "fence_before_the_command_refuses_it_for_ever"),
    ("participants/test_inbox.py", "15: earlier keys come first", "fence_of_a_later_round_finds_what_an_earlier_one"),
    ("participants/test_outside_keys.py", "19: both keys", "a_person_taking_an_undo_over_fences_both_keys"),
    ("participants/test_outside_lookups.py", "13: outside effects", "bug_fence_ignores_started"),
    ("runtime/test_children.py", "7: one live run", "a_call_that_meets_a_live_run_of_the_same_key_is_refused"),
    ("runtime/test_commits.py", "28: an unknown commit", "it_did_commit_so_nothing_is_decided_twice"),
    ("runtime/test_commits.py", "28: a conflict", "states_in_memory_are_not_believed_afterwards"),
    ("runtime/test_events.py", "23: event and wait pass each other", "event_and_wait_racing_in_two_processes"),
    ("runtime/test_timers.py", "9: unsent commands", "an_attempts_clock_does_not_run_while_its_command"),
    ("runtime/test_timers.py", "31: timers wait for intake", "no_timer_acts_before_intake_has_read_that_far"),
    ("store/test_maintenance.py", "29: orphans", "only_a_live_saga_that_waits_for_nothing_is_an_orphan"),
    ("store/test_postgres.py", "32: time never goes back", "recorded_times_never_go_back_when_the_clock_does"),
)


def cited() -> Iterator[str]:
    """Every rule that a docstring of a test names, as `rule 16c`, `rules 8-12` or `S5`."""
    for path in [*TESTS.glob("kernel/test_*.py"), *TESTS.glob("messages/test_*.py"), *TESTS.glob("testing/test_*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = ast.get_docstring(node) or ""
                yield from re.findall(r"\bS\d+a?\b", text)
                yield from re.findall(r"\b[Rr]ule (\d+)[abc]?\b", text)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_the_subject_of_a_test(rule: str) -> None:
    """Its number stands in a docstring, or in the list of what is tested elsewhere."""
    assert rule in CITED or any(what.partition(":")[0] == rule for _, what, _ in ELSEWHERE)


@pytest.mark.parametrize(("file", "rule", "name"), ELSEWHERE)
def test_what_is_tested_elsewhere_is_tested_there(file: str, rule: str, name: str) -> None:
    """A test that was renamed is followed, not forgotten."""
    assert re.search(rf"def test_\w*{name}", (TESTS / file).read_text(encoding="utf-8")), rule


CITED = frozenset(cited())

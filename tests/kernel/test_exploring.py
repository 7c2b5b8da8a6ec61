"""Random legal flows through a hostile world: they end, they refold, and one seed is one schedule.

Rules of this file
- A test run tries at least 5,000 schedules; `python -m tests.proof.schedules` tries as many as there is time for.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from orchestrator.kernel.api import fold
from orchestrator.testing.exploring import run_schedule
from orchestrator.testing.exploring.faults import WORDS, Rates
from orchestrator.testing.exploring.world import World
from tests.kernel.flows import AIMED, THEMES, scenario
from tests.kernel.mutations.mutation import ROOT

ALL_THEMES = sorted({*THEMES, *AIMED})
FLOWS = 32  # legal ones, of each theme
PER_FLOW = 10
SCHEDULES_MIN = 5_000


def schedules(theme: str, flows: int = FLOWS, per_flow: int = PER_FLOW) -> Iterator[World]:
    """Worlds at the end of their schedules."""
    number = legal = 0
    while legal < flows:
        drawn = scenario(Random(number), theme)
        if drawn is not None:
            legal += 1
            for seed in range(number * 1000, number * 1000 + per_flow):
                yield run_schedule(drawn, seed)
        number += 1


@pytest.mark.parametrize("theme", ALL_THEMES)
def test_every_saga_ends_completed_or_compensated(theme: str) -> None:
    """The checker holds every turn against the rules; after healing nothing is left open (kernel rule 29)."""
    ended: Counter[str] = Counter()
    for world in schedules(theme):
        ended.update(state.phase for state in world.states.values())
    assert set(ended) <= {"completed", "compensated", "tombstoned"}
    assert ended["completed"] >= FLOWS // 4  # a run in which hardly anything succeeds proves nothing


def test_that_is_as_much_as_was_promised() -> None:
    """The floor of one test run."""
    assert len(ALL_THEMES) * FLOWS * PER_FLOW >= SCHEDULES_MIN


def test_every_fault_really_happens() -> None:
    """A fault that never fires proves nothing; each has its words for people."""
    fired: Counter[str] = Counter()
    for theme in ALL_THEMES:
        for world in schedules(theme, flows=6, per_flow=4):
            fired += world.faults.fired
    assert {name for name in WORDS if not fired[name]} == set()
    assert set(WORDS) == set(Rates.__slots__)


def test_a_schedule_is_told_in_words() -> None:
    """What came, who sent it, and what was recorded: no record's inner form, no repr of an input."""
    [world, *_] = schedules("children", flows=1, per_flow=1)
    lines = world.lines()
    assert lines[0].split(maxsplit=1)[1] == "start: flow_contracts.Go, key k" or "start:" in lines[0]
    assert any("-> saga.started" in line for line in lines)
    assert not [line for line in lines if "Answer(" in line or "takes=" in line]


def test_every_prefix_of_a_stream_folds_to_the_state_that_was_used_live() -> None:
    """V12: the world compares after every turn; here each prefix is folded from its first record."""
    for world in schedules("parts", flows=2, per_flow=5):
        for saga, story in world.checker.stories.items():
            records = story.records
            for length in range(0, len(records), 7):
                assert fold(records[:length]).version == length
            assert fold(records).summary() == world.states[saga].summary()


def digest(theme: str, flows: int = 6) -> str:
    """A digest of everything that happened in some schedules, and of the states at their end."""
    found = hashlib.sha256()
    for world in schedules(theme, flows, per_flow=5):
        found.update(repr(world.log).encode())
        found.update(repr([state.summary() for state in world.states.values()]).encode())
    return found.hexdigest()


def test_the_same_seed_gives_the_same_log_bit_for_bit() -> None:
    """What one run finds, another one finds again."""
    assert digest("forks", 3) == digest("forks", 3)


@pytest.mark.parametrize("theme", ["parts", "forks", "hands"])
def test_another_hash_seed_in_another_process_changes_nothing(theme: str) -> None:
    """V12, V13: nothing that is decided or folded depends on the order of a set."""
    code = f"from tests.kernel.test_exploring import digest; import sys; sys.stdout.write(digest({theme!r}))"
    found = set()
    for seed in ("1", "4242"):
        environment = dict(os.environ, PYTHONHASHSEED=seed)
        command = [sys.executable, "-c", code]
        made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found.add(made.stdout)
    assert len(found) == 1


def test_a_stream_folds_from_its_json_alone_in_a_fresh_process() -> None:
    """Folding needs neither graph nor saga code, and a record is what its JSON says."""
    world = next(schedules("", flows=1))
    streams = [
        [(record.type, record.activity, record.data) for record in story.records]
        for story in world.checker.stories.values()
    ]
    code = (
        "import json, sys\nfrom orchestrator.kernel.api import fold\nfrom orchestrator.kernel.records import Record\n"
        "streams = json.load(sys.stdin)\n"
        "json.dump([fold(Record(*r) for r in s).version for s in streams], sys.stdout)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=json.dumps(streams), capture_output=True, text=True, check=True
    )
    assert json.loads(made.stdout) == [len(stream) for stream in streams]

"""Random legal flows through a hostile world: they end, they refold, and one seed is one schedule."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from random import Random

import pytest

from orchestrator.kernel.api import fold
from orchestrator.testing.exploring import run_schedule
from orchestrator.testing.exploring.world import World
from tests.kernel.flows import THEMES, scenario
from tests.kernel.mutations.mutation import ROOT

FLOWS = 12  # of each theme
PER_FLOW = 5


def schedules(theme: str, flows: int = FLOWS, first: int = 0) -> list[World]:
    """Worlds at the end of their schedules."""
    made = []
    for flow in range(first, first + flows):
        drawn = scenario(Random(flow), theme)
        if drawn is not None:
            made += [run_schedule(drawn, flow * 1000 + number) for number in range(PER_FLOW)]
    return made


@pytest.mark.parametrize("theme", sorted(set(THEMES)))
def test_every_saga_ends_completed_or_compensated(theme: str) -> None:
    """The checker holds every turn against the rules; after healing nothing is left open (kernel rule 29)."""
    for world in schedules(theme):
        assert {state.phase for state in world.states.values()} <= {"completed", "compensated", "tombstoned"}


def test_every_prefix_of_a_stream_folds_to_the_state_that_was_used_live() -> None:
    """V12: the world compares after every turn; here each prefix is folded from its first record."""
    for world in schedules("parts", flows=2):
        for saga, story in world.checker.stories.items():
            records = story.records
            for length in range(0, len(records), 7):
                assert fold(records[:length]).version == length
            assert fold(records).summary() == world.states[saga].summary()


def digest(theme: str, flows: int = 6) -> str:
    """A digest of everything that happened in some schedules, and of the states at their end."""
    found = hashlib.sha256()
    for world in schedules(theme, flows):
        found.update("\n".join(world.log).encode())
        found.update(repr([state.summary() for state in world.states.values()]).encode())
    return found.hexdigest()


def test_the_same_seed_gives_the_same_log_bit_for_bit() -> None:
    assert digest("forks", 3) == digest("forks", 3)


@pytest.mark.parametrize("theme", ["parts", "forks"])
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
    world = schedules("", flows=1)[0]
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

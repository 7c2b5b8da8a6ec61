"""`orchestrator simulate`, as its users type it: on the shipped sagas, and on one that cannot be undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests import forking

ROOT = Path(__file__).parents[2]
LINES_MAX = 60  # of a failure: it is the shortest schedule that shows it

CONTRACTS = """
from orchestrator import Command, Done, Event, Key, Reply

class Wanted(Event, context="broken"):
    order_id: Key[str]

class Held(Reply, context="broken"):
    number: int

class Hold(Command[Held], to="stock", context="broken"):
    order: str

class Free(Command[Done], to="stock", context="broken"):
    shelf: str

class Ship(Command[Done], to="dispatch", context="broken"):
    order: str
"""
DEFINITION = '''
"""An undo that cannot be built: there are only three shelves."""
from orchestrator import Saga, pivot, step
from broken.contracts import Free, Held, Hold, Ship, Wanted

SHELVES = {1: "low", 2: "middle", 3: "high"}

@step
def hold(wanted: Wanted) -> Hold:
    return Hold(order=wanted.order_id)

@hold.undo
def free(held: Held) -> Free:
    return Free(shelf=SHELVES[held.number])

@step
def ship(wanted: Wanted) -> Ship:
    return Ship(order=wanted.order_id)

broken = Saga("broken-order", version=1, starts_on=Wanted, flow=[hold, pivot(ship)])
'''


def simulate(directory: Path, sagas: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command line in this directory."""
    return forking.run("orchestrator", "simulate", *arguments, cwd=directory, env=environment(sagas), timeout=100)


def environment(sagas: str) -> dict[str, str]:
    """No setting of the caller's shell counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PYTEST_"))}
    return kept | {"ORCHESTRATOR_SAGAS": sagas, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A directory with a package whose saga cannot be undone."""
    package = tmp_path / "broken"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "contracts.py").write_text(CONTRACTS)
    (package / "definition.py").write_text(DEFINITION)
    return tmp_path


@pytest.mark.parametrize(("sagas", "name"), [("sagas.orders", "order-fulfilment"), ("sagas.transfers", "transfer")])
def test_the_shipped_sagas_hold(sagas: str, name: str) -> None:
    """How they ended, what went wrong how often, and that every part was reached."""
    said = simulate(ROOT, sagas, name, "--seeds", "150")
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{name} v1: seeds 0 to 149" in said.stdout
    assert "a message was lost" in said.stdout
    assert said.stdout.rstrip().endswith("no rule was broken")
    told = json.loads(simulate(ROOT, sagas, name, "--seeds", "150", "--json").stdout)
    assert told["ok"]
    assert (told["first"], told["seeds"], told["neverReached"]) == (0, 150, [])
    assert {"completed", "compensated"} == set(told["ended"])
    assert told["faults"]["cancel"] > 0
    assert sum(found["count"] for found in told["outcomes"]) == 150


def test_the_same_seeds_give_the_same_schedules_in_another_process() -> None:
    """Else a seed would repeat nothing. Two processes that a shell started differ in the seed of their hashes."""
    command = [sys.executable, "-m", "orchestrator", "simulate", "transfer", "--seeds", "40", "--json"]
    run = partial(subprocess.run, cwd=ROOT, env=environment("sagas"), capture_output=True, timeout=100, check=True)
    told = [json.loads(run(command).stdout) for _ in range(2)]
    assert {**told[0], "seconds": 0} == {**told[1], "seconds": 0}
    later = json.loads(simulate(ROOT, "sagas", "transfer", "--seeds", "40", "--first", "40", "--json").stdout)
    assert later["faults"] != told[0]["faults"]


def test_a_saga_that_cannot_be_undone_is_found_and_shown_in_words(broken: Path) -> None:
    """The seed, the shortest schedule, and the command that repeats it; exit code 6, found something."""
    said = simulate(broken, "broken", "broken-order")
    assert said.returncode == 6, said.stdout + said.stderr
    assert "free raised KeyError: 100" in said.stdout
    assert "~hold is stuck" in said.stdout
    assert "start: broken.Wanted, key example-1" in said.stdout
    assert "-> undo.planned plan=['hold']" in said.stdout
    assert "Traceback (most recent call last)" not in said.stderr
    assert len(said.stdout.splitlines()) < LINES_MAX
    again = said.stderr.partition("repeat it: orchestrator simulate ")[2].split()
    assert again[0] == "broken-order"
    assert simulate(broken, "broken", *again).returncode == 6


def test_what_was_found_can_be_read_by_programs(broken: Path) -> None:
    """One object on stdout; the exit code is the same."""
    said = simulate(broken, "broken", "broken-order", "--json")
    told = json.loads(said.stdout)
    assert (said.returncode, told["ok"], told["saga"]) == (6, False, "broken-order")
    assert told["repeat"].endswith(f"--first {told['seed']} --seeds 1")
    assert any("saga.started" in line for line in told["schedule"])
    assert "KeyError" in told["broken"]


def test_a_saga_that_decides_by_chance_is_found(broken: Path) -> None:
    """Deciding twice must give the same records: what is random belongs into a participant."""
    definition = broken / "broken" / "definition.py"
    text = DEFINITION.replace("SHELVES[held.number]", 'SHELVES.get(held.number, "none")')
    text = text.replace("Hold(order=wanted.order_id)", "Hold(order=str(random()))")
    definition.write_text(
        text.replace("from orchestrator import", "from random import random\nfrom orchestrator import")
    )
    said = simulate(broken, "broken", "broken-order")
    assert said.returncode == 6
    assert "deciding twice gave different records" in said.stdout


def test_an_unknown_saga_is_named_with_those_that_are_there(broken: Path) -> None:
    """Exit code 3, not found."""
    said = simulate(broken, "broken", "nope")
    assert said.returncode == 3
    assert "broken-order v1" in said.stderr

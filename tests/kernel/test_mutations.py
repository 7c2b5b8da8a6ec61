"""The checker notices: a third of the planted bugs here, all of them with `python -m tests.kernel.mutations`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.kernel.mutations.mutation import ROOT, Edit, Mutation, StaleMutationError
from tests.kernel.mutations.quick import QUICK
from tests.kernel.mutations.report import written
from tests.kernel.mutations.running import BANK, Verdict, applied

BUGS_MIN = 120
QUICK_SCHEDULES_MAX = 1_500  # a bug of the quick third is found in less than a hundred; flows may be drawn otherwise


def test_every_planted_bug_fits_the_code_and_has_its_own_name() -> None:
    """Code that has changed takes its planted bugs along."""
    applied(BANK)
    assert len({planted.name for planted in BANK}) == len(BANK) >= BUGS_MIN


def test_no_two_planted_bugs_are_the_same() -> None:
    """Else the score would count one twice."""
    assert len({planted.edits for planted in BANK}) == len(BANK)


def test_a_planted_bug_whose_text_is_gone_says_so() -> None:
    """One that changes nothing would be noticed by nobody, or by chance."""
    gone = Mutation("gone", (Edit("orchestrator/kernel/decide.py", "no such text", "anything"),))
    with pytest.raises(StaleMutationError, match="0 times"):
        gone.sources()
    with pytest.raises(StaleMutationError, match="gone"):
        applied([*BANK[:2], gone])


def test_the_quick_third_is_a_third_of_the_bank() -> None:
    """Names that are spelled as they are in the bank."""
    assert {planted.name for planted in BANK} >= QUICK
    assert len(QUICK) * 3 >= len(BANK)


def test_the_report_names_survivors() -> None:
    """A bug that nobody noticed is shown as what it is, before all others only by its name."""
    bugs = BANK[:2]
    verdicts = [Verdict(bugs[0].name, 7, "seed 3: BrokenInvariantError: wrong", 1.0), Verdict(bugs[1].name, 0, "", 1.0)]
    text = written(bugs, verdicts, 50)
    assert f"| {bugs[0].name} | any | 7 | BrokenInvariantError: wrong |" in text
    assert f"| {bugs[1].name} | any | **survived** |" in text
    assert "2 bugs planted into the kernel one at a time; 1 noticed" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_third_of_the_planted_bugs_is_noticed() -> None:
    """Each in a process of its own, which must not have loaded the kernel before."""
    command = [sys.executable, "-m", "tests.kernel.mutations", "--quick", "--json", "--most", str(QUICK_SCHEDULES_MAX)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    verdicts = [json.loads(line) for line in made.stdout.splitlines()]
    assert [(found["name"], found["cause"]) for found in verdicts if not found["schedules"]] == []
    assert (made.returncode, len(verdicts)) == (0, len(QUICK)), made.stderr

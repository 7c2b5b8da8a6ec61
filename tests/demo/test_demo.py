"""`make demo`, as a program: it plays the samples, says what became of them, and does not lie."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.demo.player import Played, Run
from orchestrator.demo.samples import (
    SampleError,
    Visitor,
    load_environment,
    load_people,
    load_samples,
    load_services,
)

ROOT = Path(__file__).parents[2]
DEMO_SECONDS_MAX = 100
READY_SECONDS_MAX = 15
AREAS = {"disputes", "orders", "payments", "transfers"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def command(data_dir: Path, *more: str) -> list[str]:
    """The command line of a demonstration on a port of its own."""
    return [sys.executable, "-m", "orchestrator", "demo", "--json", "--port", "0", "--data-dir", str(data_dir), *more]


def environment(**more: str) -> dict[str, str]:
    """No setting of the caller's shell counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return kept | {"PYTHONPATH": str(ROOT), **more}


def play(data_dir: Path, *more: str, **variables: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the last line of stdout as JSON, and stderr of a demonstration that ends by itself."""
    done = subprocess.run(
        command(data_dir, "--once", *more),
        env=environment(**variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS_MAX,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_demonstration_ends_by_itself_and_a_second_one_goes_on(tmp_path: Path) -> None:
    """Every sample became what it expects; the kept data of the first run do not disturb the second."""
    samples = [sample for sample in load_samples(["sagas"]) if not sample.waits]
    for _ in range(2):
        code, said, _ = play(tmp_path)
        assert said["ok"] is True, said["wrong"]
        assert (code, said["wrong"]) == (0, [])
        assert set(said["sagas"]) == AREAS
        assert sum(area["completed"] + area["compensated"] for area in said["sagas"].values()) == len(samples)
        assert all(area["stuck"] == 0 and area["unfinished"] == 0 for area in said["sagas"].values())
        assert said["api"].startswith("http://127.0.0.1:")
        assert said["seconds"] > 0


def test_a_sample_that_becomes_something_else_is_not_ok(tmp_path: Path) -> None:
    """A wrong expectation: `ok` is false, the exit code says the same, and the saga is named with what it became."""
    package = tmp_path / "wrong_sagas"
    (package / "sample").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from sagas.orders.definition import order_fulfilment\n"
        "from sagas.orders.participants import inventory, payments, shipping\n"
    )
    good = json.loads((ROOT / "sagas" / "orders" / "sample" / "01-one-lamp.json").read_text())
    wrong = good | {"expect": {"phase": "compensated"}}
    (package / "sample" / "1.json").write_text(json.dumps(good))
    (package / "sample" / "2.json").write_text(json.dumps(wrong).replace("ORD-1001", "ORD-1002"))
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    code, said, _ = play(tmp_path / "data", ORCHESTRATOR_SAGAS="wrong_sagas", PYTHONPATH=path)
    assert (code, said["ok"]) == (1, False)
    (item,) = said["wrong"]
    assert item["key"].startswith("ORD-1002")
    assert "expected compensated, it is completed" in item["why"]


@contextlib.contextmanager
def demonstration(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A demonstration that stays up; killed at the end, whatever happens."""
    process = subprocess.Popen(
        command(data_dir), env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said_by(process: subprocess.Popen[str], stream: str, wanted: str) -> str:
    """The first line of a stream that holds this text. Raises AssertionError where the process ends without one."""
    pipe = getattr(process, stream)
    seen = ""
    for line in pipe:
        seen += line
        if wanted in line:
            return str(line)
    raise AssertionError(f"{wanted!r} was never said: {seen}\n{process.stderr.read() if process.stderr else ''}")


def test_it_stays_up_until_it_is_stopped_and_survives_being_killed(tmp_path: Path) -> None:
    """Ready in time; the API answers; SIGKILL in the middle leaves data with which the next is fine; SIGINT is 0."""
    began = time.monotonic()
    with demonstration(tmp_path) as first:
        url = said_by(first, "stderr", "ready after").split("API ")[1].strip()
        took = time.monotonic() - began
        assert httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200
        said_by(first, "stderr", "sagas over")  # in the middle of its traffic
    with demonstration(tmp_path) as second:
        said = json.loads(said_by(second, "stdout", "{"))
        assert said["ok"] is True, said["wrong"]
        left = [sample for sample in load_samples(["sagas"]) if sample.waits]
        assert sum(area.get("waiting", 0) for area in said["sagas"].values()) == len(left)
        tasks = httpx2.get(f"{said['api']}/v1/tasks", headers={"X-Actor": "visitor"}, trust_env=False).json()["items"]
        waiting = {f"task {task['activity'].rpartition('/')[2]}" for task in tasks}
        assert {sample.waits for sample in left if sample.waits.startswith("task ")} <= waiting
        assert httpx2.get(f"{said['api']}/healthz", trust_env=False).json() == {"ok": True}
        entrance = httpx2.get(f"{said['api']}/office/login", trust_env=False).text
        assert all(person.name in entrance for person in load_people(["sagas"]))
        second.send_signal(signal.SIGINT)
        assert second.wait(30) == 0
    # A laptop that does nothing else makes it in a third of this; a machine full of tests gets four times as much.
    assert took < READY_SECONDS_MAX * 4


def test_a_run_with_anything_unfinished_is_not_ok() -> None:
    """Nothing played, something still going, something wrong: none of them is a success."""
    (sample, *_) = load_samples(["sagas"])
    run = Run("-x")
    assert not run.ok
    run.played = [Played(sample, "k", phase="completed", over=True), Played(sample, "l", phase="forward")]
    assert not run.ok
    assert run.counts()[sample.area] == {"completed": 1, "compensated": 0, "stuck": 0, "unfinished": 1}
    run.played[1] = Played(sample, "l", phase="compensating", stuck=1, over=True, wrong="stuck")
    assert not run.ok
    assert run.counts()[sample.area]["stuck"] == 1
    run.played[1] = Played(sample, "l", phase="compensated", over=True)
    assert run.ok


def test_work_that_waits_for_a_visitor_is_neither_unfinished_nor_stuck() -> None:
    """It is what was wanted, unless it is something else."""
    sample = next(found for found in load_samples(["sagas"]) if found.waits)
    left = Played(sample, "k", phase="forward", over=True)
    run = Run("-x", [left])
    assert run.ok
    assert run.counts()[sample.area] == {"completed": 0, "compensated": 0, "stuck": 0, "unfinished": 0, "waiting": 1}
    other = Run("-x", [replace(left, wrong="expected to wait for somebody")])
    assert not other.ok
    assert other.counts()[sample.area]["unfinished"] == 1


def test_everybody_whom_a_sample_names_is_introduced_with_the_groups_that_it_takes() -> None:
    """Whoever decides in a sample is somebody as whom a visitor can sign in, and may do the same."""
    people = {person.id: person for person in load_people(["sagas"])}
    for sample in load_samples(["sagas"]):
        for act in sample.then:
            if "task" in act and not act.get("refused"):
                person = people[act["by"]]
                assert set(act.get("roles", ())) <= set(person.roles), (sample.name, act)
                assert "approver" in person.capacities
    assert all(person.name and person.about and person.capacities for person in people.values())


def test_somebody_whom_two_packages_know_is_one_person() -> None:
    """With the groups and capacities of both."""
    one = Visitor("ana", "Ana", "pays", ("a",), ("viewer",))
    both = one.and_also(Visitor("ana", "Ana F.", "reads", ("b",), ("viewer", "auditor")))
    assert both == Visitor("ana", "Ana", "pays; reads", ("a", "b"), ("auditor", "viewer"))


@pytest.mark.parametrize(
    ("file", "text", "load"),
    [
        ("people.json", '[{"id": "ana", "nmae": "Ana"}]', load_people),
        ("settings.json", '{"A": 1}', load_environment),
    ],
)
def test_a_file_beside_the_samples_that_is_wrong_is_named(
    file: str, text: str, load: Callable[[list[str]], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it must hold."""
    name = f"pkg_{file.partition('.')[0]}"
    (tmp_path / name / "sample").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "sample" / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SampleError, match=file):
        load([name])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Expecting"),
        ('{"title": "x"}', "a sample has title, expect"),
        ('{"title": "x", "events": [], "expect": {"phase": "completed"}}', "a saga is started by events, or by a post"),
        ('{"title": "x", "events": [{"type": "a"}], "expect": {}}', "events need type and data"),
        ('{"title": "x", "events": [{"type": "a", "data": {}}], "expect": {}}', "expect needs the phase"),
        (
            '{"title": "x", "events": [{"type": "a", "data": {}}], "expect": {"phase": "p"}, "then": [{"x": 1}]}',
            "an act is a task",
        ),
    ],
)
def test_a_sample_file_that_is_wrong_is_named(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file and the mistake."""
    name = f"pkg_{abs(hash(text))}"
    (tmp_path / name / "sample").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "sample" / "bad.json").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SampleError, match=rf"bad\.json: .*{says}"):
        load_samples([name])


def test_every_sample_of_the_repository_is_well_formed() -> None:
    """And they cover what a demonstration must show."""
    samples = load_samples(["sagas"])
    assert {sample.area for sample in samples} == AREAS
    assert len({(sample.area, sample.name) for sample in samples}) == len(samples)
    reasons = {sample.expect.get("reason", "") for sample in samples}
    assert {"out_of_stock", "declined", "no_carrier", "rejected", "insufficient_funds"} <= reasons
    assert {"rejected by an approver", "not approved in time"} <= reasons
    assert any(sample.expect.get("phase") == "completed" and sample.then for sample in samples)
    assert {"completed", "referred"} <= {sample.expect.get("outcome") for sample in samples}
    assert {act.get("refused") for sample in samples for act in sample.then} >= {"excluded", "over_limit"}
    assert [service.variable for service in load_services(["sagas"])] == ["ORCHESTRATOR_BANK_URL"]

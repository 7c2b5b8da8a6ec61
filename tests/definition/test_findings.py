"""Findings: where, what, why and what to do, in one form, all of a saga at once."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator import publish, when
from orchestrator.definition import DefinitionError
from tests.definition.world import Closed, Held, Placed, closed, findings, hold, is_large, note, saga

STEPS = """
    from orchestrator import Command, Done, Event, Key, Reply, step

    class TransferRequested(Event):
        transfer_id: Key[str]

    class FundsHeld(Reply):
        hold_id: str

    class HoldFunds(Command[FundsHeld], to="accounts"):
        account: str

    class ReleaseFunds(Command[Done], to="accounts"):
        hold_id: str

    class ExecuteTransfer(Command[Done], to="accounts"):
        hold_id: str

    def is_internal(request: TransferRequested) -> bool:
        return False

    @step
    def hold_funds(request: TransferRequested) -> HoldFunds:
        return HoldFunds(account="a")

    @hold_funds.undo
    def release_funds(held: FundsHeld) -> ReleaseFunds:
        return ReleaseFunds(hold_id=held.hold_id)

    @step(
        undo=None,
    )
    def execute_transfer(request: TransferRequested, held: FundsHeld) -> ExecuteTransfer:
        return ExecuteTransfer(hold_id=held.hold_id)
"""
FLOW = """
    from orchestrator import Saga, pivot, when
    from fast_steps import TransferRequested, execute_transfer, hold_funds, is_internal

    transfer = Saga(
        "transfer", version=2, starts_on=TransferRequested,
        flow=[when(is_internal).otherwise(hold_funds), pivot(execute_transfer)],
    )
"""


def load(name: str, folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a module and imports it under this name, for this test."""
    file = folder / f"{name}.py"
    file.write_text(dedent(text).lstrip(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)


def test_a_finding_has_the_form_that_editors_and_people_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the working directory, the line of the `def`, and where it is used if that is another file."""
    monkeypatch.chdir(tmp_path)
    sagas = tmp_path / "sagas"
    sagas.mkdir()
    load("fast_steps", sagas, STEPS, monkeypatch)
    with pytest.raises(DefinitionError) as raised:
        load("fast_transfers", sagas, FLOW, monkeypatch)
    assert (
        str(raised.value).strip()
        == dedent("""
        sagas/fast_steps.py:32  ORC104  transfer v2: step execute_transfer: held: FundsHeld is not there on every path
            path      when(is_internal) taken
            made by   hold_funds (sagas/fast_steps.py:22)
            do        write held: FundsHeld | None, or put hold_funds before the fork
            used in   sagas/fast_transfers.py:4
        """).strip()
    )


def test_all_mistakes_of_a_saga_are_reported_at_once_in_order_of_place() -> None:
    def tell(placed: Placed, held: Held) -> Closed:
        return Closed(order_id=placed.order_id)

    def badly(placed: Placed, *rest: str) -> Closed:
        return Closed(order_id=placed.order_id)

    found = findings(when(is_large, hold), publish(tell), publish(badly), note, note)
    assert sorted(finding.code for finding in found) == ["ORC102", "ORC104", "ORC201"]
    assert list(found) == sorted(found, key=lambda finding: (finding.place.file, finding.place.line, finding.code))


def test_a_function_used_twice_is_reported_once() -> None:
    def badly(placed) -> bool:  # type: ignore[no-untyped-def]
        return True

    assert len(findings(when(badly, note), when(badly, hold).named("again"))) == 1


def test_a_broken_function_does_not_drag_others_along() -> None:
    """What asks for the result of a broken function is reported too, since it is not made; nothing else is."""

    def badly(placed) -> Closed:  # type: ignore[no-untyped-def]
        return Closed(order_id="")

    assert [finding.code for finding in findings(hold, publish(badly), publish(closed))] == ["ORC103"]


def test_the_path_names_only_the_forks_that_matter() -> None:
    def tell(held: Held) -> Closed:
        return Closed(order_id=held.hold)

    def is_small(placed: Placed) -> bool:
        return False

    found = findings(when(is_small, note), when(is_large, hold), publish(tell))
    assert dict(found[0].rows)["path"] == "when(is_large) not taken"


def test_a_definition_error_survives_a_process_border() -> None:
    with pytest.raises(DefinitionError) as raised:
        saga(note, note)
    again = pickle.loads(pickle.dumps(raised.value))
    assert again.findings == raised.value.findings
    assert again.codes == ("ORC201",)

"""The graph is data with a stable hash: the shape of a saga is in it, the bodies of its functions are not."""

# mypy: disable-error-code=empty-body

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator import Command, Done, Money, Retry, Role, Saga, compute, end, fail, pivot, publish, step, task, when
from orchestrator.definition.draw import difference, mermaid
from orchestrator.definition.stored import graph_of
from orchestrator.kernel.graph import Node, TaskNode
from orchestrator.messages import canonical_bytes
from tests.definition.claims import claims, payout
from tests.definition.orders import order
from tests.definition.test_draw import edges
from tests.definition.transfers import manager_approval, transfer
from tests.definition.world import DAY, Note, Placed, Shown, ask, closed, hold, is_large, note, policy, saga, send

ROOT = Path(__file__).parents[2]
PRINT = """
from tests.definition import claims, orders, transfers
for saga in (claims.claims, claims.payout, orders.order, transfers.transfer):
    print(saga.name, saga.graph.hash)
"""


def test_the_hash_is_the_same_in_every_process() -> None:
    expected = "".join(f"{saga.name} {saga.graph.hash}\n" for saga in (claims, payout, order, transfer))
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == expected


def test_the_graph_is_json_and_its_hash_is_over_its_bytes() -> None:
    for compiled in (claims, order, transfer):
        data = compiled.graph.data
        assert orjson.loads(orjson.dumps(data)) == data
        assert hashlib.sha256(canonical_bytes(data)).hexdigest() == compiled.graph.hash
        assert data["nodes"].keys() == compiled.graph.nodes.keys()
        assert data["contracts"].keys() == {contract.wire_name for contract in compiled.contracts}


@pytest.mark.parametrize("compiled", [claims, order, payout, transfer])
def test_a_stored_graph_is_read_back_as_it_was_but_for_prose(compiled: Any) -> None:
    """So that a version whose code is gone can still be drawn and compared."""
    stored = orjson.loads(canonical_bytes(compiled.graph.data))
    again = graph_of(stored)
    assert again.hash == compiled.graph.hash
    assert difference(again, compiled.graph) == []
    assert edges(mermaid(again)) == edges(mermaid(compiled.graph))
    bare = {path: plain_of(node) for path, node in compiled.graph.nodes.items()}
    assert {path: plain_of(node) for path, node in again.nodes.items()} == bare


def plain_of(node: Node) -> Node:
    """A node without its prose."""
    return replace(node, help="", form_schema=None) if isinstance(node, TaskNode) else node


def test_a_default_is_left_out_so_that_new_fields_change_no_hash() -> None:
    data = saga(note).graph.data
    assert data["nodes"]["note"] == {
        "path": "note", "name": "note", "kind": "step", "build": "note", "command": "world.Note",
        "participant": "mail", "reply": "orchestrator.Done",
    }  # fmt: skip
    assert data == {
        "name": "shop", "version": 1, "starts_on": ["world.Placed"], "first": "note", "nodes": data["nodes"],
        "contracts": {"orchestrator.Done": 1, "world.Note": 1, "world.Placed": 1},
    }  # fmt: skip


def variant(**options: Any) -> str:
    """The hash of a saga whose one step is declared with these options."""

    @step(undo=None, **options)
    def act(placed: Placed) -> Note:
        return Note(text="one")

    return saga(act).graph.hash


def test_what_a_function_does_is_not_in_the_hash() -> None:
    @step(undo=None)
    def act(placed: Placed) -> Note:
        """Now with a docstring and another body."""
        return Note(text="two")

    assert saga(act).graph.hash == variant()


def test_policies_and_limits_are_in_the_hash() -> None:
    hashes = {
        variant(),
        variant(retry=Retry(attempts=7)),
        variant(within=timedelta(seconds=5)),
        variant(reads=True),
        saga(note).graph.hash,
        saga(note, version=2).graph.hash,
        saga(note, within=DAY).graph.hash,
        saga(note, rerun=True).graph.hash,
        saga(note, forward_only=True).graph.hash,
        saga(pivot(note)).graph.hash,
        saga(note, on_failed=[]).graph.hash,
        saga(note, early_age=DAY).graph.hash,
    }
    assert len(hashes) == 12


def test_the_version_of_a_contract_is_in_the_hash() -> None:
    def with_version(version: int) -> str:
        class Tell(Command[Done], to="mail", name="shop.Tell", version=version):
            text: str = ""

        @step(undo=None)
        def tell(placed: Placed) -> Any: ...

        tell.function.__annotations__["return"] = Tell
        return saga(tell).graph.hash

    assert with_version(1) == with_version(1)
    assert with_version(1) != with_version(2)


def test_a_better_help_text_is_no_new_version() -> None:
    def with_help(text: str) -> str:
        def judge(placed: Placed) -> Shown: ...

        judge.__doc__ = text
        return saga(task(to=Role("boss"), within=DAY)(judge), note).graph.hash

    assert with_help("Shall we?") == with_help("Shall we do it?")


def test_one_task_can_stand_in_two_sagas_with_other_paths() -> None:
    """Every method returns a copy."""
    strict = saga(ask.on_reject(fail("no")).on_timeout(fail("late")), note)
    lenient = saga(ask.on_reject(), note)
    plain = saga(ask, note)
    assert strict.graph.nodes["ask"].blocks.keys() == {"on/reject", "on_timeout", "on/approve"}
    assert lenient.graph.nodes["ask"].blocks == {"on/reject": None, "on/approve": None}
    assert plain.graph.nodes["ask"].blocks == {"on/approve": None}


def test_one_step_can_stand_in_two_versions() -> None:
    one = saga(hold, send)
    two = saga(pivot(send), hold.without_undo(), version=2)
    assert (one.graph.nodes["hold"].undo, two.graph.nodes["hold"].undo) == ("free", None)  # type: ignore[attr-defined]
    assert not two.graph.nodes["hold"].pivot  # type: ignore[attr-defined]


def test_an_undo_declared_after_a_copy_was_made_belongs_to_the_copy_too() -> None:
    @step
    def take(placed: Placed) -> Note: ...

    copy = take.named("other").on_refused(end("no"))

    @take.undo
    def back(placed: Placed) -> Note: ...

    assert saga(copy, note).graph.nodes["other"].undo == "back"  # type: ignore[attr-defined]


def test_a_saga_knows_its_contracts_and_its_children() -> None:
    assert [contract.__name__ for contract in transfer.contracts] == [
        "Approval", "Done", "ExecuteTransfer", "FundsHeld", "HoldFunds", "ReleaseFunds", "TransferCompleted",
        "TransferExecuted", "TransferFailed", "TransferRequested", "TransferWithdrawn",
    ]  # fmt: skip
    assert claims.children == (payout,)
    assert "ClaimChanged" in {contract.__name__ for contract in claims.contracts}
    assert (payout.pivots, payout.may_fail, order.may_fail) == (True, True, True)


def test_functions_are_known_by_path_and_role() -> None:
    assert set(transfer.program.functions) == {
        "approval_policy#value",
        "hold_funds.scope/hold_funds#build",
        "hold_funds.scope/hold_funds#undo",
        "hold_funds.scope/needs_approval#test",
        "hold_funds.scope/needs_approval/manager_approval#shown",
        "hold_funds.scope/needs_approval/manager_approval#exclude0",
        "execute_transfer#build",
        "transfer_completed#event",
        "on_failed/transfer_failed#event",
    }
    roles = {key.partition("#")[2] for key in claims.program.functions}
    assert {"to", "within", "match", "items", "shown", "exclude0", "build", "undo", "value", "test", "event"} <= roles


def test_a_decorated_function_is_still_that_function() -> None:
    shown = manager_approval(
        request=transfer.starts_on[0].model_validate(
            {
                "transfer_id": "t", "session_id": "s", "user_id": "u", "from_account": "a", "to_account": "b",
                "amount": "5",
            }
        ),  # type: ignore[arg-type]
        held=transfer.program.codecs["hold_funds.scope/hold_funds"].load({"hold_id": "H-1"}),
    )  # fmt: skip
    assert shown.hold_id == "H-1"
    assert manager_approval.__name__ == "manager_approval"


def test_a_flow_may_be_one_word_and_a_saga_has_a_short_repr() -> None:
    one = Saga("one", version=4, starts_on=Placed, flow=compute(policy), on_failed=when(is_large, publish(closed)))
    assert one.graph.first == "policy"
    assert repr(one) == "Saga('one', version=4)"


def test_a_second_look_is_in_the_stored_form_and_changes_no_other_hash() -> None:
    """Always, or from amounts on; what says nothing of it keeps the hash that it had."""

    def decide(placed: Placed) -> Shown: ...  # never called

    def stored(**options: Any) -> Any:
        made = task(to=Role("boss"), within=DAY, **options)(decide)
        graph = Saga("second-look", version=1, starts_on=Placed, flow=[made]).graph
        node, back = graph.nodes["decide"], graph_of(graph.data).nodes["decide"]
        assert isinstance(node, TaskNode)
        assert back == replace(node, help="", form_schema=None)
        return graph.data["nodes"]["decide"].get("confirm")

    assert (stored(), stored(confirm=False), stored(confirm=True)) == (None, None, [{}])
    ten, one = Money("10.50", "INR"), Money("1", "EUR")
    read = {"amount": lambda shown: ten}
    assert stored(confirm=ten, **read) == [{"amount": "10.50", "currency": "INR"}]
    assert len(stored(confirm=[ten, one], **read)) == 2

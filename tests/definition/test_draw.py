"""Pictures of graphs, and what has changed between two of them in words."""

# mypy: disable-error-code=empty-body

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import (
    Retry,
    Role,
    delay,
    end,
    fail,
    for_each,
    leave,
    parallel,
    pivot,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
    when,
)
from orchestrator.definition.draw import difference, duration, mermaid
from tests.definition.claims import claims
from tests.definition.orders import order
from tests.definition.transfers import transfer
from tests.definition.world import (
    DAY,
    Cancelled,
    Note,
    Paid,
    Placed,
    Shown,
    ask,
    closed,
    hold,
    is_large,
    note,
    parts,
    saga,
    send,
)


def edges(picture: str) -> set[tuple[str, str, str]]:
    """(from, label, to) of every edge, by what is written on the nodes."""
    names = {"over": "over", "failed": "failed", "compensated": "compensated", "start": "start"}
    names |= dict(re.findall(r'^\s*(n\d+)[\[({>/]+"([^"]*)"', picture, re.MULTILINE))
    names |= dict(re.findall(r'^\s*subgraph (n\d+)g \["([^"]*)"\]', picture, re.MULTILINE))
    found = re.findall(r'^  (\w+) -\.?->(?:\|"([^"]*)"\|)? (\w+)$', picture, re.MULTILINE)
    return {(names[one], label, names[other]) for one, label, other in found}


def test_the_picture_shows_undo_pivot_deciders_and_limits() -> None:
    picture = mermaid(transfer.graph)
    assert picture.startswith("flowchart TD\n")
    assert '"manager_approval, decided by manager, within 1 d"' in picture
    assert '"undo release_funds"' in picture
    assert '"step execute_transfer → accounts, PIVOT"' in picture
    assert re.search(r"class n\d+ pivot", picture)


def test_the_picture_shows_votes_and_children() -> None:
    picture = mermaid(claims.graph)
    assert '"release, decided by seniors, 2 votes, within next_monday"' in picture
    assert '"call pay → saga payout v3, PIVOT, within 1 d"' in picture
    assert "1 votes" not in picture


def test_the_edges_are_what_can_happen() -> None:
    approval = "manager_approval, decided by manager, within 1 d"
    pivot_text = "step execute_transfer → accounts, PIVOT"
    assert edges(mermaid(transfer.graph)) == {
        ("start", "", "compute approval_policy"),
        ("compute approval_policy", "", "scope hold_funds"),
        ("scope hold_funds", "", "step hold_funds → accounts"),
        ("scope hold_funds", "transfers.TransferWithdrawn", "fail withdrawn by the customer"),
        ("step hold_funds → accounts", "", "needs_approval?"),
        ("needs_approval?", "yes", approval),
        ("needs_approval?", "no", pivot_text),
        (approval, "reject", "fail rejected"),
        (approval, "on timeout", "fail expired"),
        (approval, "approve", pivot_text),
        ("fail rejected", "", "failed"),
        ("fail expired", "", "failed"),
        ("fail withdrawn by the customer", "", "failed"),
        (pivot_text, "", "publish transfers.TransferCompleted"),
        ("publish transfers.TransferCompleted", "", "over"),
        ("failed", "", "publish transfers.TransferFailed"),
        ("publish transfers.TransferFailed", "", "compensated"),
    }


def test_loops_lead_back_and_out() -> None:
    graph = saga(
        for_each(parts, note, at_once=3), repeat(send, when(is_large, leave()), at_most=2).otherwise(end("x")), ask
    ).graph
    found = edges(mermaid(graph))
    assert ("step note → mail", "", "for each parts, 3 at once") in found
    assert ("for each parts, 3 at once", "when all are over", "repeat send, at most 2") in found
    assert ("is_large?", "no", "repeat send, at most 2") in found
    assert ("repeat send, at most 2", "otherwise", "end x") in found
    assert ("leave", "", "ask, decided by boss, within 1 d") in found


def test_a_failure_leads_to_the_innermost_scope_with_on_failed() -> None:
    graph = saga(scope(hold, when(is_large, fail("big"))).on_failed(note).on_event(Cancelled, fail("off")), send).graph
    found = edges(mermaid(graph))
    assert ("fail big", "", "step note → mail") in found
    assert ("fail off", "", "step note → mail") in found, "nothing but fail: the scope's own failure"
    assert ("scope hold", "on failed", "step note → mail") in found


def test_the_end_of_a_scope_leads_to_then() -> None:
    found = edges(mermaid(saga(scope(hold).then(note), send).graph))
    assert ("step hold → stock", "", "step note → mail") in found
    assert ("step note → mail", "", "step send → parcels") in found


@pytest.mark.parametrize("compiled", [claims, order, transfer])
def test_every_node_is_drawn_once(compiled: Any) -> None:
    picture = mermaid(compiled.graph)
    for number in range(len(compiled.graph.nodes)):
        assert len(re.findall(rf"^\s*n{number}[\[({{>]", picture, re.MULTILINE)) == 1


def test_what_an_author_writes_cannot_break_the_picture() -> None:
    picture = mermaid(saga(hold, fail('"] --> <script>&')).graph)
    assert "<script>" not in picture
    assert "#quot;] --#gt; #lt;script#gt;#amp;" in picture


def test_parallel_branches_start_together() -> None:
    found = edges(mermaid(saga(parallel(note, [send, delay(DAY)]), wait_for(Paid, within=DAY)).graph))
    assert {("parallel note", "", "step note → mail"), ("parallel note", "", "step send → parcels")} <= found
    assert ("step note → mail", "", "wait for world.Paid, within 1 d") in found


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 s"),
        (500, "500 ms"),
        (90_000, "1 min 30 s"),
        (86_400_000, "1 d"),
        (-1000, "-1 s"),
        (5_400_000, "1 h 30 min"),
    ],
)
def test_durations_are_said_as_people_say_them(ms: int, text: str) -> None:
    assert duration(ms) == text


# Differences


def test_the_same_graph_has_no_difference() -> None:
    assert difference(transfer.graph, transfer.graph) == []


def test_a_difference_is_said_in_words() -> None:
    @step(undo=None, retry=Retry(attempts=9), within=timedelta(minutes=2))
    def note_patiently(placed: Placed) -> Note: ...

    before = saga(hold, note, ask, publish(closed)).graph
    after = saga(hold, note_patiently.named("note"), ask.on_timeout(), send).graph
    assert difference(before, after) == [
        "closed is gone (publish world.Closed)",
        "note: build was note, and is note_patiently",
        "note: retry was 3 attempts, pauses from 500 ms to 1 min growing by 2, "
        "and is 9 attempts, pauses from 500 ms to 1 min growing by 2",
        "note: within was 30 s, and is 2 min",
        "ask: next was closed, and is send",
        "ask: blocks was on/approve → None, and is on_timeout → None, on/approve → None",
        "send is new (step send → parcels)",
    ]


def test_another_order_and_another_saga_are_differences_too() -> None:
    assert difference(saga(note, send).graph, saga(send, note).graph)
    found = difference(saga(note).graph, saga(note, within=DAY, forward_only=True).graph)
    assert found == ["the saga: within was nothing, and is 1 d", "the saga: forward only was False, and is True"]


def test_a_pivot_and_a_changed_kind_are_named() -> None:
    assert difference(saga(send).graph, saga(pivot(send)).graph) == [
        "the saga: has pivot was False, and is True",
        "send: pivot was False, and is True",
    ]
    other = task(to=Role("boss"), within=DAY)(shown).named("send")
    assert difference(saga(send).graph, saga(other).graph) == ["send was a step, and is a task"]


def shown(placed: Placed) -> Shown: ...


def test_two_graphs_of_other_hash_always_differ_in_words() -> None:
    """Whatever is in the hash has words."""
    variants = [
        saga(note), saga(pivot(note)), saga(note, rerun=True), saga(note, early_age=DAY), saga(note, on_failed=[]),
        saga(note, version=2), saga(note, within=DAY),
    ]  # fmt: skip
    for one in variants:
        for other in variants:
            assert bool(difference(one.graph, other.graph)) == (one.graph.hash != other.graph.hash)

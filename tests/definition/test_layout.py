"""Paths are stable and readable: they follow the author's words, never positions in a file."""

from __future__ import annotations

from typing import Literal

from orchestrator import (
    choose,
    compute,
    delay,
    end,
    enter,
    fail,
    for_each,
    keep,
    leave,
    parallel,
    pivot,
    publish,
    repeat,
    scope,
    wait_for,
    when,
)
from orchestrator.kernel import graph as g
from tests.definition.claims import State, claims
from tests.definition.transfers import transfer
from tests.definition.world import (
    DAY,
    Cancelled,
    Held,
    Mood,
    Paid,
    ask,
    closed,
    closed_badly,
    feel,
    findings,
    hold,
    is_large,
    mood,
    note,
    parts,
    policy,
    saga,
    send,
)


def test_the_transfer_saga_has_these_paths() -> None:
    assert list(transfer.graph.nodes) == [
        "approval_policy",
        "hold_funds.scope",
        "hold_funds.scope/hold_funds",
        "hold_funds.scope/needs_approval",
        "hold_funds.scope/needs_approval/manager_approval",
        "hold_funds.scope/needs_approval/manager_approval/on/reject/fail",
        "hold_funds.scope/needs_approval/manager_approval/on_timeout/fail",
        "hold_funds.scope/on/transfers.TransferWithdrawn/fail",
        "execute_transfer",
        "transfer_completed",
        "on_failed/transfer_failed",
    ]


def test_every_path_begins_with_the_path_of_its_parent() -> None:
    """The kernel makes activity ids by exchanging this beginning."""
    for node in claims.graph.nodes.values():
        assert node.parent is None or node.path.startswith(f"{node.parent}/")
        assert "[" not in node.path
        assert "]" not in node.path


def test_a_node_knows_its_block_its_parent_and_what_comes_next() -> None:
    graph = saga(hold.on_refused(note, send.named("send_little")).then(), send).graph
    assert graph.first == "hold"
    assert graph.nodes["hold"].next == "send"
    assert dict(graph.nodes["hold"].blocks) == {"on_refused": "hold/on_refused/note", "then": None}
    note_node = graph.nodes["hold/on_refused/note"]
    assert (note_node.parent, note_node.block, note_node.next) == (
        "hold",
        "on_refused",
        "hold/on_refused/send_little",
    )


def test_a_block_is_there_only_if_its_path_was_written() -> None:
    assert dict(saga(hold, send).graph.nodes["hold"].blocks) == {}
    assert dict(saga(hold.on_refused(), send).graph.nodes["hold"].blocks) == {"on_refused": None}


def test_bodies_and_the_path_of_a_when_add_nothing_to_paths() -> None:
    graph = saga(
        scope(hold),
        for_each(parts, note),
        repeat(send, leave(), at_most=2),
        when(is_large, note.named("big")).otherwise(note.named("small")),
    ).graph
    assert set(graph.nodes) == {
        "hold.scope", "hold.scope/hold", "parts", "parts/note", "send.repeat", "send.repeat/send", "send.repeat/leave",
        "is_large", "is_large/big", "is_large/otherwise/small",
    }  # fmt: skip
    assert graph.nodes["parts"].blocks == {"body": "parts/note"}
    assert graph.nodes["is_large"].blocks == {"true": "is_large/big", "otherwise": "is_large/otherwise/small"}
    assert graph.nodes["parts/note"].block == ""
    assert graph.nodes["is_large/big"].block == "true"


def test_a_when_without_otherwise_has_an_empty_one() -> None:
    assert saga(when(is_large, note)).graph.nodes["is_large"].blocks == {"true": "is_large/note", "otherwise": None}


def test_a_when_over_a_type_asks_whether_it_is_there() -> None:
    compiled = saga(when(is_large, hold), when(Held, note))
    node = compiled.graph.nodes["Held"]
    assert isinstance(node, g.ChooseNode)
    assert node.present
    test = compiled.program.functions["Held#test"]
    assert [param.want for param in test.params] == ["optional"]
    assert (test.call(found=None), test.call(found=1)) == (None, 1), "the kernel asks whether it is None"


def test_choices_are_named_by_their_labels() -> None:
    graph = saga(choose(mood).on(Mood.GLAD, note).on([Mood.SAD, Mood.MAD], send)).graph
    assert dict(graph.nodes["mood"].blocks) == {
        "glad": "mood/glad/note",
        "sad": "mood/sad/send",
        "mad": "mood/mad/send",
    }
    assert dict(saga(choose(is_large).on(True, note).otherwise()).graph.nodes["is_large"].blocks) == {
        "true": "is_large/true/note",
        "otherwise": None,
    }


def test_outcomes_of_a_task_are_named_on_and_value() -> None:
    graph = saga(feel.on(Mood.GLAD).on(Mood.SAD, note).otherwise(send).on_timeout(end("late"))).graph
    assert dict(graph.nodes["feel"].blocks) == {
        "on/glad": None,
        "on/sad": "feel/on/sad/note",
        "otherwise": "feel/otherwise/send",
        "on_timeout": "feel/on_timeout/end",
    }


def test_a_plain_approval_goes_on_when_approved() -> None:
    assert dict(saga(ask, send).graph.nodes["ask"].blocks) == {"on/approve": None}
    assert "on/approve" not in saga(ask.otherwise(note), send).graph.nodes["ask"].blocks


def test_branches_are_named_by_their_first_word() -> None:
    graph = saga(parallel(hold, [note, send], repeat(send.named("again"), leave(), at_most=2))).graph
    node = graph.nodes["hold.parallel"]
    assert isinstance(node, g.ParallelNode)
    assert node.branches == ("hold", "note", "again")
    assert graph.nodes["hold.parallel/note/send"].block == "note"
    assert "hold.parallel/again/again.repeat/again" in graph.nodes


def test_a_task_with_on_event_is_laid_out_in_a_scope_of_its_own() -> None:
    graph = saga(ask.on_event(Cancelled, fail("cancelled")).on_reject(fail("no")), send).graph
    node = graph.nodes["ask.scope"]
    assert isinstance(node, g.ScopeNode)
    assert node.events == ("world.Cancelled",)
    assert dict(node.blocks) == {"body": "ask.scope/ask", "on/world.Cancelled": "ask.scope/on/world.Cancelled/fail"}
    assert "ask.scope/ask/on/reject/fail" in graph.nodes
    wait = saga(wait_for(Paid, within=DAY).on_event(Cancelled, end("off")), send).graph
    assert list(wait.nodes) == ["paid.scope", "paid.scope/paid", "paid.scope/on/world.Cancelled/end", "send"]


def test_a_name_of_its_own_is_used_everywhere() -> None:
    graph = saga(scope(hold.named("first"), delay(DAY).named("rest")).named("part")).graph
    assert list(graph.nodes) == ["part", "part/first", "part/rest"]


def test_an_unnamed_group_is_called_after_the_first_thing_in_it() -> None:
    assert next(iter(saga(scope(scope(parallel(hold, note)))).graph.nodes)) == "hold.scope"
    assert next(iter(saga(scope(), note).graph.nodes)) == "scope"


def test_the_failure_path_is_a_block_of_its_own() -> None:
    graph = saga(hold, send, on_failed=[publish(closed_badly), note]).graph
    assert (graph.on_failed, graph.has_on_failed) == ("on_failed/closed_badly", True)
    node = graph.nodes["on_failed/closed_badly"]
    assert (node.parent, node.block, node.next) == (None, "on_failed", "on_failed/note")
    assert saga(hold, on_failed=[]).graph.has_on_failed
    assert not saga(hold).graph.has_on_failed


def test_messages_call_unnamed_groups_by_what_is_in_them() -> None:
    found = findings(repeat(note, leave(), at_most=0))
    assert found[0].text == "repeat note.repeat has at_most=0"
    assert findings(repeat(note, leave(), at_most=0).named("rounds"))[0].text == "repeat rounds has at_most=0"
    assert findings(scope(hold).on_timeout(note))[0].text == "scope hold.scope has on_timeout, but no within="
    assert findings(ask.on_event(Cancelled, note).on_event(Cancelled, send))[0].text.startswith(
        "ask.on_event(…) has two"
    )


def test_lists_in_lists_are_one_path() -> None:
    reusable = [note, [send, [publish(closed)]]]
    assert list(saga(hold, reusable).graph.nodes) == ["hold", "note", "send", "closed"]


def test_labels_that_would_confuse_an_activity_id_are_encoded() -> None:
    def which() -> Literal["a/b[1]", "c d"]:
        return "c d"

    graph = saga(choose(which).on("a/b[1]", note).on("c d", send)).graph
    assert set(graph.nodes) == {"which", "which/a%2Fb%5B1%5D/note", "which/c d/send"}
    assert graph.nodes["which"].blocks["a/b[1]"] == "which/a%2Fb%5B1%5D/note"


def test_keep_knows_the_scope_or_item_that_it_is_about() -> None:
    graph = saga(
        scope(hold, keep(), for_each(parts, note, keep(), repeat(send, leave(), at_most=2))).on_failed(),
    ).graph
    found = {path: node.within_node for path, node in graph.nodes.items() if isinstance(node, g.KeepNode)}
    assert found == {"hold.scope/keep": "hold.scope", "hold.scope/parts/keep": "hold.scope/parts"}


def test_leave_knows_the_innermost_repeat() -> None:
    graph = saga(repeat(note, repeat(send, leave(), at_most=2), leave(), at_most=3)).graph
    found = {path: node.loop for path, node in graph.nodes.items() if isinstance(node, g.LeaveNode)}
    assert found == {"note.repeat/send.repeat/leave": "note.repeat/send.repeat", "note.repeat/leave": "note.repeat"}


def test_a_handler_that_only_fails_is_the_scopes_own_failure() -> None:
    own = saga(
        scope(hold, within=DAY).on_failed(note).on_event(Cancelled, fail("off")).on_timeout(note.named("late"))
    ).graph
    node = own.nodes["hold.scope"]
    assert isinstance(node, g.ScopeNode)
    assert node.own_failures == ("on/world.Cancelled",)
    outer = saga(scope(hold).on_event(Cancelled, fail("off"))).graph.nodes["hold.scope"]
    assert isinstance(outer, g.ScopeNode)
    assert outer.own_failures == ()


def test_enter_pivot_and_end_are_nodes_like_others() -> None:
    graph = saga(enter(State.OPEN), pivot(send), end("sent"), states={State.NEW: [State.OPEN]}).graph
    assert list(graph.nodes) == ["enter.open", "send", "end"]
    assert graph.has_pivot
    assert (graph.initial_state, graph.transitions) == ("new", {"new": ("open",)})
    step = graph.nodes["send"]
    assert isinstance(step, g.StepNode)
    assert step.pivot
    ending = graph.nodes["end"]
    assert isinstance(ending, g.EndNode)
    assert ending.outcome == "sent"


def test_what_a_node_does_is_in_the_graph() -> None:
    step = claims.graph.nodes["open_file.scope/open_file"]
    assert isinstance(step, g.StepNode)
    assert (step.build, step.command, step.participant, step.reply) == (
        "open_file", "claims.OpenFile", "archive", "claims.FileOpened",
    )  # fmt: skip
    assert (step.undo, step.undo_command, step.undo_participant) == ("discard_file", "claims.DiscardFile", "archive")
    task = claims.graph.nodes["assessment"]
    assert isinstance(task, g.TaskNode)
    assert task.outcomes == ("fair", "excessive", "fraud")
    assert (task.to, task.within, task.votes) == ([{"role": "assessor"}], g.Limit(ms=172_800_000), 1)
    assert task.escalate == (g.Escalation(86_400_000, [{"role": "senior"}]),)
    assert (task.exclude, task.amend_on, task.help) == (("customer",), "claims.ClaimChanged", "Is the claim fair?")
    release = claims.graph.nodes["ReportMade/release.scope/release"]
    assert isinstance(release, g.TaskNode)
    assert (release.to, release.within) == ({"function": "seniors"}, g.Limit(function="next_monday"))
    assert task.rejects == (), "one vote decides for a plain approval's REJECT, and where rejects= says so"
    assert (release.votes, release.exclude_tasks, release.rejects) == (2, ("assessment",), ("reject",))
    call = claims.graph.nodes["pay"]
    assert isinstance(call, g.CallNode)
    assert (call.child, call.child_version, call.command, call.reply, call.pivot) == (
        "payout", 3, "claims.PayOut", "claims.Paid", True,
    )  # fmt: skip
    wait = claims.graph.nodes["open_file.scope/items/item_appraised"]
    assert isinstance(wait, g.WaitNode)
    assert (wait.event, wait.match, wait.early) == ("claims.ItemAppraised", "item_key", True)
    photos = claims.graph.nodes[f"{PHOTOS}/photos_sent"]
    assert isinstance(photos, g.WaitNode)
    assert photos.since == f"{PHOTOS}/ask_for_photos"


PHOTOS = "open_file.scope/ask_for_photos.parallel/ask_for_photos/ask_for_photos.repeat"


def test_a_compute_keeps_the_name_of_its_function() -> None:
    node = saga(compute(policy), note).graph.nodes["policy"]
    assert isinstance(node, g.ComputeNode)
    assert node.function == "policy"

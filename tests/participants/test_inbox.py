"""Commands whose effect is in the participant's own database: each at most once, and every answer the same for ever."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.messages import Done
from orchestrator.participants.testing import Trial, command_message, incoming
from tests.participants.tills import Count, Put, PutIn, PutMany, Stranger, TakeOut

EFFECTS = "SELECT kind, amount FROM effects ORDER BY number"


async def effects(till: Trial) -> list[tuple[str, int]]:
    return [(row["kind"], row["amount"]) for row in await till.rows(EFFECTS)]


async def test_a_command_is_done_and_answered(till: Trial) -> None:
    answered = await till.ask(PutIn(amount=5))
    assert (answered.outcome, answered.reply) == ("ok", Put(amount=5))
    assert await effects(till) == [("put", 5)]


async def test_a_duplicate_is_answered_with_the_same_bytes_and_does_nothing(till: Trial) -> None:
    """Redelivery after a crash is the very same message."""
    answered = await till.ask(PutIn(amount=5))
    assert await till.again(answered) == answered
    assert await effects(till) == [("put", 5)]


async def test_a_retry_has_another_id_and_the_same_answer(till: Trial) -> None:
    """The coordinator's second attempt is a new message with the same key."""
    first = await till.ask(PutIn(amount=5))
    second = await till.ask(PutIn(amount=5), attempt=2)
    assert second.message.value == first.message.value
    assert dict(second.message.headers)["ce_attempt"] == b"2"
    assert await effects(till) == [("put", 5)]


async def test_duplicates_within_one_batch_are_done_once(till: Trial) -> None:
    message = incoming(command_message(PutIn(amount=5)))
    answers = await till.deliver([message, message, incoming(command_message(PutIn(amount=5), attempt=2))])
    assert [answer.outcome for answer in answers] == ["ok"] * 3
    assert answers[0].message == answers[1].message
    assert await effects(till) == [("put", 5)]


async def test_the_same_key_with_another_body_is_kept_and_answered_loudly(till: Trial) -> None:
    """Also when the hash of the body, which ends a key, differs: a round is a round."""
    await till.ask(PutIn(amount=5))
    other = await till.ask(PutIn(amount=6), attempt=2)
    assert (other.outcome, other.reason.split(":")[0]) == ("error", "other_body")
    assert await effects(till) == [("put", 5)]
    [letter] = await till.rows("SELECT reason, value FROM dead_letters")
    assert letter == {"reason": "other_body", "value": b'{"amount":6}'}


async def test_a_refusal_is_stored_and_what_was_written_before_it_is_not(till: Trial) -> None:
    first = await till.ask(PutIn(amount=13))
    assert (first.outcome, first.code, first.reason) == ("refused", "unlucky", "unlucky: not thirteen")
    assert await till.again(first) == first
    assert await effects(till) == []


@pytest.mark.parametrize("amount", [666, 667], ids=["raises", "breaks the transaction"])
async def test_an_error_stores_nothing_and_the_others_of_the_batch_do_not_suffer(till: Trial, amount: int) -> None:
    answers = await till.ask_all([PutIn(amount=1), PutIn(amount=amount), PutIn(amount=2), PutIn(amount=13)])
    assert [answer.outcome for answer in answers] == ["ok", "error", "ok", "refused"]
    assert await effects(till) == [("put", 1), ("put", 2)]
    assert len(await till.rows("SELECT key FROM inbox")) == 3


async def test_many_at_once_are_one_call_and_each_has_its_own_answer(till: Trial) -> None:
    answers = await till.ask_all([PutMany(amount=amount) for amount in (1, 13, 3)])
    assert [answer.outcome for answer in answers] == ["ok", "refused", "ok"]
    assert [answer.reply for answer in answers] == [Put(amount=1), None, Put(amount=3)]
    assert await effects(till) == [("put", 1), ("put", 3)]


async def test_one_of_many_that_raises_harms_nobody_else(till: Trial) -> None:
    answers = await till.ask_all([PutMany(amount=amount) for amount in (1, 666, 3)])
    assert [answer.outcome for answer in answers] == ["ok", "error", "ok"]
    assert await effects(till) == [("put", 1), ("put", 3)]


async def test_a_fence_after_the_command_answers_with_its_outcome(till: Trial) -> None:
    await till.ask(PutIn(amount=5))
    fenced = await till.fence(PutIn(amount=5))
    assert (fenced.outcome, fenced.reply) == ("ok", Put(amount=5))


async def test_a_fence_after_a_refusal_answers_refused(till: Trial) -> None:
    await till.ask(PutIn(amount=13))
    assert (await till.fence(PutIn(amount=13))).outcome == "refused"


async def test_a_fence_before_the_command_refuses_it_for_ever(till: Trial) -> None:
    """A command that was still in the broker when the saga turned back must never act."""
    fenced = await till.fence(PutIn(amount=5))
    assert fenced.outcome == "not_done"
    late = await till.ask(PutIn(amount=5))
    assert (late.outcome, late.code) == ("refused", "fenced")
    assert await till.again(fenced) == fenced
    assert await effects(till) == []


async def test_a_fence_after_an_error_is_definite(till: Trial) -> None:
    await till.ask(PutIn(amount=666))
    assert (await till.fence(PutIn(amount=666))).outcome == "not_done"


async def test_command_and_fence_in_one_batch_keep_their_order(till: Trial) -> None:
    command, fence = command_message(PutIn(amount=5)), command_message(PutIn(amount=5), purpose="fence")
    done_first = await till.deliver([incoming(command), incoming(fence)])
    assert [answer.outcome for answer in done_first] == ["ok", "ok"]
    command, fence = (
        command_message(PutIn(amount=6), saga="other"),
        command_message(PutIn(amount=6), saga="other", purpose="fence"),
    )
    fenced_first = await till.deliver([incoming(fence), incoming(command)])
    assert [answer.outcome for answer in fenced_first] == ["not_done", "refused"]


async def test_a_fence_needs_no_handler(till: Trial) -> None:
    """A type that was renamed or removed must not hold a saga for ever."""
    assert (await till.fence(Stranger())).outcome == "not_done"


async def test_an_undo_takes_back_what_was_done(till: Trial) -> None:
    done = await till.ask(PutIn(amount=5))
    undone = await till.undo(TakeOut(amount=5), done)
    assert (undone.outcome, undone.reply) == ("ok", Done())
    assert await till.again(undone) == undone
    assert await effects(till) == [("put", 5), ("take", -5)]


@pytest.mark.parametrize("amount", [5, 13], ids=["never came", "was refused"])
async def test_an_undo_of_what_was_never_done_does_nothing_and_says_yes(till: Trial, amount: int) -> None:
    key = (await till.fence(PutIn(amount=amount), saga="other")).key.replace("other", "saga-1")
    if amount == 13:
        await till.ask(PutIn(amount=13))
    undone = await till.undo(TakeOut(amount=amount), key)
    assert (undone.outcome, undone.reply) == ("ok", Done())
    assert await effects(till) == []


async def test_an_undo_first_fences_what_it_undoes(till: Trial) -> None:
    """The undo may overtake its step: two topics or two partitions promise no order."""
    undone = await till.undo(TakeOut(amount=5), "saga-1:PutIn:1")
    late = await till.ask(PutIn(amount=5))
    assert (undone.outcome, late.outcome) == ("ok", "refused")
    assert await effects(till) == []


async def test_a_failed_undo_stores_nothing_and_is_done_when_asked_again(till: Trial) -> None:
    done = await till.ask(
        PutIn(
            amount=666,
        ),
        activity="x",
        saga="s",
    )
    assert done.outcome == "error"
    done = await till.ask(PutIn(amount=1))
    assert (await till.undo(TakeOut(amount=666), done)).outcome == "error"
    assert await effects(till) == [("put", 1)]


async def test_a_later_round_is_answered_by_the_earlier_key_that_was_done(till: Trial) -> None:
    """Evidence said *not done*, a new round began, and the first round had been done after all (rule 15)."""
    first = await till.ask(PutIn(amount=5), round=1)
    second = await till.ask(PutIn(amount=5), round=2, earlier=[first.key])
    assert (second.outcome, second.reply, second.done_key) == ("ok", Put(amount=5), first.key)
    assert await till.again(second) == second
    third = await till.ask(PutIn(amount=5), round=3, earlier=[first.key, second.key])
    assert third.done_key == first.key
    assert await effects(till) == [("put", 5)]


async def test_a_later_round_refuses_the_earlier_keys_that_were_not_done(till: Trial) -> None:
    first = command_message(PutIn(amount=5), round=1)
    second = await till.ask(PutIn(amount=5), round=2, earlier=["saga-1:PutIn:1"])
    [late] = await till.deliver([incoming(first)])
    assert (second.outcome, second.done_key, late.outcome) == ("ok", "", "refused")
    assert await effects(till) == [("put", 5)]


async def test_a_fence_of_a_later_round_finds_what_an_earlier_one_did(till: Trial) -> None:
    first = await till.ask(PutIn(amount=5), round=1)
    fenced = await till.fence(PutIn(amount=5), round=2, earlier=[first.key])
    assert (fenced.outcome, fenced.done_key) == ("ok", first.key)
    assert (await till.ask(PutIn(amount=5), round=2, earlier=[first.key])).done_key == first.key


async def test_what_only_reads_stores_nothing(till: Trial) -> None:
    await till.ask(PutIn(amount=5))
    first = await till.ask(Count())
    await till.ask(PutIn(amount=2), round=2)
    second = await till.again(first)
    assert (first.reply, second.reply) == (Put(amount=5), Put(amount=7))
    assert (await till.fence(Count())).outcome == "not_done"
    assert len(await till.rows("SELECT key FROM inbox")) == 2


async def test_what_only_reads_cannot_write(till: Trial) -> None:
    @till.participant.handles(Stranger, reads=True)
    async def write(command: Stranger, work: object) -> Done:
        await work.connection.execute("INSERT INTO effects (kind, key, amount) VALUES ('x', 'x', 1)")  # type: ignore[attr-defined]
        return Done()

    answered = await till.ask(Stranger())
    assert (answered.outcome, answered.reason.split(":")[0]) == ("error", "ReadOnlySQLTransactionError")


async def test_an_unknown_type_and_a_body_that_does_not_fit_are_kept_and_answered(till: Trial) -> None:
    unknown = await till.ask(Stranger())
    message = command_message(PutIn(amount=5))
    broken = incoming(type(message)(message.topic, message.key, b'{"amount":"lots"}', message.headers))
    [invalid] = await till.deliver([broken])
    assert (unknown.outcome, invalid.outcome) == ("error", "error")
    letters = await till.rows("SELECT reason FROM dead_letters ORDER BY id")
    assert [letter["reason"] for letter in letters] == ["unknown_type", "invalid"]
    assert len(await till.rows("SELECT key FROM inbox")) == 0


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("ce_id", b"\xff"),),
        tuple((n, b"x" * 600 if n == "ce_idempotencykey" else v) for n, v in command_message(PutIn(amount=1)).headers),
        tuple((n, b"a\0b" if n == "ce_idempotencykey" else v) for n, v in command_message(PutIn(amount=1)).headers),
        tuple((n, b"one" if n == "ce_round" else v) for n, v in command_message(PutIn(amount=1)).headers),
        tuple((n, b"wish" if n == "ce_purpose" else v) for n, v in command_message(PutIn(amount=1)).headers),
    ],
    ids=["none", "not text", "key too long", "zero in a key", "round is no number", "unknown purpose"],
)
async def test_a_message_nobody_can_read_is_kept_and_stops_nobody(
    till: Trial, headers: tuple[tuple[str, bytes], ...]
) -> None:
    message = command_message(PutIn(amount=5))
    bad = incoming(type(message)(message.topic, message.key, b"\0", (*headers, ("a\0b", b"\0"))))
    answers = await till.deliver([bad, incoming(message)])
    await till.deliver([bad])
    assert [answer.outcome for answer in answers] == ["ok"]
    [letter] = await till.rows("SELECT reason, value FROM dead_letters")
    assert letter == {"reason": "unreadable", "value": b"\0"}


async def test_two_processes_with_the_same_command_do_it_once(till: Trial) -> None:
    """A zombie that lost its partition meets its successor: the loser's effects are rolled back."""
    gate = asyncio.Event()
    participant = till.participant
    inner = participant.handlers[PutIn.wire_name].one
    assert inner is not None

    async def slow(command: PutIn, work: object) -> object:
        reply = await inner(command, work)  # type: ignore[arg-type]
        await gate.wait()
        return reply

    handler = type(participant.handlers[PutIn.wire_name])(PutIn, one=slow)  # type: ignore[arg-type]
    participant._handlers[PutIn.wire_name] = handler
    message = incoming(command_message(PutIn(amount=5)))
    racers = [asyncio.create_task(till.deliver([message])) for _ in range(3)]
    await asyncio.sleep(0.2)
    gate.set()
    answers = await asyncio.gather(*racers)
    assert len({answer.message for [answer] in answers}) == 1
    assert await effects(till) == [("put", 5)]


async def test_a_stored_answer_outlives_the_handler(till: Trial) -> None:
    """Another version of the code, without this handler, still answers duplicates."""
    done = await till.ask(PutIn(amount=5))
    del till.participant._handlers[PutIn.wire_name]
    assert (await till.again(done)).message == done.message


async def test_tenants_do_not_share_keys(till: Trial) -> None:
    mine = await till.ask(PutIn(amount=5), key="k:a:1")
    theirs = await till.ask(PutIn(amount=6), key="k:a:1", tenant="other")
    assert (mine.reply, theirs.reply) == (Put(amount=5), Put(amount=6))
    assert (await till.again(mine), await till.again(theirs)) == (mine, theirs)


async def test_a_slow_process_never_takes_a_position_back(till: Trial) -> None:
    """It lost the partition long ago; its successor has read on."""
    await till.inbox.write_positions({("till.commands", 0): 5})
    await till.inbox.write_positions({("till.commands", 0): 3, ("till.commands", 1): 2})
    found = await till.inbox.positions([("till.commands", 0), ("till.commands", 1), ("till.commands", 2)])
    assert found == {("till.commands", 0): 5, ("till.commands", 1): 2, ("till.commands", 2): None}


async def test_old_keys_are_forgotten_and_only_settled_ones(till: Trial) -> None:
    await till.ask(PutIn(amount=5))
    await till.ask(PutIn(amount=5), round=2)
    await till.rows(
        "UPDATE inbox SET settled_at = settled_at - interval '500 days' WHERE key = 'saga-1:PutIn:1' RETURNING 1"
    )
    await till.inbox.forget_old(400, 100)
    assert [row["key"] for row in await till.rows("SELECT key FROM inbox")] == ["saga-1:PutIn:2"]

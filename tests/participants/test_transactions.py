"""One command in as few round trips as it takes: what fails is done again with a savepoint, nothing else changes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from asyncpg import DivisionByZeroError
from asyncpg.connection import LoggedQuery

from orchestrator.messages import Done
from orchestrator.participants import Asked, ManyWork, Participant, Pool, Refused, Work, batches, open_pool
from orchestrator.participants.delivery import Delivery, read_delivery
from orchestrator.participants.inbox import InboxConflict
from orchestrator.participants.testing import Trial, command_message, incoming, trial
from tests.databases import Database
from tests.participants.tills import MIGRATIONS, Put, PutIn, PutMany, Stranger

INSERT = "INSERT INTO effects (kind, key, amount) VALUES ('put', $1, 1)"
PLACE = ("till.commands", 0)
LIMIT = 100_000


async def effects(till: Trial) -> int:
    """How many there are."""
    [row] = await till.rows("SELECT count(*)::int AS effects FROM effects")
    return int(row["effects"])


def delivery(till: Trial, command: PutIn | Stranger) -> Delivery:
    """A command as the batch path takes it."""
    found = read_delivery(incoming(command_message(command)), till.participant.handlers)
    assert isinstance(found, Delivery)
    return found


async def test_a_lone_command_takes_four_round_trips_and_those_of_its_handler(till: Trial, database: Database) -> None:
    """Each one more is a fifth of a millisecond in every step of every saga."""
    said: list[str] = []

    def hear(query: LoggedQuery) -> None:
        said.append(query.query.removeprefix("-- till\n").splitlines()[0])

    async with open_pool(database.url, 1) as pool:
        lone = Trial(till.participant, pool)
        async with pool.acquire() as connection:
            connection.add_query_logger(hear)
        await lone.ask(PutIn(amount=1), saga="the first one asks for types")
        said.clear()
        await batches.process(lone.inbox, [delivery(lone, PutIn(amount=5))], [], {PLACE: 7}, LIMIT)
    assert said == [
        "BEGIN;",
        "-- enter_and_read",
        INSERT.replace("'put', $1, 1", "$1, $2, $3"),
        "-- add_rows",
        "COMMIT;",
    ]
    assert await till.inbox.positions([PLACE]) == {PLACE: 7}


async def test_a_lone_command_that_fails_is_run_again_and_leaves_nothing_but_its_answer(till: Trial) -> None:
    """Once without a savepoint, once with one; what was written before is gone both times."""
    calls = []

    @till.participant.handles(Stranger)
    async def refuse(command: Stranger, work: Work) -> Done:
        calls.append(command.amount)
        await work.connection.execute(INSERT, work.key)
        raise Refused("never", "not today")

    answered = await till.ask(Stranger(amount=1))
    assert (answered.outcome, answered.code, calls) == ("refused", "never", [1, 1])
    assert await till.again(answered) == answered
    assert (calls, await effects(till)) == ([1, 1], 0)


async def test_a_failing_command_takes_no_dead_letter_and_no_progress_with_it(till: Trial) -> None:
    """They are of the same transaction, which is rolled back and done again."""
    bad = read_delivery(incoming(command_message(PutIn(amount=1)).__class__("till.commands", None, b"x", ())), {})
    assert not isinstance(bad, Delivery)
    outcome = await batches.process(till.inbox, [delivery(till, PutIn(amount=666))], [bad], {PLACE: 3}, LIMIT)
    assert [answer.outcome for _, answer, _ in outcome.answered] == ["error"]
    assert await till.rows("SELECT reason FROM dead_letters") == [{"reason": "unreadable"}]
    assert await till.inbox.positions([PLACE]) == {PLACE: 3}
    assert await effects(till) == 0


async def test_a_handler_that_swallows_a_failed_statement_is_answered_error(till: Trial) -> None:
    """Its transaction can no longer commit what it says; the next one of the same key finds nothing done."""

    @till.participant.handles(Stranger)
    async def careless(command: Stranger, work: Work) -> Done:
        await work.connection.execute(INSERT, work.key)
        with suppress(DivisionByZeroError):
            await work.connection.execute("SELECT 1 / $1::int", command.amount)
        return Done()

    answered = await till.ask(Stranger(amount=0))
    assert answered.outcome == "error"
    assert await effects(till) == 0
    assert (await till.fence(Stranger(amount=0))).outcome == "not_done"
    assert (await till.ask(Stranger(amount=1), saga="other")).outcome == "ok"


async def test_a_handler_may_open_transactions_of_its_own_inside(till: Trial) -> None:
    """They are savepoints, alone and in a batch."""

    @till.participant.handles(Stranger)
    async def nested(command: Stranger, work: Work) -> Done:
        async with work.connection.transaction():
            await work.connection.execute(INSERT, work.key)
        with suppress(ZeroDivisionError):
            async with work.connection.transaction():
                await work.connection.execute(INSERT, work.key)
                raise ZeroDivisionError
        return Done()

    assert (await till.ask(Stranger())).outcome == "ok"
    assert await effects(till) == 1
    assert [one.outcome for one in await till.ask_all([Stranger()] * 3, round=2)] == ["ok"] * 3
    assert await effects(till) == 4


async def test_a_refusal_of_one_out_of_many_calls_the_handler_once(till: Trial) -> None:
    """It is given back, not raised: nothing is to be undone, also when it is the only one."""
    calls = []

    @till.participant.handles_many(Stranger)
    async def refuse(asked: list[Asked[Stranger]], work: ManyWork) -> list[Done | Refused]:
        calls.append(len(asked))
        return [Refused("never", "not today") for _ in asked]

    answered = await till.ask(Stranger())
    assert (answered.outcome, answered.code) == ("refused", "never")
    assert [one.code for one in await till.ask_all([Stranger()] * 3, round=2)] == ["never"] * 3
    assert calls == [1, 3]


async def test_who_loses_a_race_takes_back_its_progress_too(till: Trial) -> None:
    """The row and the position are one statement: none of it stays where somebody else has the key."""
    faster = [True]

    @till.participant.handles(Stranger)
    async def overtaken(command: Stranger, work: Work) -> Done:
        await work.connection.execute(INSERT, work.key)
        if faster and faster.pop():
            await till.deliver([given.message])
        return Done()

    given = delivery(till, Stranger())
    with pytest.raises(InboxConflict):
        await batches.process(till.inbox, [given], [], {PLACE: 9}, LIMIT)
    assert await till.inbox.positions([PLACE]) == {PLACE: None}
    assert await effects(till) == 1


@pytest.mark.parametrize("name", ["safe", "order"], ids=["a name", "a word of SQL"])
async def test_two_participants_on_one_connection_never_see_each_others_rows(
    till: Trial, database: Database, name: str
) -> None:
    """Statements stay prepared on a connection; each participant has its own, in its own schema."""
    other = Participant(name, migrations=MIGRATIONS)

    class Keep(PutIn, to=name, name=f"{name}.Keep"):
        """The same, elsewhere."""

    @other.handles(Keep)
    async def keep(command: Keep, work: Work) -> Put:
        await work.connection.execute(INSERT, work.key)
        return Put(amount=command.amount + 1)

    async with open_pool(database.url, 1) as pool, trial(other, pool, database.migrate_url) as second:
        first = Trial(till.participant, pool)
        for number in range(8):  # as often as it takes to be planned once for all
            mine = await first.ask(PutIn(amount=1), key=f"k:{number}:1")
            theirs = await second.ask(Keep(amount=1), key=f"k:{number}:1")
            assert (mine.reply, theirs.reply) == (Put(amount=1), Put(amount=2))
            assert (await first.again(mine), await second.again(theirs)) == (mine, theirs)
        assert (await effects(first), await effects(second)) == (8, 8)


async def test_what_a_transaction_sets_ends_with_it(till: Trial, database: Database) -> None:
    """Connections go back to the pool as they are, so nothing may outlast a transaction."""
    async with open_pool(database.url, 1) as pool:
        before = await _session(pool)
        await Trial(till.participant, pool).ask_all([PutMany(amount=1), PutIn(amount=13), PutIn(amount=2)])
        assert await _session(pool) == before


async def _session(pool: Pool) -> dict[str, str]:
    return {row["name"]: row["setting"] for row in await pool.fetch("SELECT name, setting FROM pg_settings")}


async def test_the_plan_made_for_an_empty_inbox_is_good_for_a_full_one(till: Trial, database: Database) -> None:
    """It is kept while the inbox grows; one that reads the whole table would cost more with every command."""
    async with open_pool(database.url, 1) as pool:
        await Trial(till.participant, pool).fence(PutIn(amount=1))
        async with pool.acquire() as connection:
            [row] = await connection.fetch(PREPARED, "enter_and_read")
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            arguments = "'till', '1s', '1s', '1s', '{main}', '{k}', 1"
            plan = "\n".join(line[0] for line in await connection.fetch(f"EXPLAIN EXECUTE {row['name']} ({arguments})"))
    assert "Index Scan using inbox_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan


PREPARED = "SELECT name FROM pg_prepared_statements WHERE starts_with(statement, '-- till' || chr(10) || '-- ' || $1)"


async def test_behind_a_pooler_nothing_is_prepared_and_everything_works(till: Trial, database: Database) -> None:
    """It gives another connection to each transaction, on which nothing was prepared."""
    async with open_pool(database.url, 1, prepared_statements=False) as pool:
        await Trial(till.participant, pool).ask_all([PutMany(amount=1), PutIn(amount=2)])
        assert await pool.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''") == []

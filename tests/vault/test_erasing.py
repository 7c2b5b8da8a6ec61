"""Which keys an erasure destroys, and what opens and is sealed where: this person's, and nobody else's (ADR 60, 61)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.inputs import Start, TimerDue
from orchestrator.messages import ContractError
from orchestrator.messages.personal import is_sealed, subject_key
from orchestrator.participants.sealing import Envelope
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.letters import letter_of
from orchestrator.runtime.work import Cause, Opened, Outcome, SagaBegin, SagaInput
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.store.contract import SagaStart
from orchestrator.vault import keyfile
from orchestrator.vault.erasing import Erasing, ErasureRefusedError
from orchestrator.vault.finishing import Finishing
from orchestrator.vault.keys import Erased, Keys
from orchestrator.vault.repeating import Repeating
from orchestrator.vault.tokens import SealedError, event_scope, saga_scope
from orchestrator.vault.vault import Vault
from tests.databases import Database
from tests.vault.care import care, visits


@dataclass
class Act:
    """Erasing over a real database, without a running product."""

    erasing: Erasing
    finishing: Finishing
    vault: Vault
    keys: Keys
    pools: Pools
    submitted: list[str] = field(default_factory=list)

    async def saga(self, saga_id: str, business_key: str, *, parent: str = "", ended: bool = True) -> None:
        """A saga that is there."""
        async with self.pools.connection("vault") as connection:
            await connection.execute(
                "INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, started_at, parent, ended)"
                " VALUES ($1, 'main', 'care', $2, 3, 1, $3, $4)",
                saga_id, business_key, parent, ended,
            )  # fmt: skip

    async def sealed(self, subject: str, *sagas: str) -> str:
        """The key of a subject, which has sealed something of these sagas a while ago."""
        found = await self.keys.of_subjects({("main", subject): sagas})
        async with self.pools.connection("vault") as connection:
            await connection.execute("UPDATE vault_sagas SET seen_at = seen_at - interval '1 day'")
        return found["main", subject].key_id

    async def gone(self, *key_ids: str) -> list[bool]:
        """Which of these keys are no more."""
        self.keys.forget(key_ids)
        found = await self.keys.by_id(key_ids)
        return [isinstance(found[key_id], Erased) for key_id in key_ids]


@pytest_asyncio.fixture
async def act(database: Database, tmp_path: Path) -> AsyncIterator[Act]:
    """Two people are needed."""
    pools = Pools(database.url, ConnectionLimits(), "test")
    keys = Keys(pools, keyfile.create(tmp_path / "vault.keys"))
    submitted: list[str] = []

    async def submit(item: SagaInput) -> Outcome:
        submitted.append(item.saga_id)
        return Outcome("failed" if item.saga_id == "s-retired" else "applied", item.saga_id)

    async def recorded(_tenant: str, _saga_id: str) -> list[object]:
        return []

    vault = Vault(keys, Catalog.of([], []), lambda _name, _data: "")
    finishing = Finishing(pools, submit, recorded)
    repeating = Repeating(keys, pools, [])
    yield Act(Erasing(vault, pools, finishing, repeating, two_people=True), finishing, vault, keys, pools, submitted)
    await pools.close()


async def test_a_request_that_stands_for_somebody_erases_nobody_else(act: Act) -> None:
    """A number typed twice must neither destroy the first person's keys, nor say that the second is erased."""
    anna, bo = await act.sealed("CUST-ANNA", "s-1"), await act.sealed("CUST-BO", "s-2")
    await act.saga("s-1", "a-1")
    await act.saga("s-2", "b-1")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    with pytest.raises(ErasureRefusedError, match="somebody else") as refused:
        await act.erasing.ask("main", "CUST-BO", "ER-7", "a letter", "omar")
    assert refused.value.refusal.code == "invalid"
    assert await act.gone(anna, bo) == [False, False]
    done = await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "omar")
    assert done.erased_at is not None
    assert await act.gone(anna, bo) == [True, False]
    with pytest.raises(ErasureRefusedError, match="somebody else"):
        await act.erasing.ask("main", "CUST-BO", "ER-7", "a letter", "omar")
    again = await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "omar")
    assert again.erased_at == done.erased_at, "whoever comes again finishes what is missing"


async def test_what_came_between_asking_and_confirming_goes_too(act: Act) -> None:
    """The second person may come days later: by then there are more sagas, and more keys that are theirs."""
    anna = await act.sealed("CUST-ANNA", "s-1")
    await act.saga("s-1", "a-1")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    await act.saga("s-2", "a-2")
    assert await act.sealed("CUST-ANNA", "s-2") == anna
    event = await act.sealed("key:a-2")
    done = await act.erasing.confirm("main", "ER-7", "omar")
    assert (done.keys, done.sagas) == (2, 2)
    assert await act.gone(anna, event) == [True, True]
    assert act.submitted == ["s-1", "s-2"]
    assert done.finished_at is not None


async def test_a_saga_that_cannot_say_so_is_not_counted_as_if_it_had(act: Act) -> None:
    """Its code may be gone. Its values are, too; only the record is missing."""
    anna = await act.sealed("CUST-ANNA", "s-1", "s-retired")
    await act.saga("s-1", "a-1")
    await act.saga("s-retired", "a-2")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    done = await act.erasing.confirm("main", "ER-7", "omar")
    assert (done.erased_at is not None, done.sagas) == (True, 1)
    assert await act.gone(anna) == [True]


async def test_a_saga_that_cannot_say_so_is_told_again_later_and_no_other_is(act: Act) -> None:
    """Each time later than before; the first minute belongs to whoever carried it out."""
    await act.sealed("CUST-ANNA", "s-1", "s-retired")
    await act.saga("s-1", "a-1")
    await act.saga("s-retired", "a-2")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    done = await act.erasing.confirm("main", "ER-7", "omar")
    assert (done.untold, done.finished_at) == (1, None)
    waits = []
    for _ in range(3):
        assert not await act.finishing.one(), "not before its time"
        async with act.pools.connection("vault") as connection:
            await connection.execute("UPDATE vault_erasures SET again_at = now()")
        assert await act.finishing.one()
        found, sagas = await act.erasing.one("main", "ER-7")
        waits.append(round((found.again_at - datetime.now(UTC)).total_seconds() / 60))
        assert len(sagas) == 2
    assert waits == [1, 2, 4]


async def test_who_confirms_somebody_else_than_was_meant_is_refused(act: Act) -> None:
    """The request holds nobody's id: the second person types whom the letter names, and the keys must be theirs."""
    anna = await act.sealed("CUST-ANNA", "s-1")
    await act.sealed("CUST-BO", "s-2")
    await act.saga("s-1", "a-1")
    await act.saga("s-2", "b-1")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    for other in ("CUST-BO", "CUST-NONE"):
        with pytest.raises(ErasureRefusedError):
            await act.erasing.confirm("main", "ER-7", "omar", subject=other)
    assert await act.gone(anna) == [False]
    assert (await act.erasing.confirm("main", "ER-7", "omar", subject="CUST-ANNA")).erased_at is not None


async def test_a_hold_is_listed_with_what_it_protects_and_let_go(act: Act) -> None:
    """Nobody's id is kept of it: whoever lets it go finds it in the list."""
    anna = await act.sealed("CUST-ANNA", "s-1")
    await act.saga("s-1", "a-1")
    event = await act.sealed("key:a-1")
    assert await act.erasing.hold("main", "CUST-ANNA", "a lawsuit", "olga") == 2
    ((hold, sagas),) = await act.erasing.holds("main")
    assert (hold.reason, hold.by, sorted(hold.key_ids)) == ("a lawsuit", "olga", sorted([anna, event]))
    assert [saga.business_key for saga in sagas] == ["a-1"]
    with pytest.raises(ErasureRefusedError, match="a lawsuit"):
        await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    assert await act.erasing.let_go("other", anna) == 0, "another tenant's is nobody's business"
    assert await act.erasing.let_go("main", anna) == 2
    assert await act.erasing.holds("main") == []
    assert (await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")).erased_at is None


async def test_holds_from_before_their_hour_was_noted_are_let_go_one_by_one(act: Act) -> None:
    """Two people, one reason, one who placed both: the end of one hold must not leave the other to be erased."""
    for name, saga in (("ANNA", "s-1"), ("BO", "s-2")):
        await act.sealed(f"CUST-{name}", saga)
        await act.saga(saga, saga)
        await act.erasing.hold("main", f"CUST-{name}", "a lawsuit", "olga")
    async with act.pools.connection("vault") as connection:
        await connection.execute("UPDATE vault_keys SET held_at = NULL")
    holds = await act.erasing.holds("main")
    assert [len(hold.key_ids) for hold, _ in holds] == [1, 1]
    assert await act.erasing.let_go("main", holds[0][0].key_ids[0]) == 1
    ((hold, _),) = await act.erasing.holds("main")
    assert hold.key_ids == holds[1][0].key_ids


async def test_a_second_hold_takes_no_other_ones_place(act: Act) -> None:
    """Its end would be the end of both, and somebody could be erased in the middle of the first lawsuit."""
    await act.sealed("CUST-ANNA", "s-1")
    await act.erasing.hold("main", "CUST-ANNA", "a lawsuit", "olga")
    for reason, by in (("another lawsuit", "olga"), ("a lawsuit", "omar")):
        with pytest.raises(ErasureRefusedError, match="under a legal hold already, placed by olga: a lawsuit"):
            await act.erasing.hold("main", "CUST-ANNA", reason, by)
    assert await act.erasing.hold("main", "CUST-ANNA", "a lawsuit", "olga") == 1, "the same again changes nothing"
    assert await act.erasing.hold("main", "CUST-ANNA", "", "omar") == 1


async def test_an_erasure_of_many_sagas_does_not_look_like_a_loop_that_stands(act: Act) -> None:
    """Each saga that is told is progress: a process whose loops stand is restarted."""
    await act.sealed("CUST-ANNA", "s-1", "s-2", "s-retired")
    for saga in ("s-1", "s-2", "s-retired"):
        await act.saga(saga, saga)
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    await act.erasing.confirm("main", "ER-7", "omar")
    async with act.pools.connection("vault") as connection:
        await connection.execute("UPDATE vault_erasures SET again_at = now()")
    beats: list[int] = []
    assert await act.finishing.one(lambda: beats.append(len(act.submitted)))
    assert len(set(beats)) == 3


async def test_of_two_who_confirm_in_one_moment_one_tells_the_sagas(act: Act) -> None:
    """The button clicked twice: both found the request unconfirmed before either had the keys."""
    await act.sealed("CUST-ANNA", "s-1")
    await act.saga("s-1", "a-1")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    waiting = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with act.pools.connection("read") as holding, act.pools.connection("work") as looking, asyncio.timeout(30):
        await holding.begin()
        await holding.fetch("SELECT key_id FROM vault_keys FOR UPDATE")
        both = [asyncio.create_task(act.erasing.confirm("main", "ER-7", by)) for by in ("omar", "nora")]
        while (await looking.fetchrow(waiting))["n"] < 2:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
        await holding.roll_back()
    first, second = await asyncio.gather(*both)
    assert act.submitted == ["s-1"]
    assert first.confirmed_by == second.confirmed_by


async def test_a_child_that_was_told_no_name_goes_with_its_parent(act: Act) -> None:
    """Its start held nothing of the customer, so it has a key of its own; what it learned later is theirs too."""
    anna = await act.sealed("CUST-ANNA", "s-1")
    await act.saga("s-1", "a-1")
    await act.saga("s-2", "a-1/child", parent="s-1", ended=False)
    await act.saga("s-3", "a-1/child/child", parent="s-2")
    child, grandchild = await act.sealed("saga:s-2", "s-2"), await act.sealed("saga:s-3", "s-3")
    other = await act.sealed("saga:s-4", "s-4")
    with pytest.raises(ErasureRefusedError, match="care a-1/child"):
        await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    async with act.pools.connection("vault") as connection:
        await connection.execute("UPDATE saga_heads SET ended = true")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    done = await act.erasing.confirm("main", "ER-7", "omar")
    assert done.sagas == 3
    assert await act.gone(anna, child, grandchild, other) == [True, True, True, False]


async def test_an_ended_saga_that_its_caller_may_still_undo_keeps_its_keys(act: Act) -> None:
    """Its undo is built from what it has sealed: without the key, money would be given back to "[erased]"."""
    anna, batch = await act.sealed("CUST-ANNA", "s-3"), await act.sealed("saga:s-1", "s-1")
    await act.saga("s-1", "batch-1", ended=False)
    await act.saga("s-2", "batch-1/part", parent="s-1")
    await act.saga("s-3", "batch-1/part/anna", parent="s-2")
    with pytest.raises(ErasureRefusedError, match="care batch-1/part/anna") as refused:
        await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    assert refused.value.refusal.code == "in_use"
    async with act.pools.connection("vault") as connection:
        await connection.execute("UPDATE saga_heads SET ended = true")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    await act.erasing.confirm("main", "ER-7", "omar")
    assert await act.gone(anna, batch) == [True, False], "the batch was not hers"


async def test_a_command_that_names_nonsense_for_a_key_stops_no_participant(act: Act) -> None:
    """No column holds a NUL: asked for as a key it fails for ever, and every command behind it would wait."""
    anna = await act.sealed("CUST-ANNA", "s-1")

    def command(key: bytes) -> IncomingMessage:
        return IncomingMessage("care.commands", 0, 1, b"s-1", b"{}", (("ce_subjectkey", key),), 0)

    nonsense = [b"\0", b"sixteen letters\0", b"\xff" * 16, b"a b c d e f g h ", b"", b"x" * 100_000]
    await act.vault.ask([command(key) for key in (*nonsense, anna.encode())])
    assert [subject_key(command(key).headers) for key in nonsense] == [""] * len(nonsense)
    assert act.vault.sealer_of(subject_key(command(anna.encode()).headers), "s-1", "main") is not None


async def test_a_message_of_one_tenant_opens_nothing_of_another(act: Act) -> None:
    """What one tenant's event holds under a type and key must not be read by sending it in as another tenant's."""
    found = await act.keys.of_subjects({("main", "CUST-ANNA"): ()})
    token = found["main", "CUST-ANNA"].seal("Anna Bell", event_scope("care.Requested", "a-1"), "name")
    body = orjson.dumps({"name": token})
    vault = act.vault
    assert vault.open_message(body, "main")[0] == b'{"name":"Anna Bell"}'
    with pytest.raises(SealedError, match="another tenant"):
        vault.open_message(body, "other")


async def test_a_command_that_holds_values_of_another_saga_is_invalid(act: Act) -> None:
    """A participant would otherwise open for one saga what belongs to another."""
    found = await act.keys.of_subjects({("main", "CUST-ANNA"): ()})
    key = found["main", "CUST-ANNA"]
    body = orjson.dumps({"name": key.seal("Anna Bell", saga_scope("s-1"), "name")})
    vault = act.vault
    assert Envelope(vault, key.key_id, "s-1", "main").opened(body) == b'{"name":"Anna Bell"}'
    with pytest.raises(ContractError, match="another saga"):
        Envelope(vault, key.key_id, "s-2", "main").opened(body)


async def test_what_a_timer_choked_on_is_sealed_too(act: Act) -> None:
    """The end of a traceback may hold values, wherever the input came from; what drives the timer again may not."""
    vault = act.vault
    given = SagaInput("s-1", TimerDue("step", 1), Cause("main"))
    await vault.prepare([given], {}, {})
    letter = letter_of(given.cause, "poison", "ValueError: Anna Bell has no letter", given)
    kept = vault.seal_letter(letter)
    assert "Anna" not in kept.detail
    assert is_sealed(kept.detail)
    assert kept.value == letter.value


async def test_a_traceback_in_the_log_tells_nothing_of_whoever_caused_it(act: Act) -> None:
    """An error that says nothing may have been raised from one that says a name; so may an argument of a line."""
    found = await act.keys.of_subjects({("main", "CUST-ANNA"): ()})
    envelope = Envelope(act.vault, found["main", "CUST-ANNA"].key_id, "s-1", "main")
    assert envelope.sealer is not None
    envelope.sealer.note("Anna Bellweather")
    told = RuntimeError("no such account")
    told.__cause__ = KeyError("Anna Bellweather")
    assert envelope.traceback(told) is None
    harmless = RuntimeError("no such account")
    assert envelope.traceback(harmless) is harmless


async def test_nothing_begins_under_a_key_that_another_process_has_just_erased(act: Act) -> None:
    """Memory holds an opened key for a minute; a saga that began under it could be read by nobody a minute later."""
    catalog = Catalog.of([care], [visits])
    vault = Vault(act.keys, catalog, lambda _name, _data: "")
    key = await act.sealed("key:a-1")
    start = Start("s-1", "main", "a-1", "caretest.CareRequested", {"case": "a-1"})
    cause = Cause("main", opened=Opened((key,)))
    begin = SagaBegin(SagaStart("s-1", "main", "care", "a-1"), start, cause, 1)
    assert (await vault.prepare([begin], {}, {})).sagas["s-1"].key.key_id == key
    async with act.pools.connection("vault") as connection:
        await connection.execute(
            "UPDATE vault_keys SET wrapped = NULL, subject = NULL, erased_at = now(), request = 'ER-7'"
            " WHERE key_id = $1", key
        )  # fmt: skip
    assert act.keys.at_hand(key) is not None
    assert (await vault.prepare([begin], {}, {})).sagas["s-1"].key.key_id != key

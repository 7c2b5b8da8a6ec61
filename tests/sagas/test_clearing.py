"""The participant clearing: what it holds, releases and cancels adds up, whatever comes twice or in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from events.payments import CancelHold, HoldPayment, PaymentHeld, PaymentReleased, ReleasePayment
from orchestrator.participants.testing import Answered, Trial, trial
from orchestrator.participants.work import Pool
from sagas.payments.participants import SQL, clearing
from tests.databases import Database


@pytest_asyncio.fixture
async def desk(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """The participant clearing."""
    async with trial(clearing, pool, database.migrate_url) as tried:
        yield tried


def hold(amount: str = "3000", debtor: str = "acme-payroll", **other: str) -> HoldPayment:
    fields = {"payment_id": "PAY-1", "beneficiary_account": "harbour-freight", "currency": "EUR"} | other
    return HoldPayment(debtor_account=debtor, amount=Decimal(amount), **fields)


def hold_id(held: Answered) -> str:
    assert isinstance(held.reply, PaymentHeld), (held.code, held.reason)
    return held.reply.hold_id


async def balance(desk: Trial, account: str) -> Decimal:
    [row] = await desk.rows("SELECT balance FROM accounts WHERE account = $1", account)
    return Decimal(row["balance"])


async def became(desk: Trial) -> list[str]:
    assert await desk.rows(SQL["prove"]) == []
    return [row["became"] for row in await desk.rows(SQL["per_payment"])]


async def test_what_is_held_is_what_moves(desk: Trial) -> None:
    """Amount and accounts are those of the hold; the release only names it."""
    held = await desk.ask(hold())
    assert (await balance(desk, "acme-payroll"), await became(desk)) == (Decimal(4000), ["held"])
    done = await desk.ask(ReleasePayment(hold_id=hold_id(held), purpose="invoice 7"))
    assert isinstance(done.reply, PaymentReleased)
    assert await balance(desk, "acme-payroll") == Decimal(1000)
    assert await balance(desk, "harbour-freight") == Decimal(4200)
    assert await became(desk) == ["released"]


async def test_every_command_acts_once_however_often_it_comes(desk: Trial) -> None:
    """The same bytes are answered, and one hold, one release are made."""
    held = await desk.ask(hold())
    assert await desk.again(held) == held
    done = await desk.ask(ReleasePayment(hold_id=hold_id(held)))
    assert await desk.again(done) == done
    assert await balance(desk, "acme-payroll") == Decimal(1000)
    assert len(await desk.rows("SELECT * FROM postings")) == 2


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (hold("4000.01"), "insufficient_funds"),
        (hold(debtor="nobody"), "unknown_account"),
        (hold(beneficiary_account="nobody"), "unknown_account"),
        (hold(beneficiary_account="acme-payroll"), "same_account"),
        (hold(beneficiary_account="blue-ridge"), "currency_differs"),
        (hold(currency="USD"), "currency_differs"),
    ],
)
async def test_what_cannot_be_paid_is_refused_before_anybody_is_asked(
    desk: Trial, command: HoldPayment, code: str
) -> None:
    """A business no, and nothing is held."""
    refused = await desk.ask(command)
    assert (refused.outcome, refused.code, await became(desk)) == ("refused", code, [])


async def test_money_is_not_promised_twice(desk: Trial) -> None:
    """Two payments that wait for approval share one balance; what is given free can be promised again."""
    held = await desk.ask(hold("3000"))
    assert (await desk.ask(hold("2000", payment_id="PAY-2"), saga="saga-2")).code == "insufficient_funds"
    assert (await desk.undo(CancelHold(hold_id=hold_id(held)), held)).outcome == "ok"
    assert (await desk.ask(hold("2000", payment_id="PAY-2"), saga="saga-3")).outcome == "ok"
    assert await became(desk) == ["cancelled", "held"]


async def test_many_holds_at_once_never_hold_more_than_there_is(desk: Trial) -> None:
    """Ten times 900 of 4000, in one batch."""
    answers = await desk.ask_all([hold("900", payment_id=f"PAY-{number}") for number in range(10)])
    assert sorted(answer.outcome for answer in answers) == ["ok"] * 4 + ["refused"] * 6


async def test_a_hold_ends_once(desk: Trial) -> None:
    """Released is not cancelled, cancelled is not released."""
    held = await desk.ask(hold("1000"))
    await desk.ask(ReleasePayment(hold_id=hold_id(held)))
    assert (await desk.ask(CancelHold(hold_id=hold_id(held)))).code == "already_released"
    other = await desk.ask(hold("1000", payment_id="PAY-2"), saga="saga-2")
    assert (await desk.undo(CancelHold(hold_id=hold_id(other)), other, saga="saga-2")).outcome == "ok"
    refused = await desk.ask(ReleasePayment(hold_id=hold_id(other)), saga="saga-2")
    assert (refused.code, await became(desk)) == ("already_cancelled", ["released", "cancelled"])
    assert (await desk.ask(ReleasePayment(hold_id="H-none"), saga="saga-3")).code == "unknown_hold"


async def test_a_fenced_release_never_moves_money(desk: Trial) -> None:
    """The command that arrives after its fence is refused."""
    held = await desk.ask(hold())
    release = ReleasePayment(hold_id=hold_id(held))
    assert (await desk.fence(release)).outcome == "not_done"
    assert (await desk.ask(release)).code == "fenced"
    assert await became(desk) == ["held"]


async def test_the_proof_finds_money_that_is_missing(desk: Trial) -> None:
    """A proof that cannot fail proves nothing."""
    held = await desk.ask(hold())
    await desk.ask(ReleasePayment(hold_id=hold_id(held)))
    async with desk.inbox.transaction() as transaction:
        await transaction.connection.execute("UPDATE accounts SET balance = balance + 1 WHERE account = 'nordic-steel'")
        assert [row["what"] for row in await transaction.connection.fetch(SQL["prove"])] == ["nordic-steel"]

"""The participant accounts: holds that promise no money twice, and a bank that is asked instead of believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import httpx2
import pytest
import pytest_asyncio

from events.transfers import (
    ExecuteTransfer,
    FundsHeld,
    HoldFunds,
    ReleaseFunds,
    TransferExecuted,
    TransferValidated,
    ValidateTransfer,
)
from orchestrator.participants.testing import Answered, Trial, trial
from orchestrator.participants.work import Pool
from sagas.transfers import participants
from sagas.transfers.bank_client import BankClient
from sagas.transfers.participants import accounts
from tests.databases import Database
from tests.participants.outside import age
from tests.sagas.banking import Way, open_bank

LONG = 60.0  # seconds, longer than lease and settling


@pytest_asyncio.fixture
async def way(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Way]:
    """The way to a bank."""
    async with open_bank(database) as made:
        monkeypatch.setattr(participants, "bank", BankClient("http://bank", made))
        yield made


@pytest_asyncio.fixture
async def office(way: Way, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """The participant accounts."""
    async with trial(accounts, pool, database.migrate_url) as tried:
        yield tried


def wish(recipient: str = "Kiran", amount: str = "600", **other: str) -> ValidateTransfer:
    fields = {"from_account": "ravi", "recipient": recipient, "currency": "EUR"} | other
    return ValidateTransfer(amount=Decimal(amount), **fields)


def hold(amount: str, available: str = "1000") -> HoldFunds:
    return HoldFunds(transfer_id="t-1", account="ravi", amount=Decimal(amount), available=Decimal(available))


def execute(held: Answered, amount: str = "600") -> ExecuteTransfer:
    assert isinstance(held.reply, FundsHeld)
    return ExecuteTransfer(
        transfer_id="t-1",
        hold_id=held.reply.hold_id,
        from_account="ravi",
        to_account="kiran",
        amount=Decimal(amount),
        currency="EUR",
    )


async def became(office: Trial) -> list[str]:
    query = (
        "SELECT coalesce(c.kind, 'held') AS became FROM holds h LEFT JOIN closings c USING (hold_id) ORDER BY held_at"
    )
    return [row["became"] for row in await office.rows(query)]


async def moved(office: Trial) -> Decimal:
    [row] = await office.rows("SELECT opened - balance AS moved FROM bank.accounts WHERE account = 'ravi'")
    return Decimal(row["moved"])


async def test_a_transfer_that_can_be_made_is_valid(office: Trial) -> None:
    valid = await office.ask(wish())
    assert valid.reply == TransferValidated(to_account="kiran", available=Decimal(250000))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (wish("Nobody"), "unknown_recipient"),
        (wish("Ravi"), "same_account"),
        (wish("Tom Jones"), "currency_differs"),
        (wish(amount="250000.01"), "insufficient_funds"),
        (wish(from_account="nobody"), "unknown_account"),
    ],
)
async def test_a_transfer_that_cannot_be_made_is_refused(office: Trial, command: ValidateTransfer, code: str) -> None:
    assert (await office.ask(command)).code == code


async def test_holds_never_promise_the_same_money_twice(office: Trial) -> None:
    first, second, third = await office.ask_all([hold("600"), hold("300"), hold("200")])
    assert [first.outcome, second.outcome, third.code] == ["ok", "ok", "insufficient_funds"]
    assert isinstance(first.reply, FundsHeld)
    back = ReleaseFunds(hold_id=first.reply.hold_id)
    assert (await office.undo(back, first)).outcome == "ok"
    assert (await office.ask(hold("200"), round=9)).outcome == "ok"
    assert await became(office) == ["released", "held", "held"]


async def test_a_transfer_moves_the_money_and_uses_the_hold(office: Trial, way: Way) -> None:
    held = await office.ask(hold("600"))
    done = await office.ask(execute(held))
    assert isinstance(done.reply, TransferExecuted)
    assert await office.again(done) == done
    assert (await became(office), await moved(office)) == (["used"], Decimal(600))
    assert way.calls == ["POST /api/transfer"]
    assert isinstance(held.reply, FundsHeld)
    assert (await office.ask(ReleaseFunds(hold_id=held.reply.hold_id))).code == "already_used"


async def test_insufficient_funds_at_the_bank_are_a_business_answer(office: Trial) -> None:
    held = await office.ask(hold("600"))
    refused = await office.ask(execute(held, "300000"))
    assert (refused.outcome, refused.code) == ("refused", "insufficient_funds")
    assert (await office.fence(execute(held, "300000"))).outcome == "refused"
    assert await became(office) == ["held"]


async def test_an_answer_that_is_lost_is_looked_up(office: Trial, way: Way) -> None:
    """The money has moved, and the connection broke: asking again must not move it again."""
    held = await office.ask(hold("600"))

    async def lost(request: httpx2.Request) -> None:
        raise httpx2.ReadError("connection reset")

    way.after = lost
    assert (await office.ask(execute(held))).outcome == "error"
    way.after = None
    done = await office.ask(execute(held), attempt=2)
    assert (done.outcome, await moved(office), await became(office)) == ("ok", Decimal(600), ["used"])
    assert way.calls == ["POST /api/transfer", "GET /api/transfers"]


async def test_a_call_that_is_lost_is_made_again_when_it_can_no_longer_arrive(office: Trial, way: Way) -> None:
    held = await office.ask(hold("600"))

    async def lost(request: httpx2.Request) -> None:
        raise httpx2.WriteTimeout("nobody knows how far it came")

    way.before = lost
    assert (await office.ask(execute(held))).outcome == "error"
    way.before = None
    assert (await office.fence(execute(held))).outcome == "in_doubt"
    await age(office, LONG)
    assert (await office.ask(execute(held), attempt=2)).outcome == "ok"
    assert await moved(office) == Decimal(600)


async def test_a_bank_that_was_never_reached_can_be_called_at_once(office: Trial, way: Way) -> None:
    held = await office.ask(hold("600"))

    async def closed(request: httpx2.Request) -> None:
        raise httpx2.ConnectError("connection refused")

    way.before = closed
    assert (await office.ask(execute(held))).outcome == "error"
    way.before = None
    assert (await office.ask(execute(held), attempt=2)).outcome == "ok"
    assert "GET /api/transfers" not in way.calls


async def test_a_fenced_transfer_is_never_made(office: Trial, way: Way) -> None:
    held = await office.ask(hold("600"))
    assert (await office.fence(execute(held))).outcome == "not_done"
    assert (await office.ask(execute(held))).code == "fenced"
    assert (way.calls, await moved(office)) == ([], Decimal(0))


async def test_an_answer_that_says_nothing_is_no_answer(office: Trial, way: Way) -> None:
    """A gateway's 502 says nothing about what the bank behind it did."""
    held = await office.ask(hold("600"))
    way.gateway = 502
    failed = await office.ask(execute(held))
    assert (failed.outcome, failed.reason.split(":")[0]) == ("error", "BankError")
    way.gateway = None
    assert (await office.ask(execute(held), attempt=2)).outcome == "ok"
    assert await moved(office) == Decimal(600)


@pytest.mark.parametrize("status", [404, 500, 502])
async def test_a_look_up_that_says_nothing_is_not_nothing_found(office: Trial, way: Way, status: int) -> None:
    """Also a 404 that is not the bank's own: some proxy does not know the address."""
    held = await office.ask(hold("600"))
    way.gateway = status
    await office.ask(execute(held))
    await age(office, LONG)
    assert (await office.fence(execute(held))).outcome == "in_doubt"
    way.gateway = None
    assert (await office.fence(execute(held))).outcome == "ok"
    assert await moved(office) == Decimal(600)

"""The postman against a real mail server: letters leave in order, each under one Message-ID, noted when taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
import pytest_asyncio
from pydantic import ValidationError

from events.disputes import LetterKind
from orchestrator.participants.testing import Trial, trial
from orchestrator.participants.work import Pool
from sagas.disputes.participants import case_desk
from sagas.disputes.post import Postman, PostSettings
from tests import forking
from tests.databases import Database
from tests.notices.smtp_server import SmtpServer, smtp_server
from tests.sagas.test_case_desk import NOTIFY, REFER, TELL, assign

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def desk(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A case desk with one case that was referred: a letter to the regulator, then one to the customer."""
    async with trial(case_desk, pool, database.migrate_url) as tried:
        await tried.ask(assign())
        await tried.ask(REFER)
        await tried.ask(NOTIFY)
        await tried.ask(TELL.model_copy(update={"kind": LetterKind.REFERRED}))
        yield tried


def settings(server: SmtpServer, **other: Any) -> PostSettings:
    fields: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "security": "plain",
        "sender": "complaints@bank.example",
        "letters_to": "print@bank.example",
        "regulator_to": "referrals@regulator.example",
    }
    return PostSettings(**(fields | other))


async def undelivered(desk: Trial) -> int:
    [row] = await desk.rows("SELECT count(*) - (SELECT count(*) FROM deliveries) AS left FROM letters")
    return int(row["left"])


async def test_letters_leave_once_and_in_order(desk: Trial, pool: Pool) -> None:
    """To whom each is for, named by its letter; a second round finds nothing."""
    async with smtp_server() as server:
        postman = Postman(pool, settings(server))
        assert await postman.round() == 2
        assert await postman.round() == 0
    regulator, customer = server.taken
    assert regulator.recipients == ["referrals@regulator.example"]
    assert customer.recipients == ["print@bank.example"]
    assert (regulator.mail["X-Case"], customer.mail["X-Case"]) == ("DSP1", "DSP1")
    assert "Ombudsman" in customer.mail.get_content()
    assert "CUST1" not in regulator.mail.get_content()
    ids = [row["letter_id"] for row in await desk.rows("SELECT letter_id FROM letters ORDER BY number")]
    assert [taken.mail["Message-ID"] for taken in server.taken] == [f"<{one}@bank.example>" for one in ids]


async def test_a_letter_whose_answer_was_lost_goes_out_again_under_the_same_id(desk: Trial, pool: Pool) -> None:
    """Nobody knows whether it arrived; whoever gets it twice can tell."""
    async with smtp_server() as server:
        server.silent_after_data = 1
        postman = Postman(pool, settings(server))
        with pytest.raises((OSError, aiosmtplib.SMTPException)):
            await postman.round()
        assert await undelivered(desk) == 2
        assert await postman.round() == 2
    assert len(server.taken) == 3
    assert server.taken[0].mail["Message-ID"] == server.taken[1].mail["Message-ID"]


async def test_a_letter_that_is_refused_holds_up_no_other(desk: Trial, pool: Pool) -> None:
    """It stays, with the reason, and leaves when the server has changed its mind."""
    async with smtp_server() as server:
        server.refuse["referrals@regulator.example"] = "550 no such mailbox"
        postman = Postman(pool, settings(server))
        assert await postman.round() == 1
        assert [taken.recipients for taken in server.taken] == [["print@bank.example"]]
        [why] = postman.refused.values()
        assert "no such mailbox" in why
        server.refuse.clear()
        assert (await postman.round(), postman.refused, await undelivered(desk)) == (1, {}, 0)


async def test_two_postmen_deliver_no_letter_twice(desk: Trial, pool: Pool) -> None:
    """Whoever has the turn delivers; the other finds nothing to do."""
    async with smtp_server() as server:
        await asyncio.gather(*(Postman(pool, settings(server)).round() for _ in range(3)))
        while await undelivered(desk):
            await Postman(pool, settings(server)).round()
    assert len(server.taken) == 2


async def test_the_command_delivers_and_says_how_many(desk: Trial, database: Database) -> None:
    """As an operator starts it; 1 where the server is away, and 0 once the letters have left."""
    async with smtp_server() as server:
        said = settings(server).model_dump(mode="json", exclude={"password", "user"})
        variables = {f"ORCHESTRATOR_POST_{name.upper()}": str(value) for name, value in said.items()}
        variables |= {"ORCHESTRATOR_DATABASE_URL": database.url, "PYTHONPATH": str(ROOT)}
        away, _ = await run(variables | {"ORCHESTRATOR_POST_PORT": "1"})
        code, text = await run(variables)
    assert (away, code, text) == (1, 0, "2 letters delivered\n")
    assert await undelivered(desk) == 0


async def run(variables: dict[str, str]) -> tuple[int | None, str]:
    """Exit code and stderr."""
    done = await asyncio.to_thread(forking.run, "sagas.disputes.post", "--once", env=variables)
    return done.returncode, done.stderr


def test_complaints_leave_this_machine_under_encryption_only() -> None:
    """Plain mail is for a server beside us."""
    with pytest.raises(ValidationError, match="plain"):
        settings(SmtpServer(host="mail.bank.example", port=25))
    assert settings(SmtpServer(host="mail.bank.example", port=587), security="starttls").security == "starttls"

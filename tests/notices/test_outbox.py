"""The sender on PostgreSQL: at least once, never too late, nothing out of sight."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.metrics.figures import Figures
from orchestrator.metrics.notices import NoticeFigures
from orchestrator.notices import store as keeping
from orchestrator.notices.contract import NotSentError
from orchestrator.notices.preferences import Preferences
from orchestrator.notices.sender import Sender, Sending
from orchestrator.notices.store import Settled
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError, StoreUnavailableError
from tests.notices.desk import ALL, QUICK, Office, Recorder, ids, until_planned


class TestSending:
    async def test_everybody_is_sent_theirs_once(self, office: Office) -> None:
        """And a second look finds nothing to do."""
        await office.ask("k")
        await until_planned(office.planner())
        sender = office.sender()
        await sender.send()
        await sender.send()
        assert office.mail.to() == ALL
        assert set((await office.states()).values()) == {"sent"}

    async def test_two_senders_share_and_never_double(self, office: Office) -> None:
        """Rows that one has claimed the other does not see."""
        for n in range(20):
            await office.ask(f"k-{n}")
        await until_planned(office.planner())
        senders = [office.sender(Sending(batch_rows=7, lease_ms=60_000)) for _ in range(3)]

        async def all_of_it(sender: Sender) -> None:
            while await sender.send():
                pass

        await asyncio.gather(*(all_of_it(sender) for sender in senders))
        await office.sender().send()
        assert len(office.mail.sent) == len(set(ids(office.mail.sent))) == 60

    async def test_a_task_that_closed_meanwhile_is_not_spoken_of(self, office: Office) -> None:
        """Planned, then decided, then looked at by the sender."""
        saga_id = await office.ask("k")
        await until_planned(office.planner())
        for who in ("maria", "noel"):
            await office.vote(saga_id, who)
        await office.sender().send()
        assert office.mail.sent == []
        rows = await office.rows()
        assert {(row["state"], row["reason"]) for row in rows} == {
            ("skipped", "the task was decided before this was sent")
        }

    async def test_who_voted_meanwhile_is_not_asked_to(self, office: Office) -> None:
        """The others still are."""
        saga_id = await office.ask("k")
        await until_planned(office.planner())
        await office.vote(saga_id, "maria")
        await office.sender().send()
        assert office.mail.to() == [ALL[0], ALL[2]]
        assert (await office.states())["person:maria"] == "skipped"

    async def test_a_reason_that_no_column_holds_ends_no_process(self, office: Office) -> None:
        """Whatever a server said, or a template raised: what could not be written down would be met again after
        every restart."""
        await office.ask("k")
        await until_planned(office.planner())
        office.mail.errors = [NotSentError("it said \0 and \ud800", retriable=True) for _ in range(3)]
        await office.sender().send()
        assert {row["reason"] for row in await office.rows()} == {"it said \\u0000 and \\ud800"}

    async def test_what_becomes_of_notices_is_counted_by_channel(self, office: Office) -> None:
        """Sent, tried in vain, given up, and a channel that is away: for whoever watches, and with no name in it."""
        await office.ask("k")
        await until_planned(office.planner())
        sender, figures = office.sender(), Figures()
        counted = NoticeFigures(figures, lambda: sender.away)
        counted.begin("mail")
        sender.watched_by = counted
        office.mail.errors = [
            NotSentError("busy", retriable=True),
            NotSentError("no such person", retriable=False),
            NotSentError("the server is away", retriable=True, channel_down=True),
        ]
        await sender.send()
        found = {f.metric.name: {p.values: p for p in f.points} for f in figures.collect()}
        settled = {values: point.number for values, point in found["saga.notices.settled"].items()}
        assert settled == {("mail", "sent"): 0, ("mail", "failed"): 1, ("mail", "retried"): 2, ("mail", "skipped"): 0}
        tries = {values: sum(point.counts) for values, point in found["saga.notice.duration"].items()}
        assert tries == {("mail", "not_sent"): 2, ("mail", "away"): 1}
        assert found["saga.notices.channel_away"]["mail",].number == 1
        assert "saga.notice.wait" not in found

    async def test_trouble_that_passes_is_tried_again_and_given_up_in_the_end(self, office: Office) -> None:
        """Three attempts, then failed with the last reason."""
        await office.ask("k")
        await until_planned(office.planner())
        sender = office.sender()
        office.mail.errors = [NotSentError("mailbox busy", retriable=True) for _ in range(9)]
        for attempt in range(1, 4):
            await office.change("UPDATE notice_outbox SET due = 0")
            await sender.send()
            assert {row["attempts"] for row in await office.rows()} == {attempt}
        rows = await office.rows()
        assert {(row["state"], row["reason"]) for row in rows} == {("failed", "mailbox busy")}
        await office.change("UPDATE notice_outbox SET due = 0")
        await sender.send()
        assert office.mail.sent == []

    async def test_a_refusal_for_good_is_not_tried_again(self, office: Office) -> None:
        """One attempt, one reason; the others are sent."""
        await office.ask("k")
        await until_planned(office.planner())
        office.mail.errors = [NotSentError("550 no such user", retriable=False)]
        await office.sender().send()
        assert sorted((await office.states()).values()) == ["failed", "sent", "sent"]

    async def test_a_channel_that_is_away_costs_no_attempts(self, office: Office) -> None:
        """One finds out; the rest is given back untouched, and the channel is left alone for a while."""
        await office.ask("k")
        await until_planned(office.planner())
        sender = office.sender()
        office.mail.errors = [NotSentError("no mail server", retriable=True, channel_down=True)]
        await sender.send()
        assert sender.away == {"mail": "no mail server"}
        assert {(row["state"], row["attempts"]) for row in await office.rows()} == {("waiting", 0)}
        assert not await sender.send()
        assert office.mail.sent == []
        await office.change("UPDATE notice_outbox SET due = 0")
        await office.sender().send()
        assert office.mail.to() == ALL

    async def test_what_could_not_be_sent_for_days_is_given_up_in_sight(self, office: Office) -> None:
        """A server that was away for longer than anybody waits."""
        await office.ask("k")
        await until_planned(office.planner())
        await office.change("UPDATE notice_outbox SET planned_at = planned_at - 4 * 86400000000")
        await office.sender().send()
        assert office.mail.sent == []
        assert {row["reason"] for row in await office.rows()} == {"it could not be sent for too long"}

    async def test_a_lost_mark_is_the_same_notice_again(self, office: Office) -> None:
        """Sent, and then nobody wrote it down: after the lease it goes out under its old id."""
        await office.ask("k")
        await until_planned(office.planner())
        claimed = await office.store.claim(10, 50_000, ["mail"])
        lost = office.sender()
        for row in claimed:
            await lost._channels["mail"].send(lost._texts.notice(row.told))
        async with asyncio.timeout(20):
            while len(office.mail.sent) < 6:
                await office.sender().send()
                await asyncio.sleep(0.02)
        assert sorted(ids(office.mail.sent[:3])) == sorted(ids(office.mail.sent[3:]))

    async def test_who_was_too_slow_changes_nothing(self, office: Office) -> None:
        """The number of the claim fences."""
        await office.ask("k")
        await until_planned(office.planner())
        slow = await office.store.claim(10, 1, ["mail"])
        await asyncio.sleep(0.01)
        quick = await office.store.claim(10, 60_000_000, ["mail"])
        assert {row.told.id for row in slow} == {row.told.id for row in quick}
        late = [Settled(row.told.id, row.attempts, "failed", "too slow") for row in slow]
        assert await office.store.settle(late) == 0
        done = [Settled(row.told.id, row.attempts, "sent") for row in quick]
        assert await office.store.settle(done) == 3
        assert await office.store.settle(done) == 0

    async def test_a_stop_finishes_what_is_under_way_and_gives_the_rest_back(self, office: Office) -> None:
        """Nothing is sent twice by a restart that was asked for."""
        await office.ask("k")
        await until_planned(office.planner())
        office.mail.gate = asyncio.Event()
        sender, stopping = office.sender(), Stopping()
        sending = asyncio.create_task(sender.send(stopping))
        await office.mail.begun.wait()
        stopping.ask()
        office.mail.gate.set()
        await sending
        assert len(office.mail.sent) == 1
        assert sorted((row["state"], row["attempts"]) for row in await office.rows()) == [
            ("sent", 1), ("waiting", 0), ("waiting", 0),
        ]  # fmt: skip
        await office.sender().send()
        assert office.mail.to() == ALL

    async def test_one_channel_in_trouble_does_not_hold_up_another(self, office: Office) -> None:
        """A webhook that hangs, and mails that go out meanwhile."""
        await office.ask("k")
        await until_planned(office.planner(webhooks=True, webhook="https://hooks.bank.example/"))
        hook = Recorder(gate=asyncio.Event())
        await office.sender(mail=office.mail, webhook=hook).send()
        assert office.mail.to() == ALL
        (hung,) = [row for row in await office.rows() if row["channel"] == "webhook"]
        assert (hung["state"], hung["reason"]) == ("waiting", "no answer within 1000 ms")

    async def test_closed_rows_go_after_their_time(self, office: Office) -> None:
        """And nothing that still waits."""
        await office.ask("k")
        await until_planned(office.planner())
        office.mail.errors = [NotSentError("busy", retriable=True)]
        await office.sender().send()
        assert await office.store.trim(3_600_000_000) == 0
        assert await office.store.trim(-1_000_000) == 2
        assert [row["state"] for row in await office.rows()] == ["waiting"]

    async def test_more_rows_than_one_statement_deletes_go_without_a_pause(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bank that tells more than a thousand people a minute must not keep most of it for ever."""
        monkeypatch.setattr(keeping, "TRIM_ROWS_MAX", 1)
        await office.ask("k")
        await until_planned(office.planner())
        sender, stopping = office.sender(Sending(poll_ms=10, keep_ms=-1_000)), Stopping()
        loop = asyncio.create_task(sender.run(stopping, Pulse("notices-send", 60_000)))
        try:
            async with asyncio.timeout(20):
                while True:
                    if not await office.rows():
                        break
                    await asyncio.sleep(0.01)
        finally:
            stopping.ask()
            await loop
        assert office.mail.to() == ALL


class TestDigests:
    async def digest(self, office: Office, sagas: int) -> None:
        """Maria's digest of several tasks, due now."""
        now = await office.store.now()
        await office.wish("person:maria", Preferences(delivery="digest", digest_at=(now // 60_000_000 + 60) % 1440))
        for n in range(sagas):
            await office.ask(f"k-{n}")
        await until_planned(office.planner())
        await office.change("DELETE FROM notice_outbox WHERE who <> 'person:maria'")
        await office.change("UPDATE notice_outbox SET due = 0")

    async def test_a_digest_is_one_mail_about_all(self, office: Office) -> None:
        """However few rows are claimed at a time."""
        await self.digest(office, 3)
        await office.sender(Sending(batch_rows=1, lease_ms=60_000)).send()
        (mail,) = office.mail.sent
        assert (mail.kind, mail.subject) == ("digest", "3 notices about tasks")
        assert mail.text.count("https://office.bank.example/office/tasks/") == 3
        assert set((await office.states()).values()) == {"sent"}

    async def test_a_digest_stays_the_same_one_after_a_crash(self, office: Office) -> None:
        """Sent, and nobody wrote it down: the same rows make the same digest."""
        await self.digest(office, 3)
        claimed = await office.store.claim(10, 50_000, ["mail"])
        lost = office.sender()
        await lost._channels["mail"].send(lost._texts.digest([row.told for row in claimed]))
        async with asyncio.timeout(20):
            while len(office.mail.sent) < 2:
                await office.sender().send()
                await asyncio.sleep(0.02)
        assert office.mail.sent[0].id == office.mail.sent[1].id

    async def test_a_digest_of_one_is_a_plain_notice(self, office: Office) -> None:
        """Nobody wants a list of one."""
        await self.digest(office, 1)
        await office.sender().send()
        assert [notice.kind for notice in office.mail.sent] == ["opened"]

    async def test_a_digest_of_nothing_is_not_sent(self, office: Office) -> None:
        """All of it was decided by the time."""
        await self.digest(office, 2)
        await office.change("UPDATE tasks SET closed = 'decided'")
        await office.sender().send()
        assert office.mail.sent == []
        assert {row["state"] for row in await office.rows()} == {"skipped"}


async def test_the_loops_run_until_they_are_asked_to_stop(office: Office) -> None:
    """Planner and sender as a process runs them."""
    stopping = Stopping()
    planner, sender = office.planner(), office.sender(QUICK)
    pulses = [Pulse("plan", 5_000), Pulse("send", 5_000)]
    loops = [
        asyncio.create_task(planner.run(stopping, pulses[0])),
        asyncio.create_task(sender.run(stopping, pulses[1])),
    ]
    await office.ask("k")
    await office.until_sent(3)
    stopping.ask()
    await asyncio.gather(*loops)
    assert all(pulse.begun for pulse in pulses)
    assert office.mail.rests > 0
    assert (planner.planned, sender.counts["sent"]) == (3, 3)


async def test_a_database_that_is_away_for_a_moment_stops_neither_loop(office: Office) -> None:
    """They say so and go on when it is back; what only a person can mend ends the loop."""
    for loop, method in ((office.planner(), "position"), (office.sender(), "claim")):
        asked = getattr(office.store, method)
        troubles: list[StoreError] = [StoreUnavailableError("away")]
        stopping, pulse = Stopping(), Pulse("loop", 5_000)

        async def troubled(*args: object, asked: Any = asked, troubles: Any = troubles) -> Any:
            if troubles:
                raise troubles.pop()
            return await asked(*args)

        setattr(office.store, method, troubled)
        running = asyncio.create_task(loop.run(stopping, pulse))
        async with asyncio.timeout(20):
            while True:
                if pulse.begun:
                    break
                assert pulse.detail in ("has not come round yet", "store: away")
                await asyncio.sleep(0.01)
        troubles.append(StoreError("the schema is older than the code"))
        with pytest.raises(StoreError, match="older"):
            await asyncio.wait_for(running, 20)
        setattr(office.store, method, asked)

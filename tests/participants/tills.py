"""A participant to be tried: it puts money into a till and takes it out again, and misbehaves on request."""

from __future__ import annotations

from pathlib import Path

from orchestrator.messages import Command, Done, Reply
from orchestrator.participants import Asked, ManyWork, Participant, Refused, Work

MIGRATIONS = Path(__file__).parent / "till"


class Put(Reply, name="till.PutIn"):
    """How much was put in."""

    amount: int


class PutIn(Command[Put], to="till", name="till.Put"):
    """Put this much into the till. 13 is refused, 666 is an error."""

    amount: int


class TakeOut(Command[Done], to="till", name="till.TakeOut"):
    """Undo of PutIn."""

    amount: int


class PutMany(Command[Put], to="till", name="till.PutMany"):
    """As PutIn, for the handler of many."""

    amount: int


class Count(Command[Put], to="till", name="till.Count"):
    """Only reads."""

    amount: int = 0


class Stranger(Command[Done], to="till", name="till.Stranger"):
    """A command that the till has no handler for."""

    amount: int = 0


def make_till() -> Participant:
    """A till with in-database handlers."""
    till = Participant("till", migrations=MIGRATIONS)

    async def effect(connection: object, kind: str, key: str, amount: int) -> None:
        await connection.execute("INSERT INTO effects (kind, key, amount) VALUES ($1, $2, $3)", kind, key, amount)  # type: ignore[attr-defined]

    @till.handles(PutIn)
    async def put(command: PutIn, work: Work) -> Put:
        await effect(work.connection, "put", work.key, command.amount)
        if command.amount == 13:
            raise Refused("unlucky", "not thirteen")
        if command.amount == 666:
            raise RuntimeError("the till is on fire")
        if command.amount == 667:
            await work.connection.execute("SELECT 1 / 0")
        return Put(amount=command.amount)

    @till.handles(TakeOut)
    async def take(command: TakeOut, work: Work) -> Done:
        await effect(work.connection, "take", work.key, -command.amount)
        if command.amount == 666:
            raise RuntimeError("the till is on fire")
        return Done()

    @till.handles_many(PutMany)
    async def put_many(asked: list[Asked[PutMany]], work: ManyWork) -> list[Put | Refused]:
        answers: list[Put | Refused] = []
        for one in asked:
            if one.command.amount == 13:
                answers.append(Refused("unlucky", "not thirteen"))
                continue
            await effect(work.connection, "put", one.key, one.command.amount)
            if one.command.amount == 666:
                raise RuntimeError("the till is on fire")
            answers.append(Put(amount=one.command.amount))
        return answers

    @till.handles(Count, reads=True)
    async def count(command: Count, work: Work) -> Put:
        total = await work.connection.fetchval("SELECT coalesce(sum(amount), 0)::int FROM effects")
        return Put(amount=total)

    return till

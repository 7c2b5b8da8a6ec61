"""Questions about approvals: what is pending, what was pending when, who decided what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from projections.answers import Answer, Decision, PendingApproval
from projections.approvals import SQL
from projections.reading import Asked, Reader, cursor_of, ended, instant, microseconds, paged, rows_wanted, sla_of

HISTORY_ROWS_MAX = 1_000
REACHES = list(range(1, 64))  # bit lengths of how long a state stood; 63: it still stands
_LAST = 2**63 - 1


class ApprovalQueries:
    """Pending approvals, now and at any past instant."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def as_of(
        self,
        tenant: str,
        at: datetime | None = None,
        *,
        candidates: Sequence[str] = (),
        name: str | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> Answer[PendingApproval]:
        """What was pending at an instant (None: now), due first. `candidates`: `person:maria`, `role:manager`.

        A task counts as somebody's who claimed it, or to whom it was delegated, too. Complete for an instant that
        `complete.at` has reached. Raises BadCursorError.
        """
        after = cursor_of(cursor, (int, str, str)) or (-1, "", "")
        wanted = [*candidates, *(c.partition(":")[2] for c in candidates if c.startswith("person:"))] or None

        async def question(asked: Asked) -> Answer[PendingApproval]:
            then = asked.now if at is None else min(microseconds(at), asked.now)
            given = [tenant, *after, rows_wanted(limit), wanted, name]
            if at is None:
                rows = await asked.fetch(SQL["now"], *given)
            else:
                rows = await asked.fetch(SQL["then"], *given, then, REACHES, begun_after(then))
            shown, following = paged(rows, limit, lambda row: (row["due"], row["saga_id"], row["activity"]))
            return Answer(
                tuple(_pending(row, then) for row in shown), asked.complete, following, instant(then) if at else None
            )

        return await self._reader.ask(tenant, "approvals", question)

    async def decided_by(
        self, tenant: str, person: str, *, since: datetime | None = None, limit: int = 50, cursor: str = ""
    ) -> Answer[Decision]:
        """The votes of a person, newest first, with their evidence. Raises BadCursorError."""
        before = cursor_of(cursor, (int, int)) or (_LAST, _LAST)
        first = microseconds(since) if since is not None else 0

        async def question(asked: Asked) -> Answer[Decision]:
            rows = await asked.fetch(SQL["decided_by"], tenant, person, *before, rows_wanted(limit), first)
            shown, following = paged(rows, limit, lambda row: (row["voted_at"], row["position"]))
            return Answer(tuple(map(_decision, shown)), asked.complete, following)

        return await self._reader.ask(tenant, "approvals", question)

    async def history(self, tenant: str, saga_id: str, activity: str) -> Answer[PendingApproval]:
        """Every state of one task, oldest first; `sla` as it was when the state began."""

        async def question(asked: Asked) -> Answer[PendingApproval]:
            rows = await asked.fetch(SQL["history"], tenant, saga_id, activity, HISTORY_ROWS_MAX)
            return Answer(tuple(_pending(row, row["valid_from"]) for row in rows), asked.complete)

        return await self._reader.ask(tenant, "approvals", question)


def _pending(row: Any, at: int) -> PendingApproval:
    return PendingApproval(
        task_id=task_id_of(row["saga_id"], row["activity"]),
        saga_id=row["saga_id"],
        saga_name=row["name"],
        business_key=row["business_key"],
        customer=row["customer"],
        activity=row["activity"],
        state=row["state"],
        change=row["change"],
        opened_at=instant(row["opened_at"]),
        since=instant(row["valid_from"]),
        until=ended(row["valid_to"]),
        due=ended(row["due"]),
        expires=ended(row["expires"]),
        sla=sla_of(row["opened_at"], row["expires"], at),
        to=tuple(row["candidates"]),
        claimed_by=row["claimed_by"],
        delegated_to=row["delegated_to"],
        level=row["level"],
        round=row["round"],
        votes=row["votes"],
        votes_needed=row["votes_needed"],
        outcome=row["outcome"],
        actor=row["actor"],
        record=row["version"],
        position=row["position"],
    )


def _decision(row: Any) -> Decision:
    return Decision(
        task_id=task_id_of(row["saga_id"], row["activity"]),
        saga_id=row["saga_id"],
        saga_name=row["name"],
        business_key=row["business_key"],
        customer=row["customer"],
        activity=row["activity"],
        person=row["person"],
        at=instant(row["voted_at"]),
        outcome=row["outcome"],
        decided=row["decided"],
        counted=row["counted"],
        reason=row["reason"],
        on_behalf_of=row["on_behalf_of"],
        authentication=row["authentication"],
        roles=tuple(row["roles"]),
        subject_hash=row["subject_hash"],
        round=row["round"],
        record=row["version"],
        position=row["position"],
    )


def begun_after(then: int) -> list[int]:
    """For each reach, the instant after which a state began that stood at this one."""
    return [then - (1 << reach) if reach < 62 else -1 for reach in REACHES]


def task_id_of(saga_id: str, activity: str) -> str:
    """A task's id in URLs; the same as the HTTP API's, which a test compares."""
    return f"{saga_id}:{activity.replace('~', '~0').replace('/', '~1')}"

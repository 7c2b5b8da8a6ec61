"""The read models of a running product, for pages, HTTP and the command line: `engine.models`.

Rules of this file
- One object per process; only reading connections are used. Every question names its tenant.
- `wait_for` gives read-your-writes: an act's answer names its saga and record, and a page that follows waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from projections.answers import (
    Answer,
    AuditEntry,
    AuditFilter,
    Bottleneck,
    Decision,
    Journey,
    PendingApproval,
    Progress,
    ProjectionState,
    Series,
    Tiles,
    Timeline,
)


class ApprovalQueries:
    """Pending approvals, now and at any past instant."""

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
        """What was pending at an instant (None: now), due first. `candidates`: `person:maria`, `role:manager`."""
        raise NotImplementedError

    async def decided_by(
        self, tenant: str, person: str, *, since: datetime | None = None, limit: int = 50, cursor: str = ""
    ) -> Answer[Decision]:
        """The votes of a person, newest first, with their evidence."""
        raise NotImplementedError

    async def history(self, tenant: str, saga_id: str, activity: str) -> Answer[PendingApproval]:
        """Every state of one task, oldest first."""
        raise NotImplementedError


class AuditQueries:
    """The audit trail."""

    async def search(
        self,
        tenant: str,
        wanted: AuditFilter | None = None,
        *,
        as_of: datetime | None = None,
        limit: int = 50,
        cursor: str = "",
        count: bool = False,
    ) -> Answer[AuditEntry]:
        """Records, newest first. `as_of`: only what was written by then. `count`: with how many there are."""
        raise NotImplementedError

    def export(
        self, tenant: str, wanted: AuditFilter | None = None, *, format_: str = "csv", as_of: datetime | None = None
    ) -> AsyncIterator[bytes]:
        """The same as a stream of bytes, `csv` or `jsonl`; the last line is the manifest."""
        raise NotImplementedError


class TimelineQueries:
    """Where sagas stand, what remains, and where they wait."""

    async def of(self, tenant: str, saga_id: str) -> Timeline | None:
        """One saga in time."""
        raise NotImplementedError

    async def risky(self, tenant: str, *, limit: int = 50, cursor: str = "") -> Answer[Journey]:
        """Sagas that something is due in, the next due first: those overdue lead."""
        raise NotImplementedError

    async def search(
        self,
        tenant: str,
        *,
        name: str | None = None,
        version: int | None = None,
        business_key: str | None = None,
        customer: str | None = None,
        phase: str | None = None,
        outcome: str | None = None,
        place: str | None = None,
        stuck: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> Answer[Journey]:
        """Sagas, newest first."""
        raise NotImplementedError

    async def bottlenecks(self, tenant: str, *, name: str | None = None) -> Answer[Bottleneck]:
        """Where sagas stand, the most crowded first."""
        raise NotImplementedError


class CustomerQueries:
    """What customers may see."""

    async def progress(self, tenant: str, business_key: str, customer: str | None = None) -> Progress | None:
        """A customer's saga in plain words. `customer`: it must be theirs. None: no such saga, or nothing exposed."""
        raise NotImplementedError


class LevelQueries:
    """Service levels."""

    async def tiles(self, tenant: str, *, window: timedelta = timedelta(days=30), name: str = "") -> Tiles:
        """All levels of a window that ends now; `name` "": over all definitions."""
        raise NotImplementedError

    async def series(
        self, tenant: str, key: str, *, window: timedelta = timedelta(days=30), name: str = "", points: int = 30
    ) -> Series:
        """The trend of one level."""
        raise NotImplementedError

    async def names(self, tenant: str) -> tuple[str, ...]:
        """The definitions that have figures."""
        raise NotImplementedError


class Models:
    """All read models."""

    approvals: ApprovalQueries
    audit: AuditQueries
    timelines: TimelineQueries
    customers: CustomerQueries
    levels: LevelQueries

    async def states(self) -> Sequence[ProjectionState]:
        """How every projection is."""
        raise NotImplementedError

    async def wait_for(
        self, token: str, *, projections: Sequence[str] = (), seconds_max: float = 2.0, tenant: str = "main"
    ) -> bool:
        """Waits until the projections (none named: all) hold what a token stands for; False when the time is over.

        A token is `<saga id>@<record version>` or a global position.
        """
        raise NotImplementedError


def token_of(saga_id: str, record: int) -> str:
    """The token of an act: what its answer names is what a following page waits for."""
    return f"{saga_id}@{record}"

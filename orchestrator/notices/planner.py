"""The planner: reads records in safe global order and keeps who is to be told what.

Rules of this file
- Rows and position are one transaction: killed before it, the records are read again; after it, never.
- Any number of processes may plan; whoever moves the position first has planned, the others throw away what they read.
- What cannot be planned is tried again now and then, and said in the log: it ends no process, for others work in it.
- Whom nobody can reach is counted and named in the log, once: a task must not wait in silence for want of an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import structlog

from orchestrator.notices.contract import Channel
from orchestrator.notices.plan import KINDS, OPEN_ONLY, Planned, planned, with_substitutes
from orchestrator.notices.preferences import Preferences, when
from orchestrator.notices.store import Contact, NoticeStore, Row
from orchestrator.notices.words import AddressError, mail_address
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import Store, StoredRecord, StoreError

RETRY_MS = 500
STOPPED_RETRY_MS = 5_000
NAMED_MAX = 1_000
SYSTEM = "system"
_NEVER = 2**62  # a position that no record will have

log = structlog.get_logger("orchestrator.notices")


@dataclass(frozen=True, slots=True)
class Reach:
    """Which channels there are, and whom they reach by themselves.

    mail_domain: who has no entry in the address book is <id>@<domain>; "" for nobody. mail_domains: an id that is an
    address there is one, whoever that is; elsewhere only that of somebody who is known here. webhook: where everything
    is told as well, "" for nowhere. events: everything is told on the broker as well.
    """

    mail: bool = False
    mail_domain: str = ""
    mail_domains: frozenset[str] = frozenset()
    webhooks: bool = False
    webhook: str = ""
    events: bool = False
    wishes: Preferences = field(default_factory=Preferences)

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that are configured."""
        pairs: tuple[tuple[Channel, bool], ...] = (
            ("mail", self.mail),
            ("webhook", self.webhooks),
            ("event", self.events),
        )
        return frozenset(channel for channel, there in pairs if there)


class Planner:
    """Plans notices. age_ms_max: of what is over (decided, expired) nobody is told later than that."""

    def __init__(
        self, feed: Store, store: NoticeStore, reach: Reach, *, poll_ms: int, batch_records: int, age_ms_max: int
    ) -> None:
        self._feed, self._store, self._reach = feed, store, reach
        self._poll_ms, self._batch_records, self._age_us_max = poll_ms, batch_records, age_ms_max * 1000
        self._unreachable: set[str] = set()
        self.planned = self.passed_over = 0
        self.position = 0

    @property
    def unreachable(self) -> int:
        """How many people and groups should have been told and have no address."""
        return len(self._unreachable)

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Plans until asked to stop."""
        while not stopping:
            try:
                more = await self.plan()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                await stopping.sleep(RETRY_MS)
                continue
            except Exception:  # what a record or a contact has in it ends no process that money runs through
                log.exception("notices are not planned", after=self.position)
                pulse.beat()
                await stopping.sleep(STOPPED_RETRY_MS)
                continue
            pulse.beat()
            if not more:
                await stopping.sleep(self._poll_ms)

    async def plan(self) -> bool:
        """Looks at the next records once; True where there may be more."""
        before = await self._store.position()
        if before is None:
            # Whoever reads gives positions to what is there; from then on it is old.
            async for _ in self._feed.records(_NEVER, 1):
                pass
            before = await self._store.begin()
        read = [record async for record in self._feed.records(before, self._batch_records)]
        if not read:
            self.position = before
            return False
        try:
            await self._kept(before, read)
        except StoreError as error:
            if error.retriable:
                raise
            await self._one_by_one(before, read)
        return len(read) == self._batch_records

    async def _kept(self, before: int, read: Sequence[StoredRecord]) -> bool:
        """Keeps what these records tell, and the position behind them. False: somebody else did it first."""
        rows = await self._rows([record for record in read if record.type in KINDS])
        done = await self._store.plan(before, read[-1].position, rows)
        if done:
            self.planned += len(rows)
            self.position = read[-1].position
        return done

    async def _one_by_one(self, before: int, read: Sequence[StoredRecord]) -> None:
        """The database refuses something of these for good. What it refuses alone is told to nobody, loudly, so that
        all who come after it still hear; where it refuses even that, only a person can mend it: StoreError says so."""
        for record in read:
            try:
                done = await self._kept(before, [record])
            except StoreError as error:
                if error.retriable:
                    raise
                done = await self._store.plan(before, record.position, [])
                self.passed_over += done
                log.error(
                    "a record is told to nobody: its notices cannot be kept",
                    saga=record.saga_id, version=record.version, position=record.position, error=str(error)[:300],
                )  # fmt: skip
            if not done:
                return
            before = record.position

    async def _rows(self, records: Sequence[StoredRecord]) -> list[Row]:
        if not records:
            return []
        now = await self._store.now()
        beside = await self._store.beside(records)
        found: list[tuple[StoredRecord, Planned]] = []
        for record in records:
            task_id = f"{record.saga_id}:{record.activity.replace('~', '~0').replace('/', '~1')}"
            plan = planned(record, beside[record.saga_id, record.version], task_id)
            over = plan.kind not in OPEN_ONLY
            if over and record.recorded_at < now - self._age_us_max:
                plan = replace(plan, who=())
            found.append((record, plan))
        away = await self._store.substitutes((record.tenant, who) for record, plan in found for who in plan.who)
        found = [(record, with_substitutes(plan, away.get(record.tenant, {}))) for record, plan in found]
        names = [(record.tenant, who) for record, plan in found for who in plan.who]
        told: dict[tuple[str, str], list[Contact]] = {name: [] for name in names} | await self._store.contacts(names)
        known = await self._store.known(name for name in names if "@" in name[1])
        book = {(tenant, who): self._contacts(tenant, who, told[tenant, who], known) for tenant, who in names}
        return [row for record, plan in found for row in self._told(record, plan, book, now)]

    def _told(
        self, record: StoredRecord, plan: Planned, book: Mapping[tuple[str, str], Sequence[Contact]], now: int
    ) -> Iterable[Row]:
        for who in plan.who:
            contacts = book[record.tenant, who]
            if not contacts:
                self._nobody(who)
            for contact in contacts:
                out = when(plan.kind, contact.wishes, now, plan.due)
                if out is not None:
                    digest = f"{record.tenant}\n{who}\n{contact.channel}\n{out.due}" if out.digest else ""
                    yield _row(record, plan, contact, now, out.due, digest)
        for channel, address, there in (
            ("webhook", self._reach.webhook, bool(self._reach.webhook)),
            ("event", "", self._reach.events),
        ):
            if there:
                system = Contact(record.tenant, SYSTEM, channel, address, self._reach.wishes)  # type: ignore[arg-type]
                yield _row(record, plan, system, now, now, "")

    def _contacts(
        self, tenant: str, who: str, book: Sequence[Contact], known: Set[tuple[str, str]] = frozenset()
    ) -> list[Contact]:
        """Those of the book on channels that there are; a mail address made of the id where the book has none."""
        found = []
        channels = self._reach.channels
        by_id = self._by_id(who, known=(tenant, who) in known)
        for contact in book:
            address = contact.address or (by_id if contact.channel == "mail" else "")
            if contact.channel in channels and address:
                found.append(Contact(tenant, who, contact.channel, address, contact.wishes))
        if not book and self._reach.mail and by_id:
            found.append(Contact(tenant, who, "mail", by_id, self._reach.wishes))
        return found

    def _by_id(self, who: str, *, known: bool) -> str:
        """An address made of an id. That of a stranger is nobody's word for it: whoever delegates may type any name."""
        kind, _, id_ = who.partition(":")
        at_home = id_.rpartition("@")[2].lower() in {*self._reach.mail_domains, self._reach.mail_domain.lower()}
        candidates = [id_] if kind == "person" and "@" in id_ and (known or at_home) else []
        if self._reach.mail_domain:
            candidates.append(f"{id_}@{self._reach.mail_domain}")
        for candidate in candidates:
            try:
                return mail_address(candidate)
            except AddressError:
                continue
        return ""

    def _nobody(self, who: str) -> None:
        if who not in self._unreachable and len(self._unreachable) < NAMED_MAX:
            self._unreachable.add(who)
            log.warning("nobody can be told: there is no address", who=who)


def _row(record: StoredRecord, plan: Planned, contact: Contact, now: int, due: int, digest: str) -> Row:
    return Row(
        planned_at=now,
        due=due,
        task_due=plan.due,
        version=record.version,
        tenant=record.tenant,
        saga_id=record.saga_id,
        activity=record.activity,
        kind=plan.kind,
        who=contact.who,
        channel=contact.channel,
        digest=digest,
        address=contact.address,
        language=contact.wishes.language,
        zone=contact.wishes.zone,
        facts=plan.facts,
    )

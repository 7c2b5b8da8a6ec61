"""Questions about the audit trail: search, and export of the same.

Rules of this file
- What the first page could see is what all pages show: its position goes along in the cursor, and into the manifest.
- A count is exact, or says that it is not.
- A cell of an export that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from orchestrator.messages.canonical import canonical_bytes, instant_text
from orchestrator.store.sql import load_queries
from projections.answers import Answer, AuditEntry, AuditFilter, Count, Manifest
from projections.reading import Asked, Reader, cursor_of, instant, microseconds, paged, rows_wanted

SQL = load_queries("projections", "audit.sql")
COUNTED_MAX = 10_000
EXPORT_PAGE_ROWS = 1_000
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS = (
    "position", "at", "saga_id", "record", "saga_name", "saga_version", "business_key", "customer", "type", "activity",
    "actor", "outcome", "causation_id", "hash", "data",
)  # fmt: skip
LAST_WORD = chr(0x10FFFF)  # behind every type of record
AFTER_DOT = chr(ord(".") + 1)
_LAST = 2**63 - 1

Format = Literal["csv", "jsonl"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Where a page goes on, and what the first one could see."""

    before_at: int
    before: int
    up_to: int
    as_of: int


class AuditQueries:
    """The audit trail."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

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
        """Records, newest first. `as_of`: only what was written by then. `count`: with how many there are.

        Raises BadCursorError.
        """
        held = cursor_of(cursor, (int, int, int, int))
        chosen = wanted or AuditFilter()
        latest = microseconds(as_of) if as_of is not None else _LAST - 1

        async def question(asked: Asked) -> Answer[AuditEntry]:
            seen = _Seen(*held) if held else _Seen(_LAST, _LAST, asked.complete.position, min(latest, asked.now))
            since, until = _span(chosen, seen)
            # Before an instant is the same as before its first position.
            begins = (seen.before_at, seen.before) if held else (until, 0)
            place = (tenant, *begins, rows_wanted(limit), seen.up_to, since)
            of, words = await _question(asked, tenant, chosen)
            rows = await asked.fetch(SQL[f"search{of}"], *place, *words) if words else []
            shown, following = paged(
                rows, limit, lambda row: (row["recorded_at"], row["position"], seen.up_to, seen.as_of)
            )
            counted = None
            if count:
                range_ = (tenant, COUNTED_MAX + 1, seen.up_to, since, until, *words)
                found = await asked.fetch(SQL[f"count{of}"], *range_) if words else [{"n": 0}]
                counted = Count(min(found[0]["n"], COUNTED_MAX), found[0]["n"] <= COUNTED_MAX)
            complete = replace(asked.complete, position=seen.up_to)
            return Answer(tuple(map(_entry, shown)), complete, following, instant(seen.as_of), counted)

        return await self._reader.ask(tenant, "audit", question)

    async def export(
        self,
        tenant: str,
        wanted: AuditFilter | None = None,
        *,
        format_: Format = "csv",
        as_of: datetime | None = None,
    ) -> AsyncIterator[bytes]:
        """The same as a stream of bytes, `csv` or `jsonl`; the last line is the manifest. Raises ValueError."""
        if format_ not in ("csv", "jsonl"):
            raise ValueError(f"format {format_!r}: there are csv and jsonl")
        digest, rows, cursor = hashlib.sha256(), 0, ""
        heading = csv_line(COLUMNS) if format_ == "csv" else b""
        while True:
            page = await self.search(tenant, wanted, as_of=as_of, limit=EXPORT_PAGE_ROWS, cursor=cursor)
            lines, heading = heading + b"".join(_line(entry, format_) for entry in page.items), b""
            rows += len(page.items)
            digest.update(lines)
            if lines:
                yield lines
            if not page.next:
                break
            cursor = page.next
        assert page.as_of is not None
        manifest = Manifest(
            format=format_,
            filter={name: _shown(value) for name, value in asdict(wanted or AuditFilter()).items() if value},
            as_of=page.as_of,
            rows=rows,
            sha256=digest.hexdigest(),
            complete_up_to=page.complete.position,
            columns=COLUMNS,
        )
        plain = canonical_bytes({name: _shown(value) for name, value in asdict(manifest).items()})
        yield csv_line(("#manifest", plain.decode())) if format_ == "csv" else b'{"manifest":' + plain + b"}\n"


def csv_line(cells: Sequence[Any]) -> bytes:
    """One line of CSV (RFC 4180), safe to open in a spreadsheet."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([safe_cell(cell) for cell in cells])
    return out.getvalue().encode()


def safe_cell(cell: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text


def _line(entry: AuditEntry, format_: Format) -> bytes:
    plain = {name: _shown(getattr(entry, name)) for name in COLUMNS}
    if format_ == "jsonl":
        return canonical_bytes(plain) + b"\n"
    plain["data"] = canonical_bytes(plain["data"]).decode()
    return csv_line([plain[name] for name in COLUMNS])


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant_text(value)
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


def _span(wanted: AuditFilter, seen: _Seen) -> tuple[int, int]:
    since = microseconds(wanted.since) if wanted.since is not None else 0
    until = microseconds(wanted.until) if wanted.until is not None else _LAST
    return since, min(until, seen.as_of + 1)


async def _question(asked: Asked, tenant: str, wanted: AuditFilter) -> tuple[str, tuple[Any, ...]]:
    """Which statement answers a search, and what it is asked behind its place; nothing where nothing can be found.

    A saga and a business key have few records. Everything else may be said of millions of them that have little in
    common: then it is first asked which kinds there are at all (docs/adr/0074-audit-by-kind.md).
    """
    actor, customer, outcome, name = map(_stored, (wanted.actor, wanted.customer, wanted.outcome, wanted.name))
    since, until = _types(_stored(wanted.action))
    saga, words = _stored(wanted.saga), (_stored(wanted.business_key), actor, customer, outcome, name, since, until)
    if saga is not None:
        return "_saga", (saga, *words)
    if words[0] is not None or words[1:] == (None,) * 6:
        return "", words
    said = (tenant, since or "", until or LAST_WORD, outcome, name)
    rows: Sequence[Any]
    if customer is None and actor is None:
        rows = await asked.fetch(SQL["kinds"], *said)
    elif customer is None or actor is None:
        of, whose = ("kinds_of_customer", customer) if actor is None else ("kinds_of_actor", actor)
        rows = await asked.fetch(SQL[of], *said, whose)
    else:
        others = set(map(tuple, await asked.fetch(SQL["kinds_of_actor"], *said, actor)))
        rows = [row for row in await asked.fetch(SQL["kinds_of_customer"], *said, customer) if tuple(row) in others]
    if not rows:
        return "", ()
    return "_kinds", (*([row[column] for row in rows] for column in ("type", "outcome", "name")), actor, customer)


def _types(action: str | None) -> tuple[str | None, str | None]:
    """The first type of record that is meant, and the first that is not: `task.` is all that begin so."""
    if not action:
        return None, None
    return action, action[:-1] + AFTER_DOT if action.endswith(".") else action + "\x01"


def _stored(word: str | None) -> str | None:
    """A word as a row would have it: what PostgreSQL cannot hold is in no row either."""
    return None if word is None else word.replace("\0", "\ufffd")


def _entry(row: Any) -> AuditEntry:
    fields = orjson.loads(row["body"])
    return AuditEntry(
        position=row["position"],
        at=instant(row["recorded_at"]),
        saga_id=row["saga_id"],
        record=row["version"],
        saga_name=row["name"],
        saga_version=row["definition_version"],
        business_key=row["business_key"],
        customer=row["customer"],
        type=row["type"],
        activity=row["activity"],
        actor=row["actor"],
        outcome=row["outcome"],
        causation_id=fields["causation"],
        hash=row["hash"].hex(),
        data=fields["data"],
    )

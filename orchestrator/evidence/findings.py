"""What a verification found: in order of place, the first bad thing first, in words and as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

FINDINGS_MAX = 1_000
NOWHERE = 1 << 62  # behind everything that has a position


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written. `position` 0: it has none; `kind`: record, order, head, tile,
    checkpoint, published, read model."""

    kind: str
    text: str
    position: int = 0
    saga: str = ""
    version: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Report:
    """The outcome. `confirmed`: the last checkpoint whose tree is that of the records, by number, size and time.

    since: the position from which records were looked at. young: records behind the last checkpoint.
    """

    since: int = 1
    end: int = 0
    records: int = 0
    sagas: int = 0
    tiles: int = 0
    checkpoints: int = 0
    published: int = 0
    confirmed: tuple[int, int, int] | None = None
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def is_good(self) -> bool:
        """Nothing was found."""
        return not self.findings

    @property
    def young(self) -> int:
        """Records that no checkpoint covers yet."""
        return self.end - (self.confirmed[1] if self.confirmed else 0)

    def add(self, finding: Finding) -> None:
        """One more, up to a limit: a log that is wrong everywhere is told in its first thousand."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)
        else:
            self.left_out += 1

    def in_order(self) -> list[Finding]:
        """The findings, the first bad place first."""
        return sorted(self.findings, key=lambda one: (one.position or NOWHERE, one.kind))

    def plain(self) -> Mapping[str, Any]:
        """As data."""
        return {
            "ok": self.is_good,
            "records": self.records,
            "sagas": self.sagas,
            "since": self.since,
            "end": self.end,
            "checkpoints": self.checkpoints,
            "published": self.published,
            "tiles": self.tiles,
            "confirmed": dict(zip(("number", "size", "signedAt"), self.confirmed, strict=True))
            if self.confirmed
            else None,
            "young": self.young,
            "seconds": round(self.seconds, 3),
            "findings": [asdict(one) for one in self.in_order()],
            "leftOut": self.left_out,
            "notes": list(self.notes),
        }

    def lines(self, zone: str = "UTC") -> Iterator[str]:
        """In words: first what holds or does not, then each finding."""
        rate = f", {self.records / self.seconds:,.0f} records/s" if self.seconds else ""
        what = f"{spaced(self.records)} records of {spaced(self.sagas)} sagas"
        if self.since > 1:
            what = f"{spaced(self.records)} records from position {spaced(self.since)} on"
        if self.is_good:
            yield f"{what}, chain unbroken, {self._matched(zone)} ({self.seconds:.1f} s{rate})"
        else:
            first = self.in_order()[0]
            yield f"{what}: NOT as written. First: {first}"
            for one in self.in_order()[1:]:
                yield str(one)
            if self.left_out:
                yield f"and {spaced(self.left_out)} more"
            yield f"{self._matched(zone)} ({self.seconds:.1f} s{rate})"
        yield from self.notes

    def _matched(self, zone: str) -> str:
        if self.confirmed is None:
            return "no checkpoint confirms any of it"
        number, size, signed_at = self.confirmed
        at = datetime.fromtimestamp(signed_at / 1_000_000, UTC).astimezone(ZoneInfo(zone))
        young = f"; {spaced(self.young)} younger" if self.young > 0 else ""
        return f"matches checkpoint {number} over {spaced(size)} records signed {at:%d %b %Y %H:%M:%S %Z}{young}"


def spaced(number: int) -> str:
    """12 408: digits in threes, the same in every language."""
    return f"{number:,}".replace(",", " ")

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
    checkpoint, published, definition, read model."""

    kind: str
    text: str
    position: int = 0
    saga: str = ""
    version: int = 0

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Report:
    """The outcome. `confirmed`: the last checkpoint whose tree is that of the records, by number, size and time;
    `confirmed_outside`: the last of those that were published.

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
    confirmed_outside: tuple[int, int, int] | None = None
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

    def confirm(self, number: int, size: int, signed_at: int, *, is_ours: bool) -> None:
        """A checkpoint has the root of the records."""
        one = (number, size, signed_at)
        if self.confirmed is None or size >= self.confirmed[1]:
            self.confirmed = one
        if not is_ours and (self.confirmed_outside is None or size >= self.confirmed_outside[1]):
            self.confirmed_outside = one

    def unproved(self, required: str) -> str:
        """What is missing to a proof where nothing is wrong: "" where a checkpoint as `required` confirms the log."""
        if required == "published" and self.confirmed_outside is None:
            what = (
                "one checkpoint from outside the database confirms any of it: whoever owns it could have put an older "
            )
            return f"NOTHING TO COMPARE WITH: not {what}database in its place, or another one"
        if required == "signed" and self.confirmed is None:
            return "NOTHING TO COMPARE WITH: no signed checkpoint confirms any of it, so anybody could have written it"
        return ""

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
            "confirmed": _as_data(self.confirmed),
            "confirmedOutside": _as_data(self.confirmed_outside),
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
        if self.confirmed is not None and self.confirmed_outside != self.confirmed:
            number, size, _ = self.confirmed_outside or (0, 0, 0)
            up_to = f"this up to checkpoint {number} over {spaced(size)} records" if number else "nothing of it"
            yield f"checkpoints from outside the database confirm {up_to}"
        yield from self.notes

    def _matched(self, zone: str) -> str:
        if self.confirmed is None:
            return "no checkpoint confirms any of it"
        number, size, signed_at = self.confirmed
        at = datetime.fromtimestamp(signed_at / 1_000_000, UTC).astimezone(ZoneInfo(zone))
        young = f"; {spaced(self.young)} younger" if self.young > 0 else ""
        return f"matches checkpoint {number} over {spaced(size)} records signed {at:%d %b %Y %H:%M:%S %Z}{young}"


def _as_data(checkpoint: tuple[int, int, int] | None) -> dict[str, int] | None:
    return dict(zip(("number", "size", "signedAt"), checkpoint, strict=True)) if checkpoint else None


def spaced(number: int) -> str:
    """12 408: digits in threes, the same in every language."""
    return f"{number:,}".replace(",", " ")

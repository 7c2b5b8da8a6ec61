"""What a process that decides asks before it begins: is this the database whose checkpoints were published?

Rules of this file
- One place that answers is enough. A place that holds less than was published there is no answer: a disk that is not
  mounted looks like a file that is not there yet, and an older file like an older log.
- Where no place answers nobody can say, and nothing starts, unless an operator has allowed it: by name, with a reason,
  for some hours, having seen a checkpoint that is not old. That checkpoint is looked for in the place's stead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.evidence.errors import LogBehindError, LogContradictsError, PlaceAwayError
from orchestrator.evidence.notes import NoteError, Verifier, open_checkpoint
from orchestrator.evidence.places import Place
from orchestrator.evidence.publishing import check_continued, lost_by
from orchestrator.evidence.reading import Evidence

SEEN_BY_OPERATOR = "what the operator had seen who allowed this start"

log = structlog.get_logger("orchestrator.evidence")


async def check_start(
    evidence: Evidence, places: Sequence[Place], keys: Sequence[Verifier], *, attempt_ms: int
) -> None:
    """Raises LogBehindError or LogContradictsError where a published checkpoint knows more, or something else;
    PlaceAwayError where there are places, none of them answers, and nobody has allowed to start all the same."""
    reached = {one.place: one.number for one in await evidence.places()} if places else {}
    away: list[str] = []
    for place in places:
        try:
            async with asyncio.timeout(attempt_ms / 1000):
                published = await place.last(keys)
        except (PlaceAwayError, TimeoutError) as error:
            late = f"{place.name}: no answer within {attempt_ms} ms"
            away.append(str(error) if isinstance(error, PlaceAwayError) else late)
            log.warning("published checkpoints cannot be read", place=place.name, reason=away[-1])
            continue
        if published is not None:
            await check_continued(evidence, published, place.name)
        if lost := lost_by(place.name, published, reached.get(place.name, 0)):
            away.append(lost)
            log.error("a place has lost checkpoints", place=place.name, reason=lost)
    if places and len(away) == len(places):
        await _check_allowed(evidence, keys, "; ".join(away))


async def _check_allowed(evidence: Evidence, keys: Sequence[Verifier], reasons: str) -> None:
    allowed = await evidence.allowance()
    if allowed is None:
        raise PlaceAwayError(
            f"nobody can say whether this database is the one that was published: {reasons}. To start without: "
            "orchestrator audit allow-start, with a name, a reason and the last checkpoint that somebody has seen"
        )
    try:
        seen = open_checkpoint(allowed.note, keys)
    except NoteError as error:
        raise LogContradictsError(f"{allowed.allowed_by} allowed this start by a checkpoint, but {error}") from error
    try:
        await check_continued(evidence, seen, SEEN_BY_OPERATOR)
    except LogBehindError as error:
        raise LogBehindError(
            f"{error}. {allowed.allowed_by} had allowed to start: of a database that has it"
        ) from error
    log.warning(
        "started without any place", reason=reasons, allowed_by=allowed.allowed_by, because=allowed.reason,
        until=allowed.until, seen=allowed.seen_number, seen_size=allowed.seen_size,
    )  # fmt: skip

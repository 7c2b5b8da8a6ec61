"""`orchestrator audit allow-start`: processes may start although no place can say what was published.

Rules of this file
- Whoever allows it has seen a checkpoint: the last one of this database, or a younger one from elsewhere (`--seen`).
- How old it may be is said, and an hour by default: a backup that was put back has none that is younger than itself.
  Its age counts by the later of two clocks, the database's and this machine's.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import DryRun, Json, Yes, agreed, require_named, require_reason
from orchestrator.cli.output import CliError, ExitCode, Output
from orchestrator.cli.proofs import notes_of, run_on_store, settings_of_log, trusted

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.evidence.keys import KeyRing
    from orchestrator.evidence.notes import SignedCheckpoint
    from orchestrator.evidence.reading import Evidence
    from orchestrator.store.postgres import PostgresStore

MINUTE = 60_000_000
HOURS_MAX, AGE_MINUTES_MAX = 72, 10_080


def allow_start(
    by: Annotated[str, typer.Option("--by", help="Who allows it: a person's name.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why nobody can wait until a place answers.")] = "",
    seen: Annotated[
        Path | None,
        typer.Option("--seen", help="A file with the last checkpoint that you have seen; default: this database's."),
    ] = None,
    hours: Annotated[int, typer.Option("--hours", min=1, max=HOURS_MAX, help="For how long.")] = 4,
    max_age: Annotated[
        int, typer.Option("--max-age", min=1, max=AGE_MINUTES_MAX, help="How many minutes old that checkpoint may be.")
    ] = 60,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Lets processes start for some hours although no place for checkpoints answers. It stays visible."""
    out = Output(as_json)
    require_reason(reason)
    require_named(by, "allows")

    async def work(settings: Settings, store: PostgresStore) -> dict[str, Any]:
        import structlog

        from orchestrator.evidence.publishing import check_continued
        from orchestrator.evidence.reading import Evidence

        evidence = Evidence(store.pools, "work")
        found = await _seen(evidence, trusted(settings, None), seen)
        await check_continued(evidence, found, str(seen) if seen else "this database")
        one = found.checkpoint
        age = (max(await evidence.now(), time.time_ns() // 1_000) - one.signed_at) // MINUTE
        if age > max_age:
            raise CliError(
                ExitCode.CONFLICT,
                f"checkpoint {one.number} was signed {one.time}, {age} minutes ago, and may be {max_age}: this may be "
                "an old database that was put back",
                "name a younger one with --seen, or say with --max-age how old it may be",
            )
        said = (
            f"Processes may start for {hours} h although no place says what was published. Seen: checkpoint "
            f"{one.number} over {one.size} records, signed {one.time}, {max(0, age)} minutes ago"
        )
        if not await asyncio.to_thread(agreed, out, said, yes=yes, dry_run=dry_run):
            return {}
        await evidence.allow_start(found, by=by.strip(), reason=reason.strip(), micros=hours * 60 * MINUTE)
        structlog.get_logger("orchestrator.evidence").warning(
            "starts without any place allowed", by=by, reason=reason, hours=hours, checkpoint=one.number
        )
        return {"allowedHours": hours, "seen": one.number, "size": one.size, "ageMinutes": max(0, age), "by": by}

    done = run_on_store(work, settings_of_log())
    if done:
        out.object(done)
        out.line(f"allowed: processes may start without any place for {hours} h")


async def _seen(evidence: Evidence, ring: KeyRing, file: Path | None) -> SignedCheckpoint:
    from orchestrator.evidence.notes import NoteError, open_checkpoint
    from orchestrator.evidence.places import latest

    if file is not None:
        found = latest(await asyncio.to_thread(notes_of, file), ring.verifiers)
        if found is None:
            raise CliError(ExitCode.NOT_FOUND, f"{file} holds no checkpoint of this log", "name another file")
        return found
    stored = await evidence.latest()
    if stored is None:
        raise CliError(
            ExitCode.NOT_FOUND,
            "this database has no checkpoint: nobody can tell it from an empty one that was put in its place",
            "name one that you have seen with --seen, or make a place answer",
        )
    try:
        return open_checkpoint(stored.note, ring.verifiers)
    except NoteError as error:
        raise CliError(ExitCode.FOUND_SOMETHING, f"checkpoint {stored.number}: {error}") from error

"""`orchestrator audit verify`, `log`, `checkpoint`, `accept` and `keys`: proving that the log is what was written.

Rules of this file
- These verbs log in to the database themselves, as the product does; none of them needs a running product, and none but
  `accept` and `keys` writes anything.
- What is found is exit code 6. Keys to trust are named (`--key`, newest first), else those of the settings.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.options import DryRun, Json, Yes, agreed, require_named, require_reason
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output
from orchestrator.cli.proofs import (
    instant_of,
    known,
    new_file,
    open_places,
    published_notes,
    run_on_store,
    settings_of_log,
    trusted,
)

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.evidence.findings import Report
    from orchestrator.store.postgres import PostgresStore

keys = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="The keys that sign checkpoints: new, show, rotate.")

Required = Literal["published", "signed", "none"]
Keys = Annotated[
    list[str] | None, typer.Option("--key", help="A key you trust, name+id+key; repeat for older ones, newest first.")
]
Out = Annotated[Path | None, typer.Option("--out", help="The file to write; it must not be there yet.")]
KeyFile = Annotated[Path, typer.Option("--out", help="The key file; only its owner will be able to read it.")]


def verify(
    key: Keys = None,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option("--checkpoints", help="A file of published checkpoints; default: the places of the settings."),
    ] = None,
    from_: Annotated[int, typer.Option("--from", min=1, help="Only records from this position on.")] = 1,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what no checkpoint before this instant has signed.")
    ] = None,
    read_models: Annotated[
        bool, typer.Option("--read-models", help="Also build every read model anew, and compare.")
    ] = False,
    require: Annotated[
        Required | None,
        typer.Option(
            "--require-checkpoint",
            help="What must confirm the log, else exit code 8: a checkpoint that was published (the default in "
            "production), one that is signed, or none.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verifies chains, order, heads, tree, signatures and published checkpoints; exit code 6 for a flaw.

    Exit code 8: nothing is wrong, and there is no checkpoint to compare with, so nothing is proved.
    """
    out = Output(as_json)
    instant = instant_of(since) if since else 0

    async def work(settings: Settings, store: PostgresStore) -> Report:
        from orchestrator.evidence.verifying import Verification

        ring = trusted(settings, key)
        published, silent = await published_notes(settings, store, ring, checkpoints or [])
        said = 0

        def progress(at: int, end: int) -> None:
            nonlocal said
            if end and 100 * at // end >= said + 10:
                said = 100 * at // end
                out.say(f"{at} of {end} records")

        verification = Verification(store, ring, published=published, on_progress=progress)
        first = max(from_, await verification.since(instant) if instant else 1)
        report = await verification.run(first)
        report.notes += silent
        if read_models:
            await _compare_read_models(settings.database_url, report, out)
        return report

    settings = settings_of_log()
    wanted = require or ("published" if settings.environment == "production" else "signed")
    _tell(out, run_on_store(work, settings), wanted, settings.notice_zone)


def _tell(out: Output, report: Report, required: Required, zone: str) -> None:
    """Says what was found, and ends with its exit code."""
    unproved = report.unproved(required)
    proved = report.is_good and not unproved
    out.object({**report.plain(), "proved": proved, "required": required, "unproved": unproved})
    for number, line in enumerate(report.lines(zone)):
        out.line(line, "red" if report.findings and number == 0 else "")
    if not report.is_good:
        raise typer.Exit(ExitCode.FOUND_SOMETHING)
    if unproved:
        out.line(unproved, "red")
        raise typer.Exit(ExitCode.NOTHING_TO_COMPARE)


def log(
    to: Out = None,
    from_: Annotated[int, typer.Option("--from", min=1, help="The first position.")] = 1,
    as_json: Json = False,
) -> None:
    """Writes the whole log, one JSON object a line, for verifiers of others; with --out to a file."""
    import sys

    from orchestrator.evidence.exporting import log_lines

    out = Output(as_json)

    async def work(_: Settings, store: PostgresStore) -> int:
        lines = 0
        with new_file(to) if to else contextlib.nullcontext(sys.stdout.buffer) as file:
            async for part in log_lines(store, from_):
                file.write(part)
                lines += part.count(b"\n")
        return lines

    written = run_on_store(work, settings_of_log())
    if to is not None:
        out.object({"written": str(to), "records": written})
    out.say(f"{written} records" + (f" in {to}" if to else ""))


def checkpoint(
    number: Annotated[int, typer.Option("--number", min=0, help="Which one; default: the last.")] = 0,
    all_: Annotated[bool, typer.Option("--all", help="All of them, one after the other.")] = False,
    to: Out = None,
    as_json: Json = False,
) -> None:
    """Prints a signed checkpoint as it was published, or writes it to a file; --all for all of them."""
    out = Output(as_json)

    async def work(_: Settings, store: PostgresStore) -> list[Any]:
        from orchestrator.evidence.reading import Evidence

        evidence = Evidence(store.pools)
        if all_:
            return [one async for one in evidence.checkpoints()]
        one = await evidence.checkpoint(number) if number else await evidence.latest()
        return [one] if one is not None else []

    found = run_on_store(work, settings_of_log())
    if not found:
        raise CliError(ExitCode.NOT_FOUND, "there is no such checkpoint in this database", "a coordinator signs them")
    text = "\n".join(one.note for one in found)
    if to is not None:
        with new_file(to) as file:
            file.write(text.encode())
        out.say(f"{len(found)} checkpoints in {to}")
    out.objects({"number": one.number, "size": one.size, "root": one.root.hex(), "note": one.note} for one in found)
    if to is None:
        out.line(text.removesuffix("\n"))


def accept(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="Whose checkpoint: file, topic or url.")],
    by: Annotated[str, typer.Option("--by", help="Who accepts it: a person's name.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why this database goes on without what was published.")] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Lets this database go on although a published checkpoint knows more, or something else. It stays visible."""
    out = Output(as_json)
    require_reason(reason)
    require_named(by, "accepts")

    async def work(settings: Settings, store: PostgresStore) -> dict[str, Any]:
        import structlog

        from orchestrator.evidence.errors import EvidenceError
        from orchestrator.evidence.publishing import check_continued
        from orchestrator.evidence.reading import Evidence

        ring, evidence = trusted(settings, None), Evidence(store.pools, "work")
        async with open_places(settings, store) as found:
            chosen = next((one for one in found if one.name == place), None)
            if chosen is None:
                raise CliError(ExitCode.NOT_FOUND, f"there is no place {place!r}", "orchestrator audit accept --help")
            published = await chosen.last(ring.verifiers)
        if published is None:
            raise CliError(ExitCode.NOT_FOUND, f"{place} holds no checkpoint", "there is nothing to accept")
        try:
            await check_continued(evidence, published, place)
        except EvidenceError as error:
            difference = str(error)
        else:
            raise CliError(ExitCode.CONFLICT, "this database continues that checkpoint", "there is nothing to accept")
        if not await asyncio.to_thread(agreed, out, difference, yes=yes, dry_run=dry_run):
            return {}
        await evidence.accept(published, by=by.strip(), reason=reason.strip())
        one = published.checkpoint
        structlog.get_logger("orchestrator.evidence").warning(
            "break accepted", by=by, reason=reason, checkpoint=one.number, size=one.size, place=place
        )
        return {"accepted": one.number, "size": one.size, "place": place, "by": by}

    done = run_on_store(work, settings_of_log())
    if done:
        out.object(done)
        out.line(f"accepted: checkpoint {done['accepted']} over {done['size']} records is not continued now")


@keys.command("new")
def new_key(
    to: KeyFile,
    name: Annotated[str, typer.Option("--name", help="The log's name, for example bank.example/payments.")],
    as_json: Json = False,
) -> None:
    """Makes a signing key, and prints its public half: that is what auditors pin."""
    from orchestrator.evidence.keys import write_ring
    from orchestrator.evidence.notes import NoteError, Signer

    out = Output(as_json)
    try:
        made = Signer.new(name)
        write_ring(to, made, is_new=True)
    except NoteError as error:
        raise CliError(ExitCode.USAGE, str(error), "name it like bank.example/payments") from error
    except FileExistsError as error:
        raise CliError(ExitCode.CONFLICT, f"{to} is there already", "orchestrator audit keys rotate") from error
    except OSError as error:
        raise CliError(ExitCode.FAILED, str(error), "choose another place") from error
    _told(out, [made.verifier.vkey])


@keys.command("show")
def show_keys(as_json: Json = False) -> None:
    """Prints the public keys of the settings, newest first."""
    _told(Output(as_json), trusted(settings_of_log(), None).vkeys)


@keys.command("rotate")
def rotate_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file; it gets a new first key.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Puts a new signing key before the old one, which stays good for what it signed. Taken up at the next start."""
    from orchestrator.evidence.keys import read_ring, write_ring
    from orchestrator.evidence.notes import Signer

    out = Output(as_json)
    ring = known(lambda: read_ring(file))
    made = Signer.new(ring.verifiers[0].name)
    if not agreed(out, f"{file} gets a new signing key; the old one cannot sign any more", yes=yes, dry_run=dry_run):
        return
    write_ring(file, made, ring.verifiers)
    _told(out, [made.verifier.vkey, *ring.vkeys])


def _told(out: Output, vkeys: list[str]) -> None:
    out.object({"keys": vkeys})
    for vkey in vkeys:
        out.line(vkey)


async def _compare_read_models(url: str, report: Report, out: Output) -> None:
    from orchestrator.cli.local import load_catalog
    from orchestrator.evidence.findings import Finding
    from projections import rebuild
    from projections.registry import NAMES, customers

    views = load_catalog().views
    for name in NAMES:
        built = await rebuild.rebuild(url, name, swap=False, accept_differences=False, customer_of=customers(views))
        for one in built.differences:
            text = f"read model {name}, {one.table}: {one.only_live} rows are not what the records give"
            report.add(Finding("read model", text))
        report.notes.append(
            f"read model {name}: {built.records} records, {'differs' if built.differences else 'the same'}"
        )
        out.say(f"read model {name} compared")

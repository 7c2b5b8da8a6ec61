"""`orchestrator audit verify`, `log`, `checkpoint`, `accept` and `keys`: proving that the log is what was written.

Rules of this file
- These verbs log in to the database themselves, as the product does; none of them needs a running product, and none but
  `accept` and `keys` writes anything.
- What is found is exit code 6. Keys to trust are named (`--key`, newest first), else those of the settings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.cli.options import DryRun, Json, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.evidence.findings import Report
    from orchestrator.evidence.keys import KeyRing
    from orchestrator.store.postgres import PostgresStore

T = TypeVar("T")

STATEMENT_MS_MAX = 600_000

keys = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="The keys that sign checkpoints: new, show, rotate.")

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
    as_json: Json = False,
) -> None:
    """Verifies chains, order, heads, tree, signatures and published checkpoints; exit code 6 for a flaw."""
    out = Output(as_json)
    instant = _instant(since) if since else 0

    async def work(settings: Settings, store: PostgresStore) -> Report:
        from orchestrator.evidence.verifying import Verification

        ring = _trusted(settings, key)
        published = await _published(settings, store, ring, checkpoints or [], out)
        said = 0

        def progress(at: int, end: int) -> None:
            nonlocal said
            if end and 100 * at // end >= said + 10:
                said = 100 * at // end
                out.say(f"{at} of {end} records")

        verification = Verification(store, ring, published=published, on_progress=progress)
        first = max(from_, await verification.since(instant) if instant else 1)
        report = await verification.run(first)
        if read_models:
            await _compare_read_models(settings.database_url, report, out)
        return report

    settings = _settings()
    report = _run(work, settings)
    out.object(report.plain())
    for number, line in enumerate(report.lines(settings.notice_zone)):
        out.line(line, "red" if report.findings and number == 0 else "")
    if not report.is_good:
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


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
        with _new_file(to) if to else contextlib.nullcontext(sys.stdout.buffer) as file:
            async for part in log_lines(store, from_):
                file.write(part)
                lines += part.count(b"\n")
        return lines

    written = _run(work, _settings())
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

    found = _run(work, _settings())
    if not found:
        raise CliError(ExitCode.NOT_FOUND, "there is no such checkpoint in this database", "a coordinator signs them")
    text = "\n".join(one.note for one in found)
    if to is not None:
        with _new_file(to) as file:
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
    if not by.strip():
        raise CliError(ExitCode.USAGE, "whoever accepts this is named: it stays in the audit trail", 'add --by "..."')

    async def work(settings: Settings, store: PostgresStore) -> dict[str, Any]:
        import structlog

        from orchestrator.evidence.errors import EvidenceError
        from orchestrator.evidence.publishing import check_continued
        from orchestrator.evidence.reading import Evidence

        ring, evidence = _trusted(settings, None), Evidence(store.pools, "work")
        async with _places(settings, store) as found:
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

    done = _run(work, _settings())
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
    _told(Output(as_json), _trusted(_settings(), None).vkeys)


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
    ring = _known(lambda: read_ring(file))
    made = Signer.new(ring.verifiers[0].name)
    if not agreed(out, f"{file} gets a new signing key; the old one cannot sign any more", yes=yes, dry_run=dry_run):
        return
    write_ring(file, made, ring.verifiers)
    _told(out, [made.verifier.vkey, *ring.vkeys])


def _told(out: Output, vkeys: list[str]) -> None:
    out.object({"keys": vkeys})
    for vkey in vkeys:
        out.line(vkey)


# --- what the verbs share --------------------------------------------------------------------------------------------


def _settings() -> Settings:
    from orchestrator.config import load_settings
    from orchestrator.evidence.settings import beside_database

    settings: Settings = _known(load_settings)
    beside = beside_database(settings.data_dir)
    if not settings.database_url and not settings.has_key and Path(beside["evidence_key_file"]).exists():
        return settings.model_copy(update=beside)
    return settings


def _known(make: Callable[[], T]) -> T:
    from orchestrator.cli.run import as_cli_error

    try:
        return make()
    except Exception as error:
        known = as_cli_error(error)
        if known is None:
            raise
        raise known from error


def _run(work: Callable[[Settings, PostgresStore], Awaitable[T]], settings: Settings) -> T:
    from orchestrator.cli.run import run_async
    from orchestrator.cli.serving import database
    from orchestrator.store.connections import ConnectionLimits
    from orchestrator.store.postgres import PostgresStore

    async def run() -> T:
        limits = ConnectionLimits(statement_timeout_ms=STATEMENT_MS_MAX, answer_timeout_ms=STATEMENT_MS_MAX + 5_000)
        async with database(settings) as urls, PostgresStore(urls.app, limits, application="audit") as store:
            return await work(settings.model_copy(update={"database_url": urls.app}), store)

    return run_async(run())


def _trusted(settings: Settings, given: list[str] | None) -> KeyRing:
    from orchestrator.evidence.keys import KeyRing

    ring = _known(lambda: KeyRing.of(given) if given else settings.evidence_ring())
    if ring is None:
        raise CliError(
            ExitCode.USAGE, "no key says which checkpoints to trust", "add --key, or set ORCHESTRATOR_EVIDENCE_KEY_FILE"
        )
    return ring


@asynccontextmanager
async def _places(settings: Settings, store: PostgresStore) -> AsyncIterator[list[Any]]:
    from orchestrator.broker.contract import open_broker
    from orchestrator.evidence.wiring import places

    broker = open_broker(settings.resolved_broker_url(settings.database_url), settings=settings.broker_settings())
    found = places(settings, broker)
    try:
        yield found
    finally:
        for one in found:
            await one.close()
        await broker.close()


async def _published(
    settings: Settings, store: PostgresStore, ring: KeyRing, files: list[Path], out: Output
) -> list[tuple[str, list[str]]]:
    """The checkpoints of these files; where none are named, those of the places in the settings."""
    from orchestrator.evidence.errors import PlaceAwayError
    from orchestrator.evidence.notes import notes_in

    own = Path(settings.evidence_file)
    if not files and settings.evidence_file and await asyncio.to_thread(own.exists):
        files = [own]
    try:
        found = [(str(file), list(notes_in(file.read_text("utf-8")))) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(ExitCode.NOT_FOUND, f"{error}", "name files of checkpoints") from error
    async with _places(settings, store) as places:
        for place in places:
            if place.name == "file":
                continue
            try:
                last = await place.last(ring.verifiers)
            except PlaceAwayError as error:
                out.say(f"not asked: {error}")
                continue
            if last is not None:
                found.append((place.name, [last.note]))
    return found


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


def _instant(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"{text!r} is no instant", "as in 2026-01-31T12:00:00Z") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _new_file(path: Path) -> Any:
    try:
        return path.open("xb")
    except FileExistsError as error:
        raise CliError(ExitCode.CONFLICT, f"{path} is there already", "choose another name, or remove it") from error
    except OSError as error:
        raise CliError(ExitCode.FAILED, str(error), "choose another place") from error

"""`orchestrator projection ...`: how read models are, and building them anew."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.client import Api
from orchestrator.cli.options import DryRun, Json, Yes, agreed
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output

if TYPE_CHECKING:
    from projections.rebuild import Rebuilt

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Read models: list, rebuild, compare.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Which one: approvals, audit or journeys.")]


@app.command("list")
def list_projections(as_json: Json = False) -> None:
    """Lists read models: how far each has come, and why one is stopped."""
    out = Output(as_json)
    found = Api().get("/v1/projections")["items"]
    if as_json:
        out.objects(found)
    else:
        rows = [
            (i["name"], i["state"], i["slot"], str(i["complete"]["position"]), str(i["lag"]), i["reason"])
            for i in found
        ]
        out.table(("read model", "state", "slot", "position", "behind", "reason"), rows)
    if any(item["state"] in ("stopped", "outdated") for item in found):
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


@app.command()
def rebuild(
    name: Name,
    accept: Annotated[bool, typer.Option("--accept-differences", help="Swap although rows differ.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Builds a read model anew beside the live one, compares row by row, and swaps. Logs in to the database."""
    out = Output(as_json)
    if not agreed(out, f"read model {name} is built anew from all records and swapped in", yes=yes, dry_run=dry_run):
        return
    _told(out, _rebuilt(out, name, swap=True, accept=accept))


@app.command()
def compare(name: Name, as_json: Json = False) -> None:
    """Builds a read model anew beside the live one and says which rows differ; changes nothing that is read."""
    out = Output(as_json)
    _told(out, _rebuilt(out, name, swap=False, accept=False))


def _rebuilt(out: Output, name: str, *, swap: bool, accept: bool) -> Rebuilt:
    from orchestrator.cli.local import load_catalog
    from orchestrator.cli.run import run_async
    from orchestrator.cli.serving import database
    from orchestrator.config import Settings, SettingsError, load_settings
    from orchestrator.store.memory import collect_rarely
    from projections import rebuild as rebuilding
    from projections.contract import ProjectionError
    from projections.registry import NAMES, customers

    if name not in NAMES:
        raise CliError(ExitCode.NOT_FOUND, f"there is no read model {name!r}", f"there are: {', '.join(NAMES)}")
    try:
        settings = load_settings()
    except SettingsError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the environment variable") from error
    views = load_catalog().views
    said = 0

    def progress(position: int, target: int) -> None:
        nonlocal said
        percent = 100 * position // target if target else 100
        if percent >= said + 10:
            said = percent
            out.say(f"{name}: {position} of {target} records")

    async def work(settings: Settings) -> Rebuilt:
        collect_rarely()
        async with database(settings) as urls:
            return await rebuilding.rebuild(
                urls.app, name, swap=swap, accept_differences=accept, customer_of=customers(views), on_progress=progress
            )

    try:
        return run_async(work(settings))
    except ProjectionError as error:
        raise CliError(ExitCode.CONFLICT, str(error), "orchestrator projection list") from error


def _told(out: Output, built: Rebuilt) -> None:
    plain: dict[str, Any] = {**asdict(built), "same_rows": built.same_rows}
    out.object(plain)
    rate = f"{built.records / built.seconds:,.0f} records/s" if built.seconds else ""
    out.line(f"{built.projection}: {built.records} records up to position {built.position}, {rate}")
    for difference in built.differences:
        out.line(
            f"{difference.table}: {difference.only_live} rows only in the live one, {difference.only_rebuilt} only in "
            "the rebuilt one", "red",
        )  # fmt: skip
        for sample in difference.samples:
            out.line(f"  {sample}")
    if built.compared:
        out.line("every row is the same" if built.same_rows else "rows differ")
    else:
        out.line("nothing to compare with: the live one was empty")
    out.line("swapped: the rebuilt one is read now" if built.swapped else "not swapped")
    if built.differences and not built.swapped:
        raise typer.Exit(ExitCode.FOUND_SOMETHING)

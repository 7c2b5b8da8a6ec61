"""`orchestrator subject ...`: erasing a person, and legal holds. `orchestrator vault ...`: the keys that wrap keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import quote

import typer

from orchestrator.cli.client import Api
from orchestrator.cli.options import DryRun, Json, Reason, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.vault.keyfile import Wrapping
    from orchestrator.vault.keys import Broken, Keys

T = TypeVar("T")

BROKEN_MAX = 1_000  # named one by one

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Persons: erase, confirm, hold, release, list.")
vault = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="The vault's key file: init, rotate, check.")

Subject = Annotated[str, typer.Argument(metavar="ID", help="The id by which sagas know the person.")]
RequestName = Annotated[str, typer.Option("--request", help="The request's number, which pages will show.")]
KeyFile = Annotated[Path | None, typer.Option("--file", help="The key file; else ORCHESTRATOR_VAULT_KEY_FILE.")]


@app.command()
def erase(
    subject: Subject,
    request: RequestName = "",
    reason: Reason = "",
    saga: Annotated[bool, typer.Option("--saga", help="ID is that of a saga which names no customer.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Asks for somebody to be erased; a second person confirms it. Nothing of it can be taken back."""
    require_reason(reason)
    if not request.strip():
        raise CliError(ExitCode.USAGE, "a request is required: pages name it where something was", "add --request ER-7")
    out, api = Output(as_json), Api()
    if not agreed(out, "what sagas hold of this person can never be read again", yes=yes, dry_run=dry_run):
        return
    body = {"subject": subject, "request": request, "reason": reason, "saga": saga}
    _said(out, api.post("/v1/subjects/erasures", body))


@app.command()
def confirm(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's number.")],
    subject: Annotated[str, typer.Option("--subject", help="Whom you mean: refused where it is somebody else.")] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Confirms what somebody else asked for, and carries it out."""
    out, api = Output(as_json), Api()
    if not agreed(out, f"request {request} is carried out, for ever", yes=yes, dry_run=dry_run):
        return
    _said(out, api.post(f"/v1/subjects/erasures/{quote(request, safe='')}/confirm", {"subject": subject}))


@app.command()
def hold(subject: Subject, reason: Reason = "", as_json: Json = False) -> None:
    """Puts somebody under a legal hold: until it is released they cannot be erased."""
    require_reason(reason)
    out = Output(as_json)
    answer = Api().post("/v1/subjects/holds", {"subject": subject, "reason": reason})
    out.object(answer)
    out.line("held")


@app.command()
def release(subject: Subject, as_json: Json = False) -> None:
    """Ends a legal hold."""
    out = Output(as_json)
    answer = Api().post("/v1/subjects/holds", {"subject": subject})
    out.object(answer)
    out.line("released")


@app.command("list")
def list_requests(as_json: Json = False) -> None:
    """Lists requests to erase somebody, newest first."""
    out = Output(as_json)
    found = Api().get("/v1/subjects/erasures")["items"]
    if as_json:
        out.objects(found)
        return
    rows = [
        (i["request"], i["askedBy"], i["confirmedBy"], (i["erasedAt"] or "waits")[:19], _told(i), i["reason"])
        for i in found
    ]
    out.table(("request", "asked by", "confirmed by", "erased (UTC)", "sagas", "reason"), rows)
    if not rows:
        out.say("no requests")


@vault.command()
def init(file: KeyFile = None, as_json: Json = False) -> None:
    """Makes a key file. Keep it, and keep it apart from the database and its backups."""
    from orchestrator.vault import keyfile

    out, path = Output(as_json), _path(file)
    _keys(keyfile.create, path)
    out.object({"file": str(path)})
    out.line(f"made {path}; set ORCHESTRATOR_VAULT_KEY_FILE to it in every process")


@vault.command()
def rotate(
    file: KeyFile = None,
    wrap_only: Annotated[bool, typer.Option("--wrap-only", help="Add no key; wrap what was made meanwhile.")] = False,
    as_json: Json = False,
) -> None:
    """Adds a wrapping key, and wraps every person's key with it. Restart the processes, do it again with --wrap-only,
    then drop the older lines."""
    from orchestrator.vault import keyfile

    out, path = Output(as_json), _path(file)
    _needs_database()
    wrapping = _keys(keyfile.read if wrap_only else keyfile.add, path)
    done = asyncio.run(_with_keys(wrapping, lambda keys: keys.rewrap()))
    out.object({"file": str(path), "active": wrapping.active, "rewrapped": done})
    out.line(f"{done} keys are wrapped with {wrapping.active}")


@vault.command()
def check(file: KeyFile = None, as_json: Json = False) -> None:
    """Opens every person's key with the key file, and names those that do not open: their sagas stand."""
    from orchestrator.vault import keyfile

    out, path = Output(as_json), _path(file)
    _needs_database()

    async def walk(keys: Keys) -> tuple[int, list[Broken]]:
        looked = 0
        broken: list[Broken] = []
        async for key in keys.all_broken():
            looked += 1
            if key is not None and len(broken) < BROKEN_MAX:
                broken.append(key)
        return looked, broken

    looked, broken = asyncio.run(_with_keys(_keys(keyfile.read, path), walk))
    found = [{"key": key.key_id, "tenant": key.tenant, "reason": key.reason} for key in broken]
    out.object({"file": str(path), "keys": looked, "broken": found})
    out.table(("key", "tenant", "why, and what to do"), [(one["key"], one["tenant"], one["reason"]) for one in found])
    if not found:
        out.line(f"{looked} keys open")
        return
    raise CliError(
        ExitCode.FOUND_SOMETHING,
        f"{len(found)} of {looked} keys do not open",
        "put the rows or the lines of the key file back; then drive the dead letters `key_broken` again",
    )


def _needs_database() -> None:
    from orchestrator.config import load_settings

    if not load_settings().database_url:
        raise CliError(ExitCode.USAGE, "no database is named", "set ORCHESTRATOR_DATABASE_URL")


async def _with_keys(wrapping: Wrapping, work: Callable[[Keys], Awaitable[T]]) -> T:
    from orchestrator.config import load_settings
    from orchestrator.store.connections import ConnectionLimits, Pools
    from orchestrator.vault.keys import Keys

    pools = Pools(load_settings().database_url, ConnectionLimits(), "orchestrator vault")
    try:
        return await work(Keys(pools, wrapping))
    finally:
        await pools.close()


def _said(out: Output, answer: dict[str, object]) -> None:
    out.object(answer)
    if answer["erasedAt"]:
        out.line(f"request {answer['request']}: erased; {_told(answer)} sagas say so")
    else:
        out.line(f"request {answer['request']}: asked by {answer['askedBy']}; somebody else confirms it with")
        out.line(f"  orchestrator subject confirm {answer['request']}")


def _told(item: dict[str, object]) -> str:
    """How many sagas have the record, and whether more are to have it."""
    if not item["erasedAt"] or item["finishedAt"]:
        return str(item["sagas"])
    return f"{item['sagas']} so far"


def _path(file: Path | None) -> Path:
    from orchestrator.config import load_settings

    if file is not None:
        return file
    named = load_settings().vault_key_file
    if not named:
        raise CliError(ExitCode.USAGE, "no key file is named", "set ORCHESTRATOR_VAULT_KEY_FILE, or add --file")
    return Path(named)


def _keys(make: Callable[[Path], Wrapping], path: Path) -> Wrapping:
    from orchestrator.keyfiles import KeyFileError

    try:
        return make(path)
    except KeyFileError as error:
        raise CliError(ExitCode.USAGE, str(error), "") from error

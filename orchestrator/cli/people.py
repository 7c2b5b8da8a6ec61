"""`orchestrator key ...` and `orchestrator user ...`: keys of services, people who are barred, local users.

Rules of this file
- These verbs go to the database, not to the API: whoever can reach it with the product's own settings is administrator.
  What they do is in the security log under `cli:<login>`.
- A key is printed once, on stdout; it is kept nowhere, and nothing else can print it again.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.cli.options import DryRun, Json, Reason, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.identity.keeping import Kept

T = TypeVar("T")

keys = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Keys of services: create, list, revoke.")
users = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="People: bar, admit, barred, add, list, remove.")

DAY_SECONDS = 86_400

Capacity = Annotated[list[str] | None, typer.Option("--capacity", help="What it lets do; may be given several times.")]
Action = Annotated[list[str] | None, typer.Option("--action", help="Only this, of what its capacities let it do.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant; default that of the settings.")]
Person = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id.")]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service that will hold it.")],
    capacity: Capacity = None,
    action: Action = None,
    days: Annotated[int, typer.Option("--days", min=1, max=730, help="How long it holds.")] = 90,
    tenant: Tenant = "",
    as_json: Json = False,
) -> None:
    """Makes a key and prints it, once. Without --capacity: service."""
    from orchestrator.identity.rules import ACTIONS, ADMIN, APPROVER, CAPACITIES, action_of

    capacities, actions = set(capacity or ["service"]), set(action or [])
    unknown = (capacities - CAPACITIES) | {named for named in actions if action_of(named) not in ACTIONS}
    if unknown:
        what = sorted(unknown)
        raise CliError(
            ExitCode.USAGE, f"there is no capacity or action {', '.join(what)}", "see docs/guides/sign-in.md"
        )
    if capacities & {ADMIN, APPROVER}:
        raise CliError(ExitCode.USAGE, "a key is no person: it neither approves nor administers", "leave them out")
    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> str:
        key = await kept.make_key(
            tenant=tenant or settings.tenant,
            name=name,
            capacities=capacities,
            actions=actions,
            made_by=_who(),
            seconds=days * DAY_SECONDS,
        )
        log("key.manage", f"key {key.split('_')[1]} made for {name}", tenant or settings.tenant)
        return key

    key = _run(work)
    out.object({"key": key, "prefix": key.split("_")[1], "name": name, "days": days})
    out.line(key)
    out.say(f"the key of {name}, for {days} days; it is shown only now: Authorization: Bearer <key>")


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """Lists keys, newest first. What they are is not known any more, only what they may."""
    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> Any:
        return await kept.keys()

    found = _run(work)
    rows = [
        {
            "prefix": key.prefix,
            "name": key.name,
            "tenant": key.tenant,
            "capacities": list(key.capacities),
            "actions": list(key.actions),
            "madeBy": key.made_by,
            "madeAt": key.made_at.isoformat(),
            "expiresAt": key.expires_at.isoformat(),
            "state": "usable" if key.usable else "revoked" if key.revoked_at else "expired",
        }
        for key in found
    ]
    out.objects(rows)
    table = [
        (
            row["prefix"],
            row["name"],
            row["tenant"],
            ", ".join(row["actions"] or row["capacities"]),
            row["expiresAt"][:10],
            row["state"],
        )
        for row in rows
    ]
    out.table(("key", "service", "tenant", "may", "until", "state"), table)


@keys.command("revoke")
def revoke_key(
    prefix: Annotated[str, typer.Argument(metavar="KEY", help="Its prefix, as `key list` prints it.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Revokes a key, at once and for good."""
    out = Output(as_json)
    if not agreed(out, f"key {prefix} lets nobody in any more", yes=yes, dry_run=dry_run):
        return

    async def work(kept: Kept, settings: Settings, log: Log) -> bool:
        done = await kept.revoke_key(prefix, _who())
        if done:
            log("key.manage", f"key {prefix} revoked", settings.tenant)
        return done

    if not _run(work):
        raise CliError(ExitCode.NOT_FOUND, f"there is no key {prefix} that could be revoked", "orchestrator key list")
    out.object({"prefix": prefix, "revoked": True})
    out.line(f"revoked {prefix}")


@users.command("bar")
def bar(
    person: Person,
    reason: Reason = "",
    tenant: Tenant = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Keeps somebody out from now on: ends their sessions, and no token of theirs is believed any more."""
    require_reason(reason)
    out = Output(as_json)
    if not agreed(out, f"{person} cannot come in any more", yes=yes, dry_run=dry_run):
        return

    async def work(kept: Kept, settings: Settings, log: Log) -> bool:
        log("user.manage", f"{person} barred", tenant or settings.tenant)
        return await kept.bar(tenant or settings.tenant, person, reason=reason, by=_who())

    out.object({"person": person, "barred": True, "new": _run(work)})
    out.line(f"barred {person}")


@users.command("admit")
def admit(person: Person, tenant: Tenant = "", as_json: Json = False) -> None:
    """Lets somebody in again who was barred."""
    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> bool:
        log("user.manage", f"{person} admitted", tenant or settings.tenant)
        return await kept.admit(tenant or settings.tenant, person)

    if not _run(work):
        raise CliError(ExitCode.NOT_FOUND, f"{person} is not barred", "orchestrator user barred")
    out.object({"person": person, "barred": False})
    out.line(f"admitted {person}")


@users.command("barred")
def barred(as_json: Json = False) -> None:
    """Who is kept out, why, and by whom."""
    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> list[dict[str, Any]]:
        return await kept.barred()

    rows = _run(work)
    out.objects([{**row, "barred_at": row["barred_at"].isoformat()} for row in rows])
    out.table(
        ("person", "tenant", "since", "by", "why"),
        [(row["person"], row["tenant"], str(row["barred_at"])[:19], row["barred_by"], row["reason"]) for row in rows],
    )


@users.command("add")
def add_local(
    person: Person,
    name: Annotated[str, typer.Option("--name", help="How pages show them.")] = "",
    capacity: Capacity = None,
    role: Annotated[list[str] | None, typer.Option("--role", help="A group of theirs; several times.")] = None,
    tenant: Tenant = "",
    as_json: Json = False,
) -> None:
    """Adds a local user, for a developer's machine; the password is read from the terminal, or a line of stdin."""
    from orchestrator.identity.local import local_user

    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> None:
        if not settings.has_local_users:
            raise CliError(
                ExitCode.NOT_ALLOWED,
                f"local users are not let in where ORCHESTRATOR_ENVIRONMENT is {settings.environment}",
                "connect an identity provider: docs/guides/sign-in.md",
            )
        user = local_user(
            person,
            name or person,
            capacities=capacity or ["viewer", "approver"],
            roles=role or (),
            tenant=tenant or settings.tenant,
            password=password,
        )
        await kept.put_local_user(user)
        log("user.manage", f"local user {person} added", user.tenant)

    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not password:
        raise CliError(ExitCode.USAGE, "a password is needed", "type one, or send a line to stdin")
    try:
        _run(work)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, str(error)) from error
    out.object({"person": person, "added": True})
    out.line(f"added {person}")


@users.command("list")
def list_local(as_json: Json = False) -> None:
    """Local users, as the sign-in page of this machine offers them."""
    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> Any:
        return await kept.local_users()

    found = _run(work)
    rows = [
        {"person": user.id, "name": user.name, "capacities": sorted(user.capacities), "roles": list(user.roles)}
        for user in found
    ]
    out.objects(rows)
    out.table(
        ("person", "name", "capacities", "groups"),
        [(row["person"], row["name"], ", ".join(row["capacities"]), ", ".join(row["roles"])) for row in rows],
    )


@users.command("remove")
def remove_local(person: Person, as_json: Json = False) -> None:
    """Removes a local user."""
    out = Output(as_json)

    async def work(kept: Kept, settings: Settings, log: Log) -> bool:
        log("user.manage", f"local user {person} removed", settings.tenant)
        return await kept.remove_local_user(person)

    if not _run(work):
        raise CliError(ExitCode.NOT_FOUND, f"there is no local user {person}", "orchestrator user list")
    out.object({"person": person, "removed": True})
    out.line(f"removed {person}")


Log = Callable[[str, str, str], None]


def _run(work: Callable[[Kept, Settings, Log], Awaitable[T]]) -> T:
    """Carries a verb out on the product's database. Raises CliError."""
    from orchestrator.cli.run import run_async

    async def all_of_it() -> T:
        async with _opened() as (kept, settings, log):
            return await work(kept, settings, log)

    return run_async(all_of_it())


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple[Kept, Settings, Log]]:
    from orchestrator.cli.serving import database
    from orchestrator.config import load_settings
    from orchestrator.identity.keeping import Kept
    from orchestrator.identity.security_log import Entry, SecurityLog, visible
    from orchestrator.runtime.parts import connection_limits
    from orchestrator.store.postgres import PostgresStore

    settings = load_settings()
    async with database(settings) as urls, PostgresStore(urls.app, connection_limits(settings)) as store:
        written = SecurityLog(store.pools)

        def log(action: str, what: str, tenant: str) -> None:
            now = datetime.now(UTC)
            written.add(Entry(now, tenant, _who(), "command-line", action, visible(what), "allowed", 0, "", "", ""))

        yield Kept(store.pools), settings, log
        await written.flush()


def _who() -> str:
    from orchestrator.cli.client import login_name

    return f"cli:{login_name()}"

"""`orchestrator definition ...`: versions of sagas, what differs, how live sagas would fare, asking for one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.client import Api, segment
from orchestrator.cli.options import DryRun, Json, Reason, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, Output

app = typer.Typer(
    no_args_is_help=True, epilog=EXIT_CODES, help="Versions of sagas: list, show, diff, preflight, activate."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The saga's name.")]
Before = Annotated[int, typer.Argument(metavar="FROM", min=1, help="A version.")]
After = Annotated[int, typer.Argument(metavar="TO", min=1, help="Another version.")]


@app.command("list")
def list_definitions(as_json: Json = False) -> None:
    """Lists the installed versions, and which of them take new sagas."""
    out = Output(as_json)
    found = Api().get("/v1/definitions")["items"]
    if as_json:
        out.objects(found)
        return
    rows = [
        (i["name"], f"v{i['version']}", "active" if i["active"] else "", i["activation"], i["hash"][:12]) for i in found
    ]
    out.table(("saga", "version", "new sagas", "by", "hash"), rows)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Shows every version of a saga, how each came to take new sagas, and what waits for somebody to agree."""
    out = Output(as_json)
    found = Api().get(f"/v1/definitions/{segment(name)}")
    out.object(found)
    rows = [
        (f"v{i['version']}", i["state"], str(i["live"]), "here" if i["installed"] else "not here", i["hash"][:12],
         i["build"] or i["deployedBy"])
        for i in found["versions"]
    ]  # fmt: skip
    out.table(("version", "state", "live", "code", "hash", "build"), rows)
    for row in found["history"]:
        by = f"saga {row['sagaId']}" if row["sagaId"] else "what ran when it came under approval"
        out.line(f"{row['at'][:19]} UTC: v{row['version']} instead of v{row['replaces']}: {by}")
    if found["request"] is not None:
        out.line(f"waits for somebody to agree: saga {found['request']['sagaId']}")


@app.command()
def diff(name: Name, before: Before, after: After, as_json: Json = False) -> None:
    """Says what differs between two versions."""
    out = Output(as_json)
    found = _between("diff", name, before, after)
    out.object(found)
    for line in found["changes"]:
        out.line(line)
    if not found["changes"]:
        out.say("nothing that a saga depends on differs")


@app.command()
def preflight(name: Name, before: Before, after: After, as_json: Json = False) -> None:
    """Walks every live saga of one version through another, and says how they would fare. Nothing is moved."""
    out = Output(as_json)
    found = _between("preflight", name, before, after)
    out.object(found)
    out.line(found["said"])
    for place in found["places"]:
        for line in place["changes"]:
            out.line(f"  {place['verdict']} at {place['node']}: {line}")


@app.command()
def activate(
    name: Name,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The version for new sagas.")],
    reason: Reason = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Asks that a version takes new sagas; somebody else agrees in their inbox, or with `orchestrator task approve`."""
    require_reason(reason)
    out, api = Output(as_json), Api()
    consequence = f"once somebody else agrees, new sagas of {name} run on v{version} in every process"
    if not agreed(out, consequence, yes=yes, dry_run=dry_run):
        return
    answer = api.post(f"/v1/definitions/{segment(name)}/{version}/activation", {"reason": reason})
    out.object(answer)
    out.line(f"asked: saga {answer['sagaId']}; somebody else decides with")
    out.line(f"  orchestrator task show {answer['taskId']}")


def _between(what: str, name: str, before: int, after: int) -> dict[str, Any]:
    return Api().get(f"/v1/definitions/{segment(name)}/{what}", **{"from": before, "to": after})

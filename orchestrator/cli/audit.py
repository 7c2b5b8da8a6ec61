"""`orchestrator audit ...` and `orchestrator sla ...`: the audit trail, and service levels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
import typer

from orchestrator.cli.client import CONNECT_SECONDS_MAX, Api
from orchestrator.cli.options import Json, Limit
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="The audit trail: search, export.")
sla = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Service levels: report.")

EXPORT_SECONDS_MAX = 600.0  # between two parts of a file

Saga = Annotated[str | None, typer.Option("--saga", help="Only of the saga with this id.")]
Key = Annotated[str | None, typer.Option("--key", help="Only of sagas with this business key.")]
By = Annotated[str | None, typer.Option("--by", help="Only by this actor, as records name it: person:maria.")]
Customer = Annotated[str | None, typer.Option("--customer", help="Only of this customer's sagas.")]
Action = Annotated[str | None, typer.Option("--action", help="Only this type of record; `task.` for all of tasks.")]
Outcome = Annotated[str | None, typer.Option("--outcome", help="Only with this outcome.")]
Since = Annotated[str | None, typer.Option("--since", help="Not before this instant, as 2026-01-31T12:00:00Z.")]
Until = Annotated[str | None, typer.Option("--until", help="Before this instant.")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="As it stood at this instant.")]


@app.command()
def search(
    saga: Saga = None,
    key: Key = None,
    by: By = None,
    customer: Customer = None,
    action: Action = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    as_of: AsOf = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists records, newest first."""
    out = Output(as_json)
    found = Api().pages(
        "/v1/audit", limit, saga=saga, key=key, by=by, customer=customer, action=action, outcome=outcome, since=since,
        until=until, as_of=as_of,
    )  # fmt: skip
    if as_json:
        out.objects(found)
        return
    rows = [
        (i["at"][:19], f"{i['sagaName']} {i['businessKey']}", str(i["record"]), i["type"], i["activity"], i["actor"],
         i["outcome"])
        for i in found
    ]  # fmt: skip
    out.table(("at (UTC)", "saga", "record", "type", "where", "by", "outcome"), rows)
    if not rows:
        out.say("no records")


@app.command()
def export(
    to: Annotated[Path | None, typer.Option("--to", help="The file to write; default: standard output.")] = None,
    format_: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="csv or jsonl.")] = "csv",
    saga: Saga = None,
    key: Key = None,
    by: By = None,
    customer: Customer = None,
    action: Action = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    as_of: AsOf = None,
) -> None:
    """Writes the audit trail to a file; its last line is a manifest with count, checksum and reach."""
    given = {
        "saga": saga, "key": key, "by": by, "customer": customer, "action": action, "outcome": outcome, "since": since,
        "until": until, "as_of": as_of, "format": format_,
    }  # fmt: skip
    api = Api()
    if to is None:
        _stream(api, given, sys.stdout.buffer)
        return
    try:
        with to.open("xb") as file:
            _stream(api, given, file)
    except FileExistsError as error:
        raise CliError(ExitCode.CONFLICT, f"{to} is there already", "choose another name, or remove it") from error
    except CliError:
        to.unlink(missing_ok=True)
        raise
    Output(False).say(f"written: {to}")


def _stream(api: Api, given: dict[str, str | None], file: Any) -> None:
    wanted = {name: value for name, value in given.items() if value is not None}
    times = httpx2.Timeout(EXPORT_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
    tail = b""
    try:
        with (
            httpx2.Client(base_url=api.url, timeout=times, trust_env=False) as client,
            client.stream("GET", "/v1/audit/export", params=wanted, headers=api.headers) as answer,
        ):
            if not answer.is_success:
                answer.read()
                raise api.problem(answer)
            for part in answer.iter_bytes():
                file.write(part)
                tail = (tail + part)[-4_000:]
    except httpx2.HTTPError as error:
        raise CliError(
            ExitCode.UNREACHABLE, f"{api.url}: {type(error).__name__}: {error}", "what was written is not whole"
        ) from error
    if b"manifest" not in tail:
        raise CliError(ExitCode.FAILED, "the export ended without its manifest: it is not whole", "do it again")


@sla.command()
def report(
    hours: Annotated[int, typer.Option("--hours", min=1, max=9_600, help="The window, which ends now.")] = 720,
    name: Annotated[str | None, typer.Option("--saga", help="Only this definition.")] = None,
    as_json: Json = False,
) -> None:
    """Shows the service levels with the numbers behind them; exit code 6 where one misses its target."""
    out = Output(as_json)
    found = Api().get("/v1/service-levels", hours=hours, name=name)
    out.object(found)
    if not as_json:
        rows = [
            (i["label"], _value(i), f"{i['part']} of {i['whole']}" if i["unit"] == "rate" else f"of {i['whole']}",
             _target(i), {True: "yes", False: "NO", None: ""}[i["good"]])
            for i in found["levels"]
        ]  # fmt: skip
        out.table(("level", "value", "numbers", "target", "met"), rows)
        complete = found["complete"]
        out.say(f"complete up to position {complete['position']} of {complete['head']}")
    if any(level["good"] is False for level in found["levels"]):
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


def _value(level: dict[str, Any]) -> str:
    if level["value"] is None:
        return "-"
    return f"{level['value']:.2%}" if level["unit"] == "rate" else f"{level['value']:.3f} s"


def _target(level: dict[str, Any]) -> str:
    if level["target"] is None:
        return ""
    return f"{'>=' if level['atLeast'] else '<='} {level['target']:.0%}"

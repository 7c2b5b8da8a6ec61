"""`orchestrator emit`: publish a domain event, from a file, from stdin, or as an example made of its contract."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from orchestrator.cli.client import Api, segment
from orchestrator.cli.options import DryRun, Json
from orchestrator.cli.output import CliError, ExitCode, Output, print_json
from orchestrator.cli.sagas import read_json

SOURCE = "/cli"


def emit(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Wire name or class name, e.g. TransferRequested.")],
    data: Annotated[str, typer.Option("--data", help="The event: JSON, @file, or - for stdin.")] = "",
    example: Annotated[
        bool, typer.Option("--example", help="Make an example from the contract and send that.")
    ] = False,
    event_id: Annotated[str, typer.Option("--id", help="Its id; the same id twice is one event. Default: new.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Publishes one domain event to the broker; the sagas that want it take it from there."""
    out, api = Output(as_json), Api()
    if bool(data) == example:
        raise CliError(ExitCode.USAGE, "an event needs its data", "add --data JSON|@file|-, or --example")
    contract = api.get(f"/v1/contracts/{segment(event)}")
    body: Any = contract["example"] if example else read_json(data)
    if not isinstance(body, dict):
        raise CliError(
            ExitCode.USAGE, "an event is a JSON object", "look at one: orchestrator emit ... --example --dry-run"
        )
    if dry_run:
        out.say(f"dry run: {contract['type']} was not sent")
        print_json(body)
        return
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id or str(uuid.uuid4()),
        "ce-source": SOURCE,
        "ce-type": contract["type"],
        "content-type": "application/json",
    }
    answer = api.post("/v1/events", body, headers)
    out.object({**answer, "data": body})
    out.line(f"{answer['type']} {answer['id']} → {answer['topic']}, key {answer['key']}")

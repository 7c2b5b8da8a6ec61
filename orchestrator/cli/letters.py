"""`orchestrator letter ...`: messages that nobody could process, and sending them again."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.client import Api
from orchestrator.cli.options import DryRun, Json, Limit, Reason, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, Output

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Dead letters: list, show, redrive.")

LetterId = Annotated[int, typer.Argument(metavar="LETTER", min=1, help="Number, as `letter list` prints it.")]


@app.command("list")
def list_letters(
    reason: Annotated[str | None, typer.Option(help="Only letters with this reason.")] = None,
    redriven: Annotated[bool, typer.Option("--redriven", help="Those that were sent again already.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists dead letters, newest first."""
    out = Output(as_json)
    found = Api().pages("/v1/letters", limit, reason=reason, redriven="true" if redriven else "false")
    if as_json:
        out.objects(found)
        return
    rows = [
        (str(i["id"]), i["receivedAt"][:19], f"{i['topic']}[{i['partition']}] {i['offset']}", i["reason"], i["detail"])
        for i in found
    ]
    out.table(("letter", "at (UTC)", "from", "reason", "detail"), rows)
    if not rows:
        out.say("no dead letters")


@app.command()
def show(letter_id: LetterId, as_json: Json = False) -> None:
    """Shows a dead letter: why it is one, its headers and bytes."""
    out = Output(as_json)
    letter = Api().get(f"/v1/letters/{letter_id}")
    out.object(letter)
    out.line(f"letter {letter['id']}: {letter['reason']}: {letter['detail']}", "bold")
    out.line(f"from {letter['topic']}[{letter['partition']}] offset {letter['offset']} key {letter['key']}")
    for name, value in letter["headers"]:
        out.line(f"  {name}: {value}")
    out.line(letter["text"] if letter["text"] is not None else f"hex {letter['valueHex']}")


@app.command()
def redrive(
    letter_id: LetterId, reason: Reason = "", yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Sends a dead letter again under its own id; it passes the same checks as any other message."""
    require_reason(reason)
    out, api = Output(as_json), Api()
    letter = api.get(f"/v1/letters/{letter_id}")
    if not agreed(out, f"letter {letter_id} ({letter['reason']}) is processed again", yes=yes, dry_run=dry_run):
        return
    answer = api.post(f"/v1/letters/{letter_id}/redrive", {"reason": reason})
    out.object(answer)
    out.line(f"letter {letter_id}: {answer['fate']}")

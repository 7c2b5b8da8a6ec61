"""`orchestrator notice ...`: what was sent to whom and what was not, and the address book."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.client import Api
from orchestrator.cli.options import DryRun, Json, Limit, Reason, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, Output

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Notices: list, show, retry, contacts, contact.")

NoticeId = Annotated[int, typer.Argument(metavar="NOTICE", min=1, help="Number, as `notice list` prints it.")]
State = Annotated[str | None, typer.Option(help="waiting, sent, skipped or failed.")]


@app.command("list")
def list_notices(
    state: State = None,
    who: Annotated[str | None, typer.Option(help="Only to person:<id> or role:<name>.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists notices, newest first."""
    out = Output(as_json)
    found = Api().pages("/v1/notices", limit, state=state, who=who)
    if as_json:
        out.objects(found)
        return
    rows = [
        (str(i["id"]), i["plannedAt"][:19], i["kind"], i["title"], i["who"], i["channel"], i["state"], i["reason"])
        for i in found
    ]
    out.table(("notice", "at (UTC)", "kind", "task", "who", "channel", "state", "reason"), rows)
    if not rows:
        out.say("no notices")


@app.command()
def show(notice_id: NoticeId, as_json: Json = False) -> None:
    """Shows a notice: to whom, about which task, and what became of it."""
    out = Output(as_json)
    notice = Api().get(f"/v1/notices/{notice_id}")
    out.object(notice)
    out.line(f"notice {notice['id']}: {notice['kind']}: {notice['title']}", "bold")
    out.line(f"to {notice['who']} by {notice['channel']} {notice['address']}")
    out.line(f"{notice['state']}{': ' + notice['reason'] if notice['reason'] else ''}; attempts {notice['attempts']}")
    out.line(f"task {notice['task']}")


@app.command()
def retry(
    notice_id: NoticeId, reason: Reason = "", yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Sends a failed notice again, under its own id: whoever got it after all takes it once."""
    require_reason(reason)
    out, api = Output(as_json), Api()
    notice = api.get(f"/v1/notices/{notice_id}")
    if not agreed(out, f"notice {notice_id} goes to {notice['who']} again", yes=yes, dry_run=dry_run):
        return
    answer = api.post(f"/v1/notices/{notice_id}/retry", {"reason": reason})
    out.object(answer)
    out.line(f"notice {notice_id}: {answer['state']}")


@app.command()
def contacts(limit: Limit = 50, as_json: Json = False) -> None:
    """Lists the address book."""
    out = Output(as_json)
    found = Api().pages("/v1/notice-contacts", limit)
    if as_json:
        out.objects(found)
        return
    rows = [(i["who"], i["channel"], i["address"], i["delivery"], _quiet(i), i["zone"], i["language"]) for i in found]
    out.table(("who", "channel", "address", "delivery", "quiet", "zone", "language"), rows)
    if not rows:
        out.say("the address book is empty")


@app.command()
def contact(
    who: Annotated[str, typer.Argument(metavar="WHO", help="person:<id> or role:<name>.")],
    address: Annotated[str, typer.Argument(help="A mail address, or the URL of a webhook.")] = "",
    channel: Annotated[str, typer.Option(help="mail or webhook.")] = "mail",
    delivery: Annotated[str, typer.Option(help="at_once, digest or escalations.")] = "at_once",
    zone: Annotated[str, typer.Option(help="Time zone, for example Asia/Kolkata.")] = "UTC",
    language: Annotated[str, typer.Option(help="For example en-IN.")] = "en",
    quiet: Annotated[str, typer.Option(help="Quiet hours, for example 20:00-07:00.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the entry.")] = False,
    as_json: Json = False,
) -> None:
    """Writes an entry of the address book, or removes it."""
    out, api = Output(as_json), Api()
    if remove:
        answer = api.post("/v1/notice-contacts/remove", {"who": who, "channel": channel})
        out.object(answer)
        out.line(f"{who}: {channel} removed")
        return
    begins, _, ends = quiet.partition("-")
    body: dict[str, Any] = {
        "who": who, "address": address, "channel": channel, "delivery": delivery, "zone": zone, "language": language,
    }  # fmt: skip
    if quiet:
        body |= {"quietFrom": begins, "quietTo": ends}
    answer = api.post("/v1/notice-contacts", body)
    out.object(answer)
    out.line(f"{answer['who']}: {answer['channel']} {answer['address'] or 'as everybody'}, {answer['delivery']}")


def _quiet(item: dict[str, Any]) -> str:
    return "" if item["quietFrom"] == item["quietTo"] else f"{item['quietFrom']}-{item['quietTo']}"

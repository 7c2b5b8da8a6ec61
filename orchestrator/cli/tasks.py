"""`orchestrator task ...`: what people are asked to decide. Nobody approves unseen: a decision names what was shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from orchestrator.cli import desk
from orchestrator.cli.client import Api, segment
from orchestrator.cli.options import DryRun, Json, Limit, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output
from orchestrator.cli.sagas import read_json

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES, help="Tasks: list, show, decide, work on.")
desk.add_to(app)

HASH_CHARACTERS_MIN = 12  # of the printed hash that must be given back

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Task id, as `task list` prints it.")]
Confirm = Annotated[
    str, typer.Option("--confirm", help="The hash that `task show` printed: you decide on what you saw.")
]
Form = Annotated[str, typer.Option("--form", help="Further fields of the form: JSON, @file, or - for stdin.")]
Outcome = Annotated[str, typer.Option("--outcome", help="The outcome, where the form has others than approve/reject.")]
As = Annotated[str, typer.Option("--as", help="Who decides; default ORCHESTRATOR_ACTOR, else your login.")]
Roles = Annotated[
    str | None, typer.Option("--roles", help="Their roles, comma-separated; default ORCHESTRATOR_ACTOR_ROLES.")
]
For = Annotated[
    str, typer.Option("--for", help="By whose right, where you stand in for somebody; `task show` lists them.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it becomes part of the record.")]


@app.command("list")
def list_tasks(
    state: Annotated[str, typer.Option(help="open, decided, expired, withdrawn or all.")] = "open",
    saga: Annotated[str | None, typer.Option(help="Only tasks of this saga (id or business key).")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those that you may decide.")] = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists tasks, the one due first first."""
    out = Output(as_json)
    found = Api().pages("/v1/tasks", limit, state=state, saga=saga, mine="true" if mine else None)
    if as_json:
        out.objects(found)
        return
    rows = [
        (
            task["id"],
            (task["due"] or "-")[:19],
            f"{task['sagaName']} {task['businessKey']}",
            task["activity"],
            people(task["to"]),
            f"{len(task['votes'])} of {task['votesNeeded']}",
            task["state"],
        )
        for task in found
    ]
    out.table(("task", "due (UTC)", "saga", "what", "asked of", "votes", "state"), rows)
    if not rows:
        out.say("no task matches")


@app.command()
def show(task_id: TaskId, as_json: Json = False) -> None:
    """Shows what is to be decided, who may decide, and the hash that a decision must confirm."""
    out = Output(as_json)
    task = Api().get(f"/v1/tasks/{segment(task_id)}")
    out.object(task)
    out.line(f"{task['activity']} of {task['sagaName']} {task['businessKey']}: {task['state']}", "bold")
    if task["help"]:
        out.line(task["help"])
    for name, value in task["shown"].items() if isinstance(task["shown"], dict) else [("subject", task["shown"])]:
        out.line(f"  {name:<24} {value}")
    out.line(f"asked of {people(task['to'])}; excluded: {', '.join(task['excluded']) or 'nobody'}; due {task['due']}")
    for vote in task["votes"]:
        for_ = f" for {vote['on_behalf_of']}" if vote.get("on_behalf_of") else ""
        out.line(f"  vote: {vote.get('outcome')} by {vote.get('by')}{for_}  {vote.get('reason', '')}")
    for line in facts(task):
        out.line(f"  {line}")
    out.line(f"outcomes: {', '.join(task['outcomes'])}")
    out.line(f"to decide, confirm what you saw:  --confirm {task['subjectHash'][:HASH_CHARACTERS_MIN]}")


@app.command()
def approve(
    task_id: TaskId,
    confirm: Confirm = "",
    reason: Reason = "",
    form: Form = "",
    outcome: Outcome = "approve",
    as_: As = "",
    roles: Roles = None,
    for_: For = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Approves a task that you have seen."""
    require_reason(reason)
    decision = Decision(outcome, confirm, reason, form, for_)
    _decide(task_id, decision, Api(actor=as_, roles=roles), yes, dry_run, Output(as_json))


@app.command()
def reject(
    task_id: TaskId,
    confirm: Confirm = "",
    reason: Reason = "",
    form: Form = "",
    outcome: Outcome = "reject",
    as_: As = "",
    roles: Roles = None,
    for_: For = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Rejects a task that you have seen."""
    require_reason(reason)
    decision = Decision(outcome, confirm, reason, form, for_)
    _decide(task_id, decision, Api(actor=as_, roles=roles), yes, dry_run, Output(as_json))


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody typed. `confirm`: the beginning of the hash of what they saw. `for_`: by whose right."""

    outcome: str
    confirm: str
    reason: str
    form: str
    for_: str


def _decide(task_id: str, decision: Decision, api: Api, yes: bool, dry_run: bool, out: Output) -> None:
    if len(decision.confirm) < HASH_CHARACTERS_MIN:
        raise CliError(
            ExitCode.USAGE,
            f"--confirm needs the hash of what you saw, at least {HASH_CHARACTERS_MIN} characters",
            f"orchestrator task show {task_id}",
        )
    task = api.get(f"/v1/tasks/{segment(task_id)}")
    if not task["subjectHash"].startswith(decision.confirm):
        raise CliError(
            ExitCode.CONFLICT,
            "what is to be decided is not what you saw",
            f"look again: orchestrator task show {task_id}",
            {"code": "subject_changed"},
        )
    outcome, behalf = decision.outcome, f" for {decision.for_}" if decision.for_ else ""
    what = f"{outcome} {task['activity']} of {task['sagaName']} {task['businessKey']} as {api.actor}{behalf}"
    if not agreed(out, what, yes=yes, dry_run=dry_run):
        return
    body: dict[str, Any] = {"outcome": outcome, "reason": decision.reason, "subjectHash": task["subjectHash"]}
    if decision.form:
        body["form"] = read_json(decision.form)
    if decision.for_:
        body["onBehalfOf"] = decision.for_
    answer = api.post(f"/v1/tasks/{segment(task_id)}/decide", body)
    out.object(answer)
    out.line(f"{outcome}: {'decided' if answer['decided'] else 'vote recorded, more are needed'}")


def facts(task: Mapping[str, Any]) -> Iterator[str]:
    """What people and time have added, and what limits there are, a line each."""
    if task["sla"]:
        yield f"time: {task['sla']}" + (f"; {task['position']} approvals" if task["position"] else "")
    if task["authority"]:
        yield f"authority: {task['authority']}"
    if task["claimedBy"]:
        yield f"claimed by {task['claimedBy']} at {task['claimedAt']}"
    for one in task["delegated"]:
        yield f"{one['to']} may decide for {one['by']} until {one['until']}"
    for level in task["escalations"]:
        yield f"level {level['level']}: {people(level['to'])} {'asked at' if level['done'] else 'from'} {level['at']}"
    for one in task["comments"]:
        yield f"comment {one['id']} by {one['by']}: {one['text']}" + (" (rewritten)" if one["edits"] else "")
    for one in task["attachments"]:
        yield f"link: {one['title']} {one['url']}"
    if task["state"] == "open" and task["why"]:
        yield f"you {'may' if task['mayDecide'] else 'may not'} decide: {task['why']}"
    if len(task["mayDecideFor"]) > 1:
        yield f"by whose right (--for): {', '.join(task['mayDecideFor'])}"


def people(to: list[Mapping[str, str]]) -> str:
    """Who is asked, in words."""
    return ", ".join(f"role {who['role']}" if "role" in who else who.get("person", "?") for who in to) or "nobody"

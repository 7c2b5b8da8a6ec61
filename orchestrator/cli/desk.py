"""`orchestrator task claim|release|delegate|reassign|comment|attach|draft`: work on a task beside deciding it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.client import Api, segment
from orchestrator.cli.options import DryRun, Json, Yes, agreed, require_reason
from orchestrator.cli.output import CliError, ExitCode, Output
from orchestrator.cli.sagas import read_json

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Task id, as `task list` prints it.")]
As = Annotated[str, typer.Option("--as", help="Who acts; default ORCHESTRATOR_ACTOR, else your login.")]
Roles = Annotated[
    str | None, typer.Option("--roles", help="Their roles, comma-separated; default ORCHESTRATOR_ACTOR_ROLES.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it becomes part of the record.")]


def add_to(app: typer.Typer) -> None:
    """Adds these verbs to `orchestrator task`."""
    for verb in (claim, release, delegate, reassign, comment, attach, draft):
        app.command()(verb)


def claim(task_id: TaskId, as_: As = "", roles: Roles = None, as_json: Json = False) -> None:
    """Says that you work on a task. It keeps nobody else from deciding."""
    task = _post(task_id, "claim", {}, Api(actor=as_, roles=roles), Output(as_json))
    Output(as_json).line(f"claimed by {task['claimedBy']}")


def release(task_id: TaskId, reason: Reason = "", as_: As = "", roles: Roles = None, as_json: Json = False) -> None:
    """Ends your claim, or as an operator anybody's."""
    _post(task_id, "release", {"reason": reason}, Api(actor=as_, roles=roles), Output(as_json))
    Output(as_json).line("released")


def delegate(
    task_id: TaskId,
    to: Annotated[str, typer.Option("--to", help='The substitute; "" takes it back.')],
    until: Annotated[
        str | None, typer.Option(help="When that ends, for example 2026-01-31T17:00:00Z; else with the task.")
    ] = None,
    reason: Reason = "",
    as_: As = "",
    roles: Roles = None,
    as_json: Json = False,
) -> None:
    """Lets somebody decide this task for you. They gain no right that you have not."""
    body = {"to": to, "reason": reason} | ({"until": until} if until else {})
    _post(task_id, "delegate", body, Api(actor=as_, roles=roles), Output(as_json))
    Output(as_json).line(f"{to} may decide it for you" if to else "nobody decides it for you")


def reassign(
    task_id: TaskId,
    to: Annotated[list[str], typer.Option("--to", help="A person, or role:manager; may be given several times.")],
    reason: Reason = "",
    as_: As = "",
    roles: Roles = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """As an operator: asks other people instead. You may not decide the task then."""
    require_reason(reason)
    api, out = Api(actor=as_, roles=roles), Output(as_json)
    if agreed(out, f"ask {', '.join(to)} to decide {task_id} instead, as {api.actor}", yes=yes, dry_run=dry_run):
        _post(task_id, "reassign", {"to": to, "reason": reason}, api, out)
        out.line(f"asked of {', '.join(to)}")


def comment(
    task_id: TaskId,
    text: Annotated[str, typer.Argument(help="What you have to say.")],
    replaces: Annotated[int | None, typer.Option(help="The number of a comment of yours that this rewrites.")] = None,
    as_: As = "",
    roles: Roles = None,
    as_json: Json = False,
) -> None:
    """Says something about a task, or rewrites what you said; what it said before stays in its history."""
    body = {"text": text} | ({"replaces": replaces} if replaces else {})
    task = _post(task_id, "comments", body, Api(actor=as_, roles=roles), Output(as_json))
    for said in task["comments"]:
        Output(as_json).line(f"{said['id']:>5}  {said['by']}: {said['text']}")


def attach(
    task_id: TaskId,
    url: Annotated[str, typer.Argument(help="A link, https only.")],
    title: Annotated[str, typer.Option("--title", help="What it leads to.")],
    as_: As = "",
    roles: Roles = None,
    as_json: Json = False,
) -> None:
    """Attaches a link to a task."""
    task = _post(task_id, "attachments", {"url": url, "title": title}, Api(actor=as_, roles=roles), Output(as_json))
    for link in task["attachments"]:
        Output(as_json).line(f"{link['title']}  {link['url']}")


def draft(
    task_id: TaskId,
    form: Annotated[str, typer.Option("--form", help="Fields to keep: JSON, @file, or - for stdin; {} drops it.")] = "",
    as_: As = "",
    roles: Roles = None,
    as_json: Json = False,
) -> None:
    """Keeps a form that you have not sent yet, or shows what you kept. Nobody else sees it."""
    api, out = Api(actor=as_, roles=roles), Output(as_json)
    path = f"/v1/tasks/{segment(task_id)}/draft"
    if form:
        values = read_json(form)
        if not isinstance(values, dict):
            raise CliError(ExitCode.USAGE, "--form needs a JSON object", 'for example --form \'{"reason": "known"}\'')
        api.put(path, {"form": values})
        out.line("kept" if values else "dropped")
        return
    answer = api.get(path)
    out.object(answer)
    kept = answer["draft"]
    out.line(f"kept at {kept['savedAt']}: {kept['form']}" if kept else "nothing is kept")


def _post(task_id: str, verb: str, body: dict[str, Any], api: Api, out: Output) -> Any:
    task = api.post(f"/v1/tasks/{segment(task_id)}/{verb}", body)
    out.object(task)
    return task

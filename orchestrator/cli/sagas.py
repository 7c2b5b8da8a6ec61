"""`orchestrator saga ...`: look at sagas, and move one that only a person can move."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.client import Api, segment
from orchestrator.cli.options import DryRun, Json, Limit, Reason, SagaRef, Yes, agreed, require_reason
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output
from orchestrator.wording import in_words

app = typer.Typer(
    no_args_is_help=True, epilog=EXIT_CODES, help="Sagas: list, show, timeline, undo-plan, and the acts of operators."
)

Place = Annotated[
    str, typer.Option("--place", help="The stuck place, as `saga show` names it; may be left out if one.")
]
Version = Annotated[
    int, typer.Option("--version", min=0, help="Record of the stuck place that you saw; another one is a conflict.")
]
Data = Annotated[str, typer.Option("--data", help="JSON, @file or - for stdin.")]


@app.command("list")
def list_sagas(
    name: Annotated[str | None, typer.Option(help="Only sagas of this definition.")] = None,
    phase: Annotated[str | None, typer.Option(help="forward, compensating, completed or compensated.")] = None,
    business_key: Annotated[str | None, typer.Option(help="Only this business key.")] = None,
    waiting_for: Annotated[str | None, typer.Option(help="Only sagas that wait for this.")] = None,
    stuck: Annotated[bool | None, typer.Option("--stuck/--not-stuck", help="Only (not) stuck ones.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Lists sagas, newest first."""
    out = Output(as_json)
    found = Api().pages(
        "/v1/sagas", limit, name=name, phase=phase, businessKey=business_key, waitingFor=waiting_for, stuck=stuck
    )
    if as_json:
        out.objects(found)
        return
    rows = [
        (s["sagaId"], f"{s['name']} v{s['version']}", s["businessKey"], words(s), s["updatedAt"][:19]) for s in found
    ]
    out.table(("id", "saga", "key", "state", "last record (UTC)"), rows)
    if not rows:
        out.say("no saga matches")


@app.command()
def show(reference: SagaRef, as_json: Json = False) -> None:
    """Shows one saga: state, steps, stuck places, and what an undo would do now."""
    out = Output(as_json)
    detail = Api().get(f"/v1/sagas/{segment(reference)}")
    out.object(detail)
    saga = detail["saga"]
    out.line(f"{saga['name']} v{saga['version']}  {saga['businessKey']}  {detail['state']}", "bold")
    out.line(f"id {saga['sagaId']}   record {saga['record']}   trace {saga['traceId'] or '-'}")
    marks = {"succeeded": "✓", "open": "●", "requested": "●", "backoff": "…", "refused": "✗", "unknown": "?"}
    for item in detail["activities"]:
        undo = f"   undo {item['undo']}" if item["undo"] else ""
        tries = f"   attempt {item['attempt']}" if item["attempt"] > 1 else ""
        due = f"   due {item['due'][:19]}" if item["due"] and not item["settled"] else ""
        mark = marks.get(item["status"], "·")
        out.line(f"  {mark} {item['activity']:<40} {item['kind']:<8} {item['status']}{tries}{due}{undo}")
    for place in detail["stuckPlaces"]:
        out.line(f"  ! stuck at {place['place']} (record {place['version']}): {place['reason']}", "yellow")
    for place in detail["handedPlaces"]:
        out.line(f"  ! {place['place']} (record {place['version']}): {place['reason']}", "yellow")
    if detail["undoPlan"]:
        out.line(f"  undo plan now: {', '.join(detail['undoPlan'])}")


@app.command()
def timeline(reference: SagaRef, as_json: Json = False) -> None:
    """Prints the saga's records in order: what happened, when, by whom."""
    out = Output(as_json)
    records = Api().get(f"/v1/sagas/{segment(reference)}/records")["items"]
    if as_json:
        out.objects(records)
        return
    rows = [
        (str(r["version"]), r["recordedAt"][:23], r["type"], r["activity"], r["actor"], in_words(r["type"], r["data"]))
        for r in records
    ]
    out.table(("#", "at (UTC)", "record", "where", "by", "what"), rows)


@app.command("undo-plan")
def undo_plan(reference: SagaRef, as_json: Json = False) -> None:
    """Says what a turn back would undo now, in order."""
    out = Output(as_json)
    plan = Api().get(f"/v1/sagas/{segment(reference)}/undo-plan")
    out.object(plan)
    for number, item in enumerate(plan["items"], 1):
        out.line(f"{number:3}. {item['activity']}  →  {item['command']}")
    if not plan["items"]:
        out.line("nothing to undo")
    if plan["pivot"] == "passed":
        out.line("the point of no return is passed: this saga only goes forward", "yellow")


@app.command()
def cancel(
    reference: SagaRef, reason: Reason = "", yes: Yes = False, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Asks a saga to turn back and undo what was done."""
    require_reason(reason)
    out, api = Output(as_json), Api()
    plan = api.get(f"/v1/sagas/{segment(reference)}/undo-plan")
    steps = ", then ".join(item["command"] for item in plan["items"]) or "nothing: no step was done"
    if not agreed(out, f"{plan['sagaId']} turns back; undone will be: {steps}", yes=yes, dry_run=dry_run):
        return
    _moved(out, api.post(f"/v1/sagas/{segment(plan['sagaId'])}/cancel", {"reason": reason}))


@app.command()
def retry(
    reference: SagaRef,
    reason: Reason = "",
    place: Place = "",
    version: Version = 0,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Tries a stuck place again."""
    _act("retry", "is tried again", reference, reason, place, version, yes, dry_run, as_json)


@app.command("take-over")
def take_over(
    reference: SagaRef,
    reason: Reason = "",
    place: Place = "",
    version: Version = 0,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Takes a stuck undo into your own hands: its command is fenced, then you act outside and say `complete`."""
    _act("take-over", "is yours to undo by hand", reference, reason, place, version, yes, dry_run, as_json)


@app.command("give-back")
def give_back(
    reference: SagaRef,
    reason: Reason = "",
    place: Place = "",
    version: Version = 0,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Gives an undo that you took over back to the saga."""
    _act("give-back", "goes back into the plan", reference, reason, place, version, yes, dry_run, as_json)


@app.command()
def skip(
    reference: SagaRef,
    reason: Reason = "",
    place: Place = "",
    version: Version = 0,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Leaves an undo out: its effect stays, on your word."""
    _act("skip", "is left as it is: its effect STAYS", reference, reason, place, version, yes, dry_run, as_json)


@app.command()
def complete(
    reference: SagaRef,
    reason: Reason = "",
    place: Place = "",
    version: Version = 0,
    data: Data = "",
    not_done: Annotated[
        bool, typer.Option("--not-done", help="The step was not done; it goes through a fence.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Records by hand what was done (with its reply or value in --data), or with --not-done that it was not."""
    body = {} if not data else {"data": read_json(data)}
    if not_done:
        _act("not-done", "is recorded as not done", reference, reason, place, version, yes, dry_run, as_json)
    else:
        _act("done", "is recorded as done by hand", reference, reason, place, version, yes, dry_run, as_json, body)


@app.command()
def settle(
    reference: SagaRef,
    outcome: Annotated[str, typer.Option("--outcome", help="done or not_done.")] = "",
    reason: Reason = "",
    place: Place = "",
    version: Version = 0,
    data: Data = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Settles an unknown outcome by evidence. Two people must say the same."""
    if outcome not in ("done", "not_done"):
        raise CliError(ExitCode.USAGE, "the evidence says either done or not_done", "add --outcome done or not_done")
    body: dict[str, Any] = {"outcome": outcome}
    if data:
        body["data"] = read_json(data)
    words_ = f"is settled as {outcome} by evidence; a second person must confirm, and nobody can heal a wrong one"
    _act("settle", words_, reference, reason, place, version, yes, dry_run, as_json, body)


def _act(
    act: str,
    consequence: str,
    reference: str,
    reason: str,
    place: str,
    version: int,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    more: Mapping[str, Any] | None = None,
) -> None:
    """One operator's act: finds the place, says what follows, asks, and posts it with the record that was seen."""
    require_reason(reason)
    out, api = Output(as_json), Api()
    detail = api.get(f"/v1/sagas/{segment(reference)}")
    saga_id = detail["saga"]["sagaId"]
    found = _stuck_place(detail, place, act)
    seen = _answers(found, act)
    if not version and (yes or dry_run):
        version_hint = f"add --version {seen} if that is what you saw"
        raise CliError(ExitCode.USAGE, f"{found['place']}: the record to answer is {seen}", version_hint)
    path = "value" if act == "done" and found["place"][:1] in "+-" else act
    text = f"{saga_id}: {found['place']} (record {seen}: {found['reason']}) {consequence}"
    if not agreed(out, text, yes=yes, dry_run=dry_run):
        return
    body = {"place": found["place"], "version": version or seen, "reason": reason, **(more or {})}
    saga = api.post(f"/v1/sagas/{segment(saga_id)}/{path}", body)
    _moved(out, saga)
    if not as_json and _waits_for_another(api, saga_id, found["place"], path):
        out.line(f"{found['place']}: proposed; another person must do the same before it counts")


def _waits_for_another(api: Api, saga_id: str, place: str, act: str) -> bool:
    """True where the act was only proposed: it needs a second person."""
    detail = api.get(f"/v1/sagas/{segment(saga_id)}")
    places = [*detail["stuckPlaces"], *detail["handedPlaces"]]
    return any(item["place"] == place and (item.get("proposal") or {}).get("act") == act for item in places)


def _answers(found: Mapping[str, Any], act: str) -> int:
    """The record that an act on this place answers: the stuck one; for a second person, what the first proposed."""
    proposal = found.get("proposal") or {"act": ""}
    same = proposal["act"] in ((act, "value") if act == "done" else (act,))
    return int((proposal if same else found)["version"])


def _stuck_place(detail: Mapping[str, Any], place: str, act: str) -> dict[str, Any]:
    """The place that an act means: the named one, or the only one. Undos in somebody's hands count where they may."""
    places: list[dict[str, Any]] = list(detail["stuckPlaces"])
    if act in ("give-back", "done", "skip"):
        places += detail["handedPlaces"]
    chosen = [item for item in places if item["place"] == place] if place else places
    if len(chosen) == 1:
        return chosen[0]
    if not places:
        raise CliError(ExitCode.CONFLICT, "nothing is stuck here", "look again: orchestrator saga show ID")
    names = ", ".join(item["place"] for item in places)
    raise CliError(ExitCode.USAGE, f"stuck here: {names}", "name one of them with --place")


def _moved(out: Output, saga: Mapping[str, Any]) -> None:
    out.object(saga)
    out.line(f"{saga['name']} {saga['businessKey']}: {words(saga)}, record {saga['record']}")


def words(saga: Mapping[str, Any]) -> str:
    """The state of a saga in a few words."""
    if saga["stuck"]:
        return f"STUCK at {saga['stuck']} place{'s' if saga['stuck'] > 1 else ''}"
    if saga["phase"] == "forward" and saga["waitingFor"]:
        return f"waiting for {saga['waitingFor']}"
    if saga["phase"] in ("completed", "compensated") and saga["outcome"] not in ("", saga["phase"]):
        return f"{saga['phase']}: {saga['outcome']}"
    return str(saga["phase"])


def read_json(text: str) -> Any:
    """The JSON that an option names: itself, @file, or - for stdin. Raises CliError saying what is wrong."""
    try:
        if text == "-":
            return json.loads(sys.stdin.read())
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except OSError as error:
        raise CliError(ExitCode.USAGE, f"cannot read {text[1:]}: {error.strerror}", "check the path after @") from error
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"--data is not JSON: {error}", "give JSON, @file, or - for stdin") from error

"""Read models over HTTP and from the command line: what is asked, who may, and what is said."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import run
from orchestrator.cli.output import ExitCode
from projections.audit_queries import csv_line, safe_cell
from tests.projections.conftest import Told

pytestmark = pytest.mark.asyncio(loop_scope="module")

Cli = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def cli(told: Told, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Runs one command line, beside the product's event loop."""
    monkeypatch.setenv("ORCHESTRATOR_API_URL", told.url)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", told.runtime.database_url)
    monkeypatch.setenv("ORCHESTRATOR_ACTOR", "op")
    monkeypatch.setenv("ORCHESTRATOR_SAGAS", "tests.projections.listed")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    async def called(*arguments: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = await asyncio.to_thread(run, arguments)
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return code, captured.out.decode(), captured.err.decode()

    return called


async def got(told: Told, path: str, roles: str = "", actor: str = "ada", status: int = 200, **params: Any) -> Any:
    """The JSON at a path, as somebody with these roles."""
    headers = {"X-Actor": actor, "X-Actor-Roles": roles}
    answer = await told.client.get(path, params=params, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_the_audit_trail_is_for_auditors(told: Told) -> None:
    """Each route with the capacities that it takes, and without."""
    for path, allowed, refused in (
        ("/v1/audit", "auditor", "operator"),
        ("/v1/audit/export", "auditor", "viewer"),
        ("/v1/approvals", "approver", "service"),
        ("/v1/approvals/x:y/history", "auditor", "approver"),
        ("/v1/service-levels", "viewer", "admin"),
        ("/v1/journeys", "operator", "approver"),
        ("/v1/projections", "viewer", "approver"),
    ):
        answer = await told.client.get(path, headers={"X-Actor": "ada", "X-Actor-Roles": allowed})
        assert answer.status_code == 200, path
        assert (await got(told, path, refused, status=403))["code"] == "not_allowed", path
        assert (await told.client.get(path)).status_code == 401, path


async def test_a_search_over_http_says_how_far_it_reaches(told: Told) -> None:
    """Filters, a cursor, a count, and a token of what the caller has just done."""
    saga = told.sagas["rejected"]
    page = await got(told, "/v1/audit", "auditor", saga=saga, action="task.", count=True, limit=2)
    assert [item["type"] for item in page["items"]] == ["task.decided", "task.voted"]
    assert page["count"] == {"value": 3, "exact": True}
    assert page["complete"]["position"] <= page["complete"]["head"]
    rest = await got(told, "/v1/audit", "auditor", saga=saga, action="task.", limit=2, cursor=page["next"])
    assert [item["type"] for item in rest["items"]] == ["task.opened"]
    assert rest["next"] == ""
    fresh = await told.start(requester="customer-fresh")
    mine = await got(told, "/v1/audit", "auditor", saga=fresh, action="saga.started", after=f"{fresh}@1")
    assert (mine["caughtUp"], len(mine["items"])) == (True, 1)
    assert (await got(told, "/v1/audit", "auditor", cursor="nonsense", status=400))["code"] == "bad_cursor"
    assert (await got(told, "/v1/audit", "auditor", after="nonsense", status=422))["code"] == "invalid"
    assert (await got(told, "/v1/audit", "auditor", since="2026-01-01T00:00:00", status=400))["code"] == "bad_request"


async def test_an_approver_is_shown_what_concerns_them_whatever_they_ask_for(told: Told) -> None:
    """Somebody else's tasks and votes stay theirs; an auditor sees all."""
    ids = {item["sagaId"] for item in (await got(told, "/v1/approvals", "approver,manager"))["items"]}
    assert told.sagas["open"] in ids
    assert not (await got(told, "/v1/approvals", "approver,clerk"))["items"]
    assert not (await got(told, "/v1/approvals", "approver,clerk", candidate="role:manager"))["items"]
    votes = await got(told, "/v1/approvals/decided", "approver", actor="maria", person="somebody-else")
    assert {vote["person"] for vote in votes["items"]} == {"maria"}
    assert not (await got(told, "/v1/approvals/decided", "approver", person="maria"))["items"]
    assert (await got(told, "/v1/approvals/decided", "auditor", person="maria"))["items"] == votes["items"]


async def test_the_past_of_a_task_is_read_over_http(told: Told) -> None:
    """Its history, and the list as it was before the vote."""
    saga = told.sagas["approved"]
    states = (await got(told, f"/v1/approvals/{saga}:approve/history", "auditor"))["items"]
    assert [state["state"] for state in states][-1] == "decided"
    then = (await got(told, "/v1/approvals", "auditor", as_of=states[0]["since"]))["items"]
    assert saga in {item["sagaId"] for item in then}


async def test_levels_journeys_and_progress_are_read_over_http(told: Told) -> None:
    """Each with its numbers; a customer's page needs the customer, and answers alike for what is not theirs."""
    levels = {level["key"]: level for level in (await got(told, "/v1/service-levels", "viewer"))["levels"]}
    assert levels["adherence"]["part"] / levels["adherence"]["whole"] == levels["adherence"]["value"]
    assert levels["adherence"]["good"] is False
    assert len((await got(told, "/v1/service-levels/success", "viewer", points=5))["points"]) == 5
    await got(told, "/v1/service-levels/nonsense", "viewer", status=404)
    found = await got(told, "/v1/journeys", "viewer", stuck=True, name="payout")
    assert {told.sagas["stuck"], told.sagas["by hand"]} == {item["sagaId"] for item in found["items"]}
    assert (await got(told, "/v1/journeys/risky", "viewer"))["items"]
    assert (await got(told, "/v1/journeys/bottlenecks", "viewer"))["items"]
    assert (await got(told, "/v1/sagas/waits/timeline", "viewer"))["places"][0]["kind"] == "wait"
    mine = await got(told, "/v1/progress/waits", "service", customer="customer-waits")
    assert mine["facts"] == {"Amount": "60"}
    assert "customer-waits" not in json.dumps(mine)
    await got(told, "/v1/progress/waits", "service", customer="somebody", status=404)
    await got(told, "/v1/progress/waits", "service", status=400)


async def test_read_models_are_listed_with_how_far_they_are(told: Told) -> None:
    """Over HTTP and from the command line."""
    items = (await got(told, "/v1/projections", "viewer"))["items"]
    assert [item["name"] for item in items] == ["approvals", "audit", "journeys"]
    assert {item["state"] for item in items} <= {"running", "behind"}


async def test_an_export_is_one_file_that_proves_itself(told: Told, cli: Cli, tmp_path: Path) -> None:
    """From the command line to a file and to standard output; a file that is there is never written over."""
    target = tmp_path / "audit.csv"
    code, _, said = await cli("audit", "export", "--to", str(target), "--action", "task.")
    assert (code, "written" in said) == (ExitCode.DONE, True), said
    *rows, last = csv.reader(io.StringIO(target.read_bytes().decode(), newline=""))
    manifest = json.loads(last[1])
    body = target.read_bytes()[: target.read_bytes().rindex(b"#manifest")]
    assert manifest["sha256"] == hashlib.sha256(body).hexdigest()
    assert manifest["rows"] == len(rows) - 1 > 0
    code, _, said = await cli("audit", "export", "--to", str(target))
    assert (code, "there already" in said) == (ExitCode.CONFLICT, True)
    code, out, _ = await cli("audit", "export", "--format", "jsonl", "--saga", told.sagas["open"])
    assert code == ExitCode.DONE
    assert json.loads(out.splitlines()[-1])["manifest"]["filter"] == {"saga": told.sagas["open"]}
    code, _, said = await cli("audit", "export", "--since", "yesterday")
    assert code == ExitCode.USAGE, said


async def test_the_command_line_searches_and_reports(told: Told, cli: Cli) -> None:
    """A level that misses its target is an exit code of its own."""
    code, out, _ = await cli("audit", "search", "--saga", told.sagas["open"], "--action", "task.opened", "--json")
    assert (code, json.loads(out)["type"]) == (ExitCode.DONE, "task.opened")
    code, out, _ = await cli("sla", "report")
    assert code == ExitCode.FOUND_SOMETHING
    assert "Decided in time" in out
    assert "NO" in out
    code, out, _ = await cli("projection", "list")
    assert code == ExitCode.DONE
    assert "journeys" in out


@pytest.mark.parametrize("name", ["approvals", "journeys"])
async def test_a_read_model_is_built_anew_while_it_is_read(told: Told, cli: Cli, name: str) -> None:
    """From a real story, with the live runner at work: the same rows, then read from the new slot."""
    before = await told.models.timelines.of("main", told.sagas["approved"])
    code, _, said = await cli("projection", "rebuild", name)
    assert (code, "--yes" in said) == (ExitCode.USAGE, True), said
    code, out, said = await cli("projection", "rebuild", name, "--yes", "--json")
    assert code == ExitCode.DONE, (out, said)
    built = json.loads(out)
    assert (built["swapped"], built["same_records"], built["differences"]) == (True, True, [])
    await told.start(requester=f"customer-after-{name}")
    await told.caught_up()
    state = next(state for state in await told.models.states() if state.name == name and state.state != "rebuilding")
    assert state.slot == "b"
    after = await told.models.timelines.of("main", told.sagas["approved"])
    assert before is not None
    assert after is not None
    assert (before.passed, before.started_at) == (after.passed, after.started_at)
    code, out, _ = await cli("projection", "compare", name)
    assert (code, "every row is the same" in out) == (ExitCode.DONE, True), out


async def test_what_is_not_a_read_model_is_said(cli: Cli) -> None:
    """With the names that there are."""
    code, _, said = await cli("projection", "compare", "nonsense")
    assert (code, "approvals, audit, journeys" in said) == (ExitCode.NOT_FOUND, True)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx"])
async def test_no_cell_is_a_formula(cell: str) -> None:
    """What a spreadsheet would carry out begins with an apostrophe; everything else stays as it is."""
    assert safe_cell(cell) == f"'{cell}"
    assert safe_cell(f"x{cell}") == f"x{cell}"
    (row,) = csv.reader(io.StringIO(csv_line([cell, 'a "quoted", cell']).decode(), newline=""))
    assert row == [f"'{cell}", 'a "quoted", cell']

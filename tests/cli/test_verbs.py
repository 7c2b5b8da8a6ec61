"""Every verb against a running product: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_list_is_a_table_or_json_lines(product: Product, cli: Cli) -> None:
    """Data on stdout, one object per line; the table shows ids in full."""
    saga_id = await product.start()
    said = await cli("saga", "list", "--name", "payout", "--waiting-for", "task", "--json")
    assert said.code == 0
    assert saga_id in [line["sagaId"] for line in said.lines]
    said = await cli("saga", "list")
    assert said.code == 0
    assert saga_id in said.out
    said = await cli("saga", "list", "--limit", "1", "--json")
    assert len(said.lines) == 1
    said = await cli("saga", "list", "--name", "nothing")
    assert (said.code, "no saga matches" in said.err) == (0, True)


async def test_a_saga_is_shown_with_its_timeline_and_plan(product: Product, cli: Cli) -> None:
    """State in words, steps, undo plan; records one per line."""
    saga_id = await product.start()
    said = await cli("saga", "show", saga_id)
    assert "waiting for approve, 0 of 1 votes" in said.out
    assert "undo plan now: reserve" in said.out
    assert (await cli("saga", "show", saga_id, "--json")).json["saga"]["sagaId"] == saga_id
    said = await cli("saga", "timeline", saga_id)
    assert "saga.started" in said.out
    assert "person:ada" in said.out
    assert (await cli("saga", "timeline", saga_id, "--json")).lines[0]["type"] == "saga.started"
    said = await cli("saga", "undo-plan", saga_id)
    assert "unreserve: apitest.Unreserve to apitest-desk" in said.out


async def test_a_cancel_says_what_follows_and_does_it(product: Product, cli: Cli) -> None:
    """The consequence on stderr before anything happens; `--dry-run` stops there."""
    saga_id = await product.start()
    said = await cli("saga", "cancel", saga_id, "--reason", "x", "--dry-run", "--json")
    assert (said.code, said.json["dryRun"]) == (0, True)
    assert "unreserve" in said.err
    said = await cli("saga", "cancel", saga_id, "--reason", "not wanted", "--yes", "--json")
    assert (said.code, said.json["phase"]) == (0, "compensating")
    await product.until(saga_id, "compensated")
    assert (await cli("saga", "cancel", saga_id, "--reason", "again", "--yes")).code == 5


async def test_a_stuck_saga_is_retried_completed_and_taken_over(product: Product, cli: Cli) -> None:
    """Each act names the record that was seen; without it there is no `--yes`."""
    saga_id = await product.start("bug")
    await product.until_stuck(saga_id)
    said = await cli("saga", "retry", saga_id, "--reason", "now", "--yes")
    assert (said.code, "--version" in said.err) == (2, True)
    (place,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    said = await cli("saga", "retry", saga_id, "--reason", "now", "--yes", "--version", str(place["version"]))
    assert said.code == 0
    said = await cli("saga", "retry", saga_id, "--reason", "now", "--yes", "--version", str(place["version"]))
    assert said.code == 5
    (place,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    complete = ("saga", "complete", saga_id, "--reason", "by hand", "--yes", "--data", '{"limit": "7"}')
    said = await cli(*complete, "--version", str(place["version"]))
    assert (said.code, "another person must do the same" in said.out) == (0, True), said.err
    (place,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    said = await cli(*complete, "--version", str(place["proposal"]["version"]))
    assert said.code == 4, "nobody confirms what they proposed themselves"
    again = ("--version", str(place["proposal"]["version"]), "--json")
    said = await cli(*complete, *again, ORCHESTRATOR_ACTOR="op2")
    assert (said.code, said.json["stuck"]) == (0, 0), said.err


async def test_an_undo_is_taken_over_given_back_and_skipped(product: Product, cli: Cli) -> None:
    """The way of a refused undo through an operator's hands."""
    saga_id = await product.start("no-undo")
    await cli("saga", "cancel", saga_id, "--reason", "x", "--yes")

    async def act(verb: str, version: int, by: str = "op") -> None:
        words = ("saga", verb, saga_id, "--reason", "I do it", "--yes", "--version", str(version))
        said = await cli(*words, ORCHESTRATOR_ACTOR=by)
        assert said.code == 0, said.err

    async def handed() -> int:
        while True:
            places = (await product.get(f"/v1/sagas/{saga_id}")).json()["handedPlaces"]
            if places and places[0]["cause"] == "handed":
                return int(places[0]["version"])

    await act("take-over", (await product.until_stuck(saga_id))["stuckPlaces"][0]["version"])
    await act("give-back", await handed())
    await act("take-over", (await product.until_stuck(saga_id))["stuckPlaces"][0]["version"])
    await act("skip", await handed())
    (place,) = (await product.get(f"/v1/sagas/{saga_id}")).json()["handedPlaces"]
    await act("skip", place["proposal"]["version"], by="op2")
    await product.until(saga_id, "compensated")


async def test_a_task_is_decided_on_what_was_shown(product: Product, cli: Cli) -> None:
    """`show` prints a hash, a decision gives it back; another hash, or none, decides nothing."""
    saga_id = await product.start()
    (task,) = (await cli("task", "list", "--saga", saga_id, "--json")).lines
    said = await cli("task", "show", task["id"])
    shown = said.out.partition("--confirm ")[2].strip()
    assert task["subjectHash"].startswith(shown)
    decide = ("--reason", "known payee", "--as", "maria", "--roles", "manager", "--yes", "--json")
    assert (await cli("task", "approve", task["id"], *decide)).code == 2
    assert (await cli("task", "approve", task["id"], "--confirm", "0" * 12, *decide)).code == 5
    excluded = ("--reason", "mine", "--as", "ravi", "--roles", "manager", "--yes")
    assert (await cli("task", "approve", task["id"], "--confirm", shown, *excluded)).code == 4
    said = await cli("task", "approve", task["id"], "--confirm", shown, *decide)
    assert (said.code, said.json["decided"]) == (0, True)
    assert (await cli("task", "reject", task["id"], "--confirm", shown, *decide)).code == 5
    assert "no task matches" in (await cli("task", "list", "--saga", saga_id)).err


async def test_a_task_is_rejected(product: Product, cli: Cli) -> None:
    """With its reason in the record."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    said = await cli(
        "task", "reject", task["id"], "--confirm", task["subjectHash"], "--reason", "unknown payee",
        "--as", "maria", "--roles", "manager", "--yes",
    )  # fmt: skip
    assert (said.code, "reject: decided" in said.out) == (0, True)
    assert "unknown payee" in (await cli("saga", "timeline", saga_id, "--json")).out


async def test_an_event_is_emitted_from_text_file_or_example(product: Product, cli: Cli, tmp_path: Path) -> None:
    """And `--dry-run` prints what would be sent, as JSON that can be edited."""
    said = await cli("emit", "PayoutRequested", "--example", "--dry-run")
    data = json.loads(said.out)
    data["payout_id"] = str(uuid.uuid4())
    file = tmp_path / "event.json"
    file.write_text(json.dumps(data))
    said = await cli("emit", "apitest.PayoutRequested", "--data", f"@{file}", "--json")
    assert (said.code, said.json["key"]) == (0, data["payout_id"])
    said = await cli("emit", "PayoutRequested", "--example")
    assert (said.code, "apitest.events" in said.out) == (0, True)


async def test_what_is_wrong_with_an_event_is_said(cli: Cli, tmp_path: Path) -> None:
    """No data, no file, no JSON, no contract, not fitting: usage or not found."""
    assert (await cli("emit", "PayoutRequested")).code == 2
    assert (await cli("emit", "PayoutRequested", "--data", "{nonsense")).code == 2
    assert (await cli("emit", "PayoutRequested", "--data", f"@{tmp_path}/none.json")).code == 2
    assert (await cli("emit", "PayoutRequested", "--data", "[]")).code == 2
    assert (await cli("emit", "Nothing", "--data", "{}")).code == 3
    said = await cli("emit", "PayoutRequested", "--data", "{}", "--json")
    assert (said.code, said.out, json.loads(said.err)["code"]) == (2, "", "invalid")


async def test_control_characters_of_data_never_reach_the_terminal(product: Product, cli: Cli) -> None:
    """An ANSI escape or a direction mark in somebody's data is written out."""
    answer = await product.post(
        "/v1/sagas/payout", {"payout_id": f"\x1b[31m{uuid.uuid4()}\u202e", "requester": "r", "amount": "1"}
    )
    saga_id = answer.json()["sagaId"]
    said = await cli("saga", "show", saga_id)
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    assert "\\u001b[31m" in said.out

"""`orchestrator task claim|release|delegate|reassign|comment|attach|draft` against a running product."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli, Product

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARIA = ("--as", "maria", "--roles", "manager,approver")


async def test_people_work_on_a_task_at_the_keyboard(product: Product, cli: Cli) -> None:
    """Each verb says what it did; `task show` has it all; what may not be ends with its exit code."""
    task = await product.task_of(await product.start())
    said = await cli("task", "claim", task["id"], *MARIA)
    assert (said.code, said.out.strip()) == (0, "claimed by maria")
    assert (await cli("task", "claim", task["id"], "--as", "bert", "--roles", "manager,approver")).code == 5
    assert (await cli("task", "release", task["id"], *MARIA)).code == 0
    said = await cli("task", "comment", task["id"], "looks odd", *MARIA, "--json")
    number = str(said.json["comments"][0]["id"])
    assert "looks fine" in (await cli("task", "comment", task["id"], "looks fine", "--replaces", number, *MARIA)).out
    assert (await cli("task", "attach", task["id"], "http://x.example", "--title", "x", *MARIA)).code == 2
    assert (await cli("task", "attach", task["id"], "https://x.example", "--title", "deed", *MARIA)).code == 0
    assert (await cli("task", "delegate", task["id"], "--to", "eve", *MARIA)).code == 0
    shown = (await cli("task", "show", task["id"])).out
    for text in ("comment", "looks fine (rewritten)", "link: deed https://x.example", "eve may decide for maria until"):
        assert text in shown
    body = ("--to", "ann", "--to", "role:lead", "--reason", "they know it", "--yes")
    assert (await cli("task", "reassign", task["id"], *body, *MARIA)).code == 4
    said = await cli("task", "reassign", task["id"], *body)
    assert (said.code, said.out.strip()) == (0, "asked of ann, role:lead")


async def test_a_substitute_says_at_the_keyboard_by_whose_right(product: Product, cli: Cli) -> None:
    """`task show` lists the rights; one that nobody lent ends with its exit code."""
    task = await product.task_of(await product.start())
    assert (await cli("task", "delegate", task["id"], "--to", "op", *MARIA)).code == 0
    roles = {"ORCHESTRATOR_ACTOR_ROLES": "manager,approver,viewer"}
    assert "by whose right (--for): op, maria" in (await cli("task", "show", task["id"], **roles)).out
    decide = ("task", "approve", task["id"], "--confirm", task["subjectHash"], "--reason", "fine", "--yes")
    assert (await cli(*decide, "--for", "bert", **roles)).code == 4
    assert (await cli(*decide, "--for", "maria", **roles)).code == 0
    assert "by op for maria" in (await cli("task", "show", task["id"])).out


async def test_a_draft_is_kept_shown_and_dropped(product: Product, cli: Cli) -> None:
    """By the person who wrote it."""
    task = await product.task_of(await product.start())
    assert (await cli("task", "draft", task["id"], *MARIA)).out.strip() == "nothing is kept"
    assert (await cli("task", "draft", task["id"], "--form", "[]", *MARIA)).code == 2
    assert (await cli("task", "draft", task["id"], "--form", '{"reason": "known"}', *MARIA)).out.strip() == "kept"
    assert "known" in (await cli("task", "draft", task["id"], *MARIA)).out
    assert (await cli("task", "draft", task["id"], "--form", "{}", *MARIA)).out.strip() == "dropped"

"""The desk over HTTP: claims, substitutes, reassignments, comments, links, drafts, absences."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.api.identity import AUTHENTICATION
from orchestrator.api.views import Actor
from orchestrator.identity.keeping import Kept
from orchestrator.identity.watch import BEAT_SECONDS, to_beat
from tests.api.conftest import Product

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANAGER = "manager,approver"


async def act(
    product: Product, task: dict[str, Any], verb: str, body: Any = None, *, actor: str = "maria", roles: str = MANAGER,
    key: str | None = None,
) -> Any:  # fmt: skip
    """One act on a task."""
    return await product.post(f"/v1/tasks/{task['id']}/{verb}", body, actor=actor, roles=roles, key=key)


async def vote(product: Product, task: dict[str, Any], *, actor: str, roles: str = MANAGER, behalf: str = "") -> Any:
    """An approval."""
    body = {"outcome": "approve", "subjectHash": task["subjectHash"], **({"onBehalfOf": behalf} if behalf else {})}
    return await act(product, task, "decide", body, actor=actor, roles=roles)


async def seen(product: Product, task: dict[str, Any], actor: str, roles: str = MANAGER) -> Any:
    """The task as somebody sees it."""
    headers = {"X-Actor": actor, "X-Actor-Roles": roles}
    return await product.client.get(f"/v1/tasks/{task['id']}", headers=headers)


async def mine(product: Product, actor: str, roles: str = MANAGER) -> list[str]:
    """The ids of somebody's inbox."""
    headers = {"X-Actor": actor, "X-Actor-Roles": roles}
    answer = await product.client.get("/v1/tasks", params={"mine": "true", "limit": "500"}, headers=headers)
    return [item["id"] for item in answer.json()["items"]]


async def test_a_claim_is_shown_and_released(product: Product) -> None:
    """Everybody sees who is at it; a second claim hears the name; an operator may end it."""
    task = await product.task_of(await product.start())
    claimed = (await act(product, task, "claim")).json()
    assert (claimed["claimedBy"], claimed["why"], claimed["mayDecide"]) == ("maria", "you are manager", True)
    other = await act(product, task, "claim", actor="bert")
    assert (other.status_code, other.json()["code"], other.json()["facts"]["by"]) == (409, "claimed_already", "maria")
    refused = await act(product, task, "release", {}, actor="bert")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_holder")
    released = await act(product, task, "release", {"reason": "ill"}, actor="olga", roles="operator")
    assert (released.status_code, released.json()["claimedBy"]) == (200, "")


async def test_a_substitute_sees_the_task_decides_it_and_is_named(product: Product) -> None:
    """In their inbox with the reason; the decision says for whom."""
    task = await product.task_of(await product.start())
    assert (await seen(product, task, "eve", "approver")).status_code == 404, "what is not asked of one is not there"
    answer = await act(product, task, "delegate", {"to": "eve", "reason": "lunch"})
    assert [(one["by"], one["to"]) for one in answer.json()["delegated"]] == [("maria", "eve")]
    assert task["id"] in await mine(product, "eve", "approver")
    view = (await seen(product, task, "eve", "approver")).json()
    assert (view["mayDecide"], view["why"]) == (True, "delegated to you by maria")
    assert (await vote(product, task, actor="eve", roles="approver")).status_code == 200
    decided = (await seen(product, task, "ada", "viewer")).json()
    assert decided["decision"]["by"]["id"] == "eve"
    assert decided["decision"]["on_behalf_of"]["id"] == "maria"


async def test_who_has_two_rights_says_which_one_they_use(product: Product) -> None:
    """For whom is asked for and checked, never believed: a name that lent nothing is refused, and the vote keeps it."""
    task = await product.task_of(await product.start())
    assert (await act(product, task, "delegate", {"to": "eve"})).status_code == 200
    view = (await seen(product, task, "eve")).json()
    assert (view["why"], view["mayDecideFor"]) == ("you are manager", ["eve", "maria"])
    assert (await seen(product, task, "eve", "approver")).json()["mayDecideFor"] == ["maria"]
    before = await product.versions(task["sagaId"])
    for behalf, roles, code in (("bert", MANAGER, "not_substitute"), ("eve", "approver", "not_eligible")):
        refused = await vote(product, task, actor="eve", roles=roles, behalf=behalf)
        assert (refused.status_code, refused.json()["code"]) == (403, code)
    refused = await vote(product, task, actor="bert", behalf="maria")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_substitute"), "lent to eve, not to bert"
    assert await product.versions(task["sagaId"]) == before
    assert (await vote(product, task, actor="eve", behalf="maria")).json()["decided"] is True
    (cast,) = (await seen(product, task, "ada", "viewer")).json()["votes"]
    assert (cast["by"], cast["on_behalf_of"], cast["stands_in"]) == ("eve", "maria", "delegated")


async def test_a_substitute_loses_what_the_lender_loses(product: Product) -> None:
    """A delegation and an absence go no further than what the lender holds by their last sign-in; lists say so too."""
    task, kept = await product.task_of(await product.start()), Kept(product.runtime.store.pools)
    assert (await act(product, task, "delegate", {"to": "iris"}, actor="mira")).status_code == 200
    body = {"substitute": "ivo", "until": (datetime.now(UTC) + timedelta(days=2)).isoformat()}
    assert (await product.post("/v1/substitutions", body, actor="mira", roles=MANAGER)).status_code == 201

    async def may() -> list[bool]:
        shown = [(await seen(product, task, who, "approver")).json().get("mayDecide", False) for who in ("iris", "ivo")]
        return [*shown, *[task["id"] in await mine(product, who, "approver") for who in ("iris", "ivo")]]

    assert await may() == [True] * 4
    for roles, capacity in ((("clerk",), "approver"), (("manager",), "viewer")):
        signed_in = Actor("mira", roles, "oidc", capacities=frozenset({capacity}))
        await kept.begin_session(signed_in, seconds=60)
        assert await may() == [False] * 4
        for who in ("iris", "ivo"):
            refused = await vote(product, task, actor=who, roles="approver")
            assert (refused.status_code, refused.json()["code"]) == (403, "not_eligible")
    await kept.begin_session(Actor("mira", ("manager",), "oidc", capacities=frozenset({"approver"})), seconds=60)
    assert await may() == [True] * 4
    assert (await vote(product, task, actor="iris", roles="approver")).status_code == 200


async def test_who_is_excluded_neither_delegates_nor_is_delegated_to(product: Product) -> None:
    """C1: the requester does not approve, by whatever arrangement."""
    task = await product.task_of(await product.start(requester="ravi"))
    for body, actor in (({"to": "eve"}, "ravi"), ({"to": "ravi"}, "maria")):
        answer = await act(product, task, "delegate", body, actor=actor)
        assert (answer.status_code, answer.json()["code"]) == (403, "excluded")
    assert (await vote(product, task, actor="eve", roles="approver")).json()["code"] == "not_eligible"


async def test_an_absence_gives_the_inbox_and_the_right_until_it_is_taken_back(product: Product) -> None:
    """One's own roles, for a time, to one person; ended it is over at once."""
    task = await product.task_of(await product.start())
    until = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    body = {"substitute": "ida", "until": until, "reason": "away"}
    made = await product.post("/v1/substitutions", body, actor="mona", roles=MANAGER)
    assert (made.status_code, made.json()["person"]) == (201, "mona"), made.text
    again = await product.post("/v1/substitutions", {**body, "substitute": "eve"}, actor="mona", roles=MANAGER)
    assert (again.status_code, again.json()["code"]) == (409, "overlaps")
    assert task["id"] in await mine(product, "ida", "approver")
    assert (await seen(product, task, "ida", "approver")).json()["why"] == "you stand in for mona"
    number, headers = made.json()["id"], {"X-Actor": "eve", "X-Actor-Roles": MANAGER}
    assert (await product.client.delete(f"/v1/substitutions/{number}", headers=headers)).status_code == 404
    headers["X-Actor"] = "mona"
    assert (await product.client.delete(f"/v1/substitutions/{number}", headers=headers)).status_code == 204
    assert task["id"] not in await mine(product, "ida", "approver")
    assert (await vote(product, task, actor="ida", roles="approver")).json()["code"] == "not_eligible"
    (listed,) = (await product.client.get("/v1/substitutions", headers=headers)).json()["items"]
    assert listed["endedBy"] == "person:mona"


@pytest.mark.parametrize(
    "changes",
    [
        {"substitute": "mara"},
        {"until": "2020-01-01T00:00:00Z"},
        {"until": "2999-01-01T00:00:00Z"},
        {"until": "2999-01-01T00:00:00"},
        {"person": "maria"},
    ],
)
async def test_nobody_stands_in_for_themselves_for_ever_or_for_somebody_else(
    product: Product, changes: dict[str, str]
) -> None:
    """For whom is never a body's."""
    until = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    body = {"substitute": "ida", "until": until, **changes}
    answer = await product.post("/v1/substitutions", body, actor="mara", roles=MANAGER)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text


async def test_an_operator_gives_a_task_to_others_and_may_not_decide_it(product: Product) -> None:
    """With a reason, by a record; the inboxes follow."""
    task = await product.task_of(await product.start())
    assert (await act(product, task, "reassign", {"to": ["ann"], "reason": "x"})).status_code == 403
    body = {"to": ["person:ann", "role:lead"], "reason": "she knows it"}
    answer = await act(product, task, "reassign", body, actor="olga", roles="operator,approver,lead")
    assert answer.json()["to"] == [{"person": "ann"}, {"role": "lead"}], answer.text
    assert task["id"] not in await mine(product, "maria")
    assert task["id"] in await mine(product, "ann", "approver")
    assert task["id"] not in await mine(product, "olga", "operator,approver,lead")
    refused = await vote(product, task, actor="olga", roles="operator,approver,lead")
    assert (refused.status_code, refused.json()["code"]) == (403, "excluded")


async def test_comments_keep_their_history_and_links_are_https(product: Product) -> None:
    """And the same request twice says it once, also where the first answer was lost."""
    task = await product.task_of(await product.start())
    key = str(uuid.uuid4())
    said = (await act(product, task, "comments", {"text": "odd"}, key=key)).json()["comments"]
    assert (await act(product, task, "comments", {"text": "odd"}, key=key)).json()["comments"] == said
    now = (await act(product, task, "comments", {"text": "fine", "replaces": said[0]["id"]})).json()["comments"]
    assert [(one["text"], [edit["text"] for edit in one["edits"]]) for one in now] == [("fine", ["odd"])]
    answer = await act(product, task, "comments", {"text": "x", "replaces": said[0]["id"]}, actor="bert")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_author")
    link = {"url": "https://files.example/1", "title": "contract"}
    links = (await act(product, task, "attachments", link)).json()["attachments"]
    assert [one["title"] for one in links] == ["contract"]
    answer = await act(product, task, "attachments", {**link, "url": "javascript:alert(1)"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_an_act_whose_process_died_before_it_answered_is_done_once(product: Product) -> None:
    """The request is known by its cause: what it did is not done again."""
    task = await product.task_of(await product.start())
    maria = Actor("maria", ("manager",), AUTHENTICATION, capacities=frozenset({"approver"}))
    await product.engine.desk.comment(task["id"], maria, "once", message_id="c-1")
    answer = await act(product, task, "comments", {"text": "once"}, key="c-1")
    assert [one["text"] for one in answer.json()["comments"]] == ["once"]


async def test_a_draft_is_ones_own_and_goes_with_the_vote(product: Product) -> None:
    """Kept for the one who wrote it, replaced, dropped; not for a task that is closed."""
    task = await product.task_of(await product.start())
    path = f"/v1/tasks/{task['id']}/draft"

    async def kept(actor: str) -> Any:
        return (await product.client.get(path, headers={"X-Actor": actor, "X-Actor-Roles": MANAGER})).json()["draft"]

    async def save(form: Any) -> Any:
        headers = {"X-Actor": "maria", "X-Actor-Roles": MANAGER}
        return await product.client.put(path, json={"form": form}, headers=headers)

    assert (await save({"reason": "a"})).status_code == 200
    assert (await save({"reason": "because"})).status_code == 200
    assert ((await kept("maria"))["form"], await kept("bert")) == ({"reason": "because"}, None)
    assert (await kept("maria"))["subjectHash"] == task["subjectHash"]
    await save({})
    assert await kept("maria") is None
    await save({"reason": "x"})
    assert (await save({"reason": "x" * 70_000})).status_code in (413, 422)
    await vote(product, task, actor="maria")
    assert await kept("maria") is None
    assert (await save({"reason": "late"})).json()["code"] == "withdrawn"


@pytest.mark.parametrize("verb", ["claim", "release", "delegate", "comments", "attachments"])
async def test_acts_on_a_closed_task_are_refused_with_its_fate(product: Product, verb: str) -> None:
    """Whoever comes late hears how it ended."""
    bodies = {
        "release": {}, "delegate": {"to": "eve"}, "comments": {"text": "x"},
        "attachments": {"url": "https://x.example", "title": "x"},
    }  # fmt: skip
    task = await product.task_of(await product.start())
    await vote(product, task, actor="bert")
    answer = await act(product, task, verb, bodies.get(verb))
    assert (answer.status_code, answer.json()["code"]) == (409, "already_decided"), answer.text


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("delegate", {"to": "eve", "by": "maria"}),
        ("delegate", {"to": "eve", "until": "2030-01-01T00:00:00"}),
        ("delegate", {"to": "e\nve"}),
        ("reassign", {"to": [], "reason": "x"}),
        ("reassign", {"to": ["ann"], "reason": ""}),
        ("comments", {"text": "x", "at": "2020-01-01T00:00:00Z"}),
        ("attachments", {"url": "https://x.example"}),
    ],
)
async def test_a_body_says_what_it_may_and_nothing_else(product: Product, verb: str, body: Any) -> None:
    """B7: who, when and as what are never taken from it."""
    task = await product.task_of(await product.start())
    answer = await act(product, task, verb, body, roles="manager,approver,operator")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert {"task.delegated", "task.reassigned", "task.commented"}.isdisjoint(await product.versions(task["sagaId"]))


async def test_what_is_hidden_and_what_is_missing_are_answered_alike_and_at_the_same_beat(product: Product) -> None:
    """The same words but for the id, and never before the beat: keys can be guessed, and ids computed from them."""
    task = await product.task_of(await product.start())
    missing = {"id": f"{uuid.uuid4()}:approve"}
    bodies = []
    for one in (task, missing):
        began = asyncio.get_running_loop().time()
        answer = await seen(product, one, "stranger", "approver")
        assert asyncio.get_running_loop().time() - began >= BEAT_SECONDS * 0.9
        assert answer.status_code == 404
        told = {name: value for name, value in answer.json().items() if name not in ("instance", "traceId")}
        bodies.append(str(told).replace(one["id"], "ID"))
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(("elapsed", "beats"), [(0.0, 1), (0.001, 1), (0.039, 1), (0.041, 2), (0.1, 3)])
async def test_a_beat_is_a_multiple_whatever_it_took(elapsed: float, beats: int) -> None:
    """So that a millisecond more or less is not seen."""
    assert elapsed + to_beat(elapsed) == pytest.approx(beats * BEAT_SECONDS)

"""The picture of a graph: every node once, nothing on top of anything else, and where the saga stands in words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from orchestrator.definition.stored import graph_of
from orchestrator.kernel.graph import Graph
from orchestrator.pages.drawing.arrange import Box, Layout, arrange
from orchestrator.pages.drawing.standing import LOOKS, marks
from orchestrator.pages.drawing.svg import draw
from orchestrator.testing import REJECT, Spec, cancelled, claimed, decided, given
from sagas.transfers.definition import manager_approval, transfer
from tests.definition.claims import claims
from tests.definition.orders import order
from tests.kernel import flow_drawing
from tests.pages.stories import NOW, history
from tests.sagas.test_transfers_spec import EXECUTED, HELD, VALID, request

GOLDEN = Path(__file__).parent / "golden"


def waiting() -> Spec:
    """A transfer that waits for its manager."""
    return given(transfer, request(6000), VALID, HELD)


def rejected() -> Spec:
    """One that the manager has rejected: it has given its hold free."""
    return waiting().when(decided(manager_approval, REJECT, by="maria"))


def completed() -> Spec:
    """A small one, which nobody had to approve."""
    return given(transfer, request(100), VALID, HELD, EXECUTED)


def undoing() -> Spec:
    """One that gives its hold free, and has no answer to that yet."""
    return given(transfer, request(6000), VALID, HELD, answer_undos=False).when(cancelled("ann", "enough"))


STORIES = {"waiting": waiting, "rejected": rejected, "completed": completed, "undoing": undoing}


def looks(spec: Spec) -> dict[str, tuple[str, str]]:
    """Look and words of every node, by the last part of its path."""
    found = marks(spec.world.main.definition.program.graph, history(spec), NOW)
    return {path.rpartition("/")[2]: (mark.look, mark.words) for path, mark in found.items()}


def test_a_saga_that_waits_shows_what_is_done_what_waits_and_what_may_come() -> None:
    """A fork that was taken is passed; the other outcomes may come; the pivot is to come."""
    seen = looks(waiting())
    assert seen["hold_funds"] == ("done", "done")
    assert seen["needs_approval"] == ("done", "passed")
    assert seen["manager_approval"] == ("waiting", "waiting, 0 of 1 votes")
    assert seen["execute_transfer"] == ("next", "to come")
    assert seen["transfer_failed"] == ("maybe", "may come")


def test_a_saga_that_went_back_shows_where_it_turned_and_what_is_undone() -> None:
    """What lay behind the turn was not taken, and cannot come any more."""
    seen = looks(rejected())
    assert seen["hold_funds"] == ("undone", "undone")
    assert seen["manager_approval"] == ("done", "reject")
    assert seen["execute_transfer"] == ("untaken", "not taken")
    assert seen["transfer_failed"] == ("done", "passed")


def test_a_saga_that_completed_has_nothing_ahead() -> None:
    """The path that it did not take is not taken, and not to come."""
    seen = looks(completed())
    assert seen["manager_approval"] == ("untaken", "not taken")
    assert seen["execute_transfer"] == ("done", "done")
    assert not {look for look, _ in seen.values()} & {"next", "maybe", "running", "waiting"}


def test_a_claimed_task_says_with_whom_it_is() -> None:
    """So that nobody asks the whole group."""
    seen = looks(waiting().when(claimed(manager_approval, by="maria")))
    assert seen["manager_approval"] == ("waiting", "waiting, 0 of 1 votes, with maria")


def test_an_undo_under_way_is_seen() -> None:
    """It is neither done nor undone."""
    assert looks(undoing())["hold_funds"] == ("undoing", "undoing")


def test_every_mark_says_in_words_what_it_looks_like() -> None:
    """Colour and sign only repeat it."""
    for story in STORIES.values():
        spec = story()
        for mark in marks(spec.world.main.definition.program.graph, history(spec), NOW).values():
            assert mark.look in LOOKS
            assert mark.words
            assert mark.words in mark.spoken
            assert mark.name in mark.spoken


@pytest.mark.parametrize("name", STORIES)
def test_the_picture_of_a_story_is_as_it_was(name: str) -> None:
    """A golden picture. After a change that is meant: delete the file, run once, look at the new one."""
    spec = STORIES[name]()
    graph = spec.world.main.definition.program.graph
    drawn = str(draw(graph, marks(graph, history(spec), NOW), base="?tab=graph")).replace("><", ">\n<") + "\n"
    path = GOLDEN / f"transfer-{name}.svg"
    if not path.exists():  # pragma: no cover
        path.write_text(drawn)
        pytest.fail(f"{path} was not there: look at it, and add it")
    assert drawn == path.read_text()


def test_a_stored_definition_is_drawn_like_the_installed_one() -> None:
    """Its code may be gone for years."""
    for saga in (transfer, claims, order):
        again = graph_of(saga.graph.data)
        assert draw(again, marks(again, None, NOW)) == draw(saga.graph, marks(saga.graph, None, NOW))


def test_names_of_authors_are_never_markup() -> None:
    """The picture is well-formed, has no inline style or script, and every link is a fragment of its own page."""
    for saga in (transfer, claims, order):
        root = ElementTree.fromstring(str(draw(saga.graph, marks(saga.graph, None, NOW))))
        for element in root.iter():
            assert "style" not in element.attrib
            assert not [name for name in element.attrib if name.startswith("on")]
            assert element.attrib.get("href", "#").startswith("#")


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share an area."""
    apart = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not (apart or one.y + one.height <= other.y or other.y + other.height <= one.y)


def inside(inner: Box, outer: Box) -> bool:
    """Whether a box lies within another one."""
    level = outer.x <= inner.x and inner.x + inner.width <= outer.x + outer.width
    return level and outer.y <= inner.y and inner.y + inner.height <= outer.y + outer.height


def crossed(layout: Layout) -> Iterator[str]:
    """Boxes that a line runs through."""
    for line in layout.lines:
        for (ax, ay), (bx, by) in zip(line.points, line.points[1:], strict=False):
            assert ax == bx or ay == by, "lines are upright or level"
            way = Box("", min(ax, bx), min(ay, by), abs(ax - bx), abs(ay - by))
            for box in layout.boxes:
                core = Box("", box.x + 1, box.y + 1, box.width - 2, box.height - 2)
                meets_x = way.x < core.x + core.width and core.x < way.x + max(way.width, 1)
                meets_y = way.y < core.y + core.height and core.y < way.y + max(way.height, 1)
                if meets_x and meets_y:
                    yield f"{line} runs through {box}"


def is_sound(graph: Graph) -> None:
    """Every node is drawn once, nothing overlaps, frames hold what is theirs, and no line runs through a box."""
    layout = arrange(graph)
    paths = [box.path for box in layout.boxes if box.path not in ("", ".", "!")]
    assert sorted(paths) == sorted(graph.nodes)
    for one, other in combinations(layout.boxes, 2):
        assert not overlap(one, other), (one, other)
    places = {box.path: box for box in layout.boxes}
    for frame in layout.frames:
        node = graph.nodes[frame.path]
        assert inside(places[frame.path], frame)
        for path, box in places.items():
            is_in_body = path in graph.nodes and _in_body(graph, path, node.path)
            assert inside(box, frame) if is_in_body or path == frame.path else not overlap(box, frame), (path, frame)
    whole = Box("", 0, 0, layout.width, layout.height)
    assert all(inside(box, whole) for box in (*layout.boxes, *layout.frames))
    assert list(crossed(layout)) == []


def _in_body(graph: Graph, path: str, group: str) -> bool:
    """Whether a node stands in the body of a group, at any depth."""
    node = graph.nodes[path]
    while node.parent is not None:
        if node.parent == group:
            return node.block in ("", "body")
        node = graph.nodes[node.parent]
    return False


@pytest.mark.parametrize("saga", [transfer, claims, order], ids=lambda saga: saga.name)
def test_a_known_flow_is_laid_out_soundly(saga: object) -> None:
    """The large ones of the other tests."""
    is_sound(saga.graph)  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@forall(seed=st.integers(0, 2**32))
def test_a_random_flow_is_laid_out_soundly(seed: int) -> None:
    """Whatever an author writes."""
    drawn = flow_drawing.draw(Random(seed))
    if drawn is not None:
        is_sound(drawn.parent.graph)

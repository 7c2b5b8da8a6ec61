"""The catalog: what is installed, and what follows from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Saga
from orchestrator.runtime.catalog import Catalog, CatalogError
from tests.runtime.shop import SAGAS, OrderPlaced, charge, order, parcel, reserve, trip
from tests.runtime.shop_participants import PARTICIPANTS

MODULE = """
from orchestrator import Event, Key, Saga, Command, Done, step

class Asked(Event, context="{name}"):
    id: Key[str]

class Do(Command[Done], to="doer", context="{name}"):
    id: str

@step(undo=None)
def do(asked: Asked) -> Do:
    return Do(id=asked.id)

saga = Saga("{name}", version=1, starts_on=Asked, flow=[do])
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable directory: `area` with `area.one.definition` and `area.two` (the saga in its __init__)."""
    (tmp_path / "area/one").mkdir(parents=True)
    (tmp_path / "area/two").mkdir()
    (tmp_path / "area/__init__.py").write_text("")
    (tmp_path / "area/one/__init__.py").write_text("")
    (tmp_path / "area/one/definition.py").write_text(MODULE.format(name="one"))
    (tmp_path / "area/one/participants.py").write_text(
        "from orchestrator.participants import Participant\ndoer = Participant('doer')\n"
    )
    (tmp_path / "area/one/routes.py").write_text("raise AssertionError('routes are not looked at here')")
    (tmp_path / "area/two/__init__.py").write_text(MODULE.format(name="two"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("area", "hollow", "needy")]:
        del sys.modules[name]


def test_sagas_and_participants_are_found_in_packages_below(packages: Path) -> None:
    catalog = Catalog.load(["area"])
    assert sorted(catalog.sagas) == [("one", 1), ("two", 1)]
    assert [participant.name for participant in catalog.participants] == ["doer"]


def test_a_module_that_is_not_there_or_holds_nothing_is_named(packages: Path) -> None:
    with pytest.raises(CatalogError, match=r"module nowhere is not installed; ORCHESTRATOR_SAGAS names it"):
        Catalog.load(["nowhere"])
    (packages / "hollow.py").write_text("")
    with pytest.raises(CatalogError, match="module hollow holds no saga"):
        Catalog.load(["hollow"])


def test_a_module_that_fails_to_import_something_else_says_so_itself(packages: Path) -> None:
    (packages / "needy.py").write_text("import not_installed_anywhere")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        Catalog.load(["needy"])


def test_children_come_along_and_new_starts_take_the_newest_version() -> None:
    second = Saga("order", version=2, starts_on=OrderPlaced, flow=[reserve, charge])
    catalog = Catalog.of([second, order, trip])
    assert ("hotel", 1) in catalog.sagas
    assert catalog.newest["order"] is second
    assert catalog.program("order", 1) is order.program
    assert catalog.program_for("order", 0) is second.program
    assert catalog.program("order", 3) is None


def test_routes_follow_from_the_graphs() -> None:
    routes = Catalog.of(SAGAS, PARTICIPANTS).routes
    assert routes.starts["parcels.ParcelSent"] == ("parcel", "watch")
    assert routes.awaiters["parcels.Signed"] == {"parcel"}
    assert routes.participants["inventory.replies"] == "inventory"
    assert {"orders.events", "inventory.replies", "orchestrator.sagas"} <= set(routes.consumed)
    assert {"inventory.commands", "orders.events", "orchestrator.sagas"} <= set(routes.produced)
    assert "inventory.commands" not in routes.consumed
    assert routes.own_key["parcel"] == ("parcels.ParcelArrived", "parcels.Signed")


def test_an_event_is_kept_for_others_only_where_there_may_be_some() -> None:
    routes = Catalog.of([parcel]).routes
    assert not routes.may_want_more("parcels.Signed", {"parcel"})
    assert routes.may_want_more("parcels.Signed", set())
    assert Catalog.of(SAGAS).routes.may_want_more("parcels.ParcelArrived", {"parcel"})

"""Questions about sagas in time: where they stand, what remains, where they wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from orchestrator.definition.stored import graph_of
from orchestrator.kernel.graph import Graph, node_path
from orchestrator.store.queries import SQL as STORE_SQL
from projections.answers import Answer, Bottleneck, Journey, Passed, Place, Sla, Timeline
from projections.contract import FOREVER
from projections.forecast import PLACES, Ahead, Usual, ahead
from projections.journeys import SQL
from projections.reading import Asked, Reader, cursor_of, ended, instant, microseconds, paged, rows_wanted, sla_of

SAMPLE_SPANS = 300  # how many stays tell how long a node takes
PASSED_ROWS_MAX = 1_000
CROWD_COUNTED_MAX, CROWD_LOOKED_AT_MAX = 10_000, 1_000  # at each node
_LAST = 2**63 - 1


class TimelineQueries:
    """Where sagas stand, what remains, and where they wait."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def of(self, tenant: str, saga_id: str) -> Timeline | None:
        """One saga in time; None where the read model has not got it (yet)."""

        async def question(asked: Asked) -> Timeline | None:
            rows = await asked.fetch(SQL["one"], tenant, saga_id)
            if not rows:
                return None
            row = rows[0]
            passed = await asked.fetch(SQL["passed"], tenant, saga_id, PASSED_ROWS_MAX)
            stored = await asked.connection.fetch(STORE_SQL["definition"], row["name"], row["definition_version"])
            graph = graph_of(orjson.loads(stored[0]["data"])) if stored else None
            nodes = [path for path, node in graph.nodes.items() if node.kind != "compute"] if graph else []
            usual = await _usual(asked, tenant, row["name"], nodes)
            return _timeline(asked, row, passed, graph, usual)

        return await self._reader.ask(tenant, "journeys", question)

    async def risky(self, tenant: str, *, limit: int = 50, cursor: str = "") -> Answer[Journey]:
        """Sagas that something is due in, the next due first: those overdue lead. Raises BadCursorError."""
        after = cursor_of(cursor, (int, str)) or (1, "")  # ended sagas are kept with 0: nothing is due

        async def question(asked: Asked) -> Answer[Journey]:
            rows = await asked.fetch(SQL["risky"], tenant, *after, rows_wanted(limit))
            shown, following = paged(rows, limit, lambda row: (row["due"], row["saga_id"]))
            return Answer(tuple(_journey(row, asked.now) for row in shown), asked.complete, following)

        return await self._reader.ask(tenant, "journeys", question)

    async def search(
        self,
        tenant: str,
        *,
        name: str | None = None,
        version: int | None = None,
        business_key: str | None = None,
        customer: str | None = None,
        phase: str | None = None,
        outcome: str | None = None,
        place: str | None = None,
        stuck: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> Answer[Journey]:
        """Sagas, newest first, by index whatever the filter. `place`: a node, best with its `name`.

        Raises BadCursorError.
        """
        last = microseconds(until) if until is not None else _LAST
        before = cursor_of(cursor, (int, str)) or (last, "")
        first = microseconds(since) if since is not None else None
        filters = (name, version, business_key, customer, phase, outcome, place, stuck, first)

        async def question(asked: Asked) -> Answer[Journey]:
            rows = await asked.fetch(SQL["search"], tenant, *before, rows_wanted(limit), *filters)
            shown, following = paged(rows, limit, lambda row: (row["started_at"], row["saga_id"]))
            return Answer(tuple(_journey(row, asked.now) for row in shown), asked.complete, following)

        return await self._reader.ask(tenant, "journeys", question)

    async def bottlenecks(self, tenant: str, *, name: str | None = None) -> Answer[Bottleneck]:
        """Where sagas stand, the most crowded node first; at most CROWD_COUNTED_MAX are counted at each.

        Since when the longest stands, and how many are overdue, is said of the CROWD_LOOKED_AT_MAX that began first.
        """

        async def question(asked: Asked) -> Answer[Bottleneck]:
            rows = await asked.fetch(SQL["crowds"], tenant, name, CROWD_COUNTED_MAX, CROWD_LOOKED_AT_MAX)
            usual: dict[tuple[str, str], Usual] = {}
            for saga in {row["name"] for row in rows}:
                places = [row["place"] for row in rows if row["name"] == saga]
                for node, known in (await _usual(asked, tenant, saga, places)).items():
                    usual[saga, node] = known
            return Answer(tuple(_bottleneck(row, usual) for row in rows), asked.complete)

        return await self._reader.ask(tenant, "journeys", question)


async def _usual(asked: Asked, tenant: str, name: str, nodes: Iterable[str]) -> dict[str, Usual]:
    rows = await asked.fetch(SQL["durations"], tenant, name, sorted(set(nodes)), SAMPLE_SPANS)
    return {row["node"]: Usual(*(us / 1_000_000 for us in row["took"])) for row in rows}


def _bottleneck(row: Any, usual: Mapping[tuple[str, str], Usual]) -> Bottleneck:
    is_usual = row["kind"] in PLACES
    known = usual.get((row["name"], row["place"]), Usual()) if is_usual else Usual()
    oldest = instant(row["oldest"]) if row["oldest"] else None
    return Bottleneck(
        row["name"],
        row["place"],
        row["kind"],
        row["waiting"],
        row["overdue"],
        oldest,
        known.usual,
        known.slow,
        exact=row["waiting"] < CROWD_COUNTED_MAX,
    )


def _timeline(asked: Asked, row: Any, passed: list[Any], graph: Graph | None, usual: Mapping[str, Usual]) -> Timeline:
    stays = orjson.loads(row["places"])
    places = tuple(_place(stay, asked.now, usual) for stay in stays)
    is_over = row["ended_at"] != FOREVER
    forward = graph is not None and not is_over and row["phase"] == "forward"
    ways = [ahead(graph, stay["activity"], usual) for stay in stays] if forward and graph is not None else []
    # Of branches side by side, what comes after the join is ahead of each of them: the longest way is the whole.
    way = max(ways, key=lambda found: len(found.nodes), default=Ahead())
    earliest, latest = _forecast(asked.now, stays, way, usual) if ways else (None, None)
    return Timeline(
        saga_id=row["saga_id"],
        name=row["name"],
        version=row["definition_version"],
        business_key=row["business_key"],
        customer=row["customer"],
        phase=row["phase"],
        outcome=row["outcome"],
        started_at=instant(row["started_at"]),
        changed_at=instant(row["changed_at"]),
        ended_at=ended(row["ended_at"]),
        deadline=ended(row["deadline"]),
        sla=_risk(row, asked.now, stays),
        places=places,
        passed=tuple(map(_passed, passed)),
        remaining=tuple(way.nodes),
        earliest=earliest,
        latest=latest,
        bottleneck=_slowest(places, way),
        complete=asked.complete,
    )


def _forecast(
    now: int, stays: list[Any], way: Ahead, usual: Mapping[str, Usual]
) -> tuple[datetime | None, datetime | None]:
    """When it is over, if all goes quickly, and if all goes slowly."""
    quick, slow = 0.0, 0.0
    unknown = False
    for stay in stays:
        known = usual.get(node_path(stay["activity"]), Usual())
        been = (now - stay["since"]) / 1_000_000
        quick = max(quick, (known.quick or 0.0) - been)
        if stay["kind"] in ("task", "wait", "delay", "call") and stay["due"]:
            slow = max(slow, (stay["due"] - now) / 1_000_000)
        elif known.slow is not None:
            slow = max(slow, known.slow - been)
        elif stay["kind"] != "step":
            unknown = True
    base = instant(now)
    latest = None if unknown or way.slow is None else base + timedelta(seconds=max(slow, 0.0) + way.slow)
    return base + timedelta(seconds=max(quick, 0.0) + way.quick), latest


def _risk(row: Any, now: int, stays: list[Any]) -> Sla:
    """The worst of what is due: its own deadline, and what people and waits are given."""
    if row["ended_at"] != FOREVER:
        return "none"
    found = [sla_of(stay["since"], stay["due"], now) for stay in stays if stay["kind"] in ("task", "wait", "call")]
    found.append(sla_of(row["started_at"], row["deadline"], now))
    order: tuple[Sla, ...] = ("overdue", "at risk", "in time")
    return next((state for state in order if state in found), "none")


def _slowest(places: tuple[Place, ...], way: Ahead) -> str:
    """The node that takes longest now or will."""
    known = [(place.usual_seconds or 0.0, place.node) for place in places]
    known += [(node.usual_seconds or 0.0, node.node) for node in way.nodes]
    return max(known, default=(0.0, ""))[1]


def _place(stay: Mapping[str, Any], now: int, usual: Mapping[str, Usual]) -> Place:
    node = node_path(stay["activity"])
    due = stay["due"] if stay["kind"] in ("task", "wait", "call") else 0
    return Place(
        activity=stay["activity"],
        node=node,
        kind=stay["kind"],
        since=instant(stay["since"]),
        due=ended(stay["due"]),
        attempts=stay["attempts"],
        usual_seconds=usual.get(node, Usual()).usual if stay["kind"] in PLACES else None,
        sla=sla_of(stay["since"], due, now),
    )


def _passed(row: Any) -> Passed:
    return Passed(
        activity=row["activity"],
        node=row["node"],
        kind=row["kind"],
        opened_at=instant(row["opened_at"]),
        closed_at=instant(row["closed_at"]),
        outcome=row["outcome"],
        attempts=row["attempts"],
        seconds=(row["closed_at"] - row["opened_at"]) / 1_000_000,
    )


def _journey(row: Any, now: int) -> Journey:
    return Journey(
        saga_id=row["saga_id"],
        name=row["name"],
        version=row["definition_version"],
        business_key=row["business_key"],
        customer=row["customer"],
        phase=row["phase"],
        outcome=row["outcome"],
        place=row["place"],
        place_kind=row["place_kind"],
        place_since=instant(row["place_since"]) if row["place_since"] else None,
        due=ended(row["due"]),
        sla=_risk(row, now, orjson.loads(row["places"])),
        stuck=row["stuck"],
        started_at=instant(row["started_at"]),
        changed_at=instant(row["changed_at"]),
        ended_at=ended(row["ended_at"]),
    )

"""Works off acts on many sagas: in small rounds, in whichever process comes first, over restarts.

Rules of this file
- Each saga gets the act as one person would give it: through the engine, with the same rules, in the name of whoever
  asked for it and, where it takes two, of whoever confirmed it.
- Recorded is not solved: afterwards each saga is looked at until it has progressed, failed again, or a day is over.
- The kernel's refusals are results, not troubles. Where the store cannot be reached the round ends; nothing is lost.
- A saga that breaks its act (its stream cannot be read, for example) costs its own item, and holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from orchestrator.api.engine import Engine
from orchestrator.api.problems import ProblemError
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.rules import OPERATOR
from orchestrator.kernel.operators import proposal_for
from orchestrator.kernel.state import Activity, State
from orchestrator.pages.reading import Office
from orchestrator.store.bulk import BulkAct, BulkItem

ITEMS_PER_ROUND = 20
SOON_US, LATE_US = 1_000_000, 60_000_000  # between two looks at what became of a saga
DETAIL_MAX = 300
DRAFT_ROUNDS = 600  # between two looks for previews that nobody went on with
SYSTEM = "system"
_UNDER_WAY = frozenset({"requested", "backoff", "unknown", "open"})
_UNDOING = frozenset({"asked", "backoff", "taken", "handed", "stuck"})

log = structlog.get_logger("orchestrator.pages")


class BulkWork:
    """The worker of one process. `engine_of`: the engine once the application has one."""

    def __init__(self, office: Office, engine_of: Callable[[], Engine]) -> None:
        self._office, self._bulk, self._engine_of = office, office.bulk, engine_of
        self._rounds = 0

    async def round(self) -> bool:
        """Some items of one act; whether there may be more to do at once."""
        if self._rounds % DRAFT_ROUNDS == 0:
            await self._bulk.forget_drafts()
        self._rounds += 1
        leased = await self._bulk.lease()
        if leased is None:
            return False
        act, barred = leased
        if barred and act.state == "running":
            await self._bulk.move(act, "stopped", "stopped", SYSTEM, seen=["running"], reason="who asked was barred")
            return True
        items = await self._bulk.due_items(act, ITEMS_PER_ROUND)
        for item in items:
            if item.verdict == "waiting":
                await self._look(act, item)
            else:
                await self._do(act, item)
        if act.state == "running" and await self._bulk.is_over(act):
            await self._bulk.move(act, "done", "done", SYSTEM, seen=["running"])
        await self._bulk.free(act)
        return len(items) == ITEMS_PER_ROUND

    async def _do(self, act: BulkAct, item: BulkItem) -> None:
        try:
            state = await self._skip(act, item) if act.act == "skip" else await self._simple(act, item)
        except RefusedError as error:
            await self._bulk.settle(act, item, "refused", detail=error.text)
        except ProblemError as error:
            log.warning("an act on many failed for one", bulk=act.id, saga=item.saga_id, error=str(error))
            await self._bulk.settle(act, item, "refused", detail=error.detail or str(error))
        except Exception as error:
            if getattr(error, "retriable", False):
                raise  # the store is away, or too much is under way: the same again in a moment
            log.exception("an act on many failed for one", bulk=act.id, saga=item.saga_id)
            await self._bulk.settle(act, item, "refused", detail=f"{type(error).__name__}: {error}"[:DETAIL_MAX])
        else:
            await self._bulk.settle(act, item, state, "waiting" if state == "acted" else "", again_us=SOON_US)

    async def _simple(self, act: BulkAct, item: BulkItem) -> str:
        engine, actor, request = self._engine_of(), person(act, act.made_by), f"bulk/{act.id}/{item.number}"
        if act.act == "cancel":
            await engine.cancel(item.saga_id, actor, act.reason, message_id=request)
        else:
            await engine.operate(
                item.saga_id, "retry", item.place, item.version, actor, act.reason, message_id=request
            )  # fmt: skip
        return "acted"

    async def _skip(self, act: BulkAct, item: BulkItem) -> str:
        """First the participant is asked to leave the undo alone; once it has agreed, one proposes and two confirm."""
        engine, first = self._engine_of(), person(act, act.made_by)
        state = await self._office.state(first, item.saga_id)
        found = _activity(state, item)
        request = f"bulk/{act.id}/{item.number}"
        if found is None or found.undo is None or found.undo.status != "handed":
            if item.state == "open":
                await engine.operate(
                    item.saga_id, "take_over", item.place, item.version, first, act.reason, message_id=request
                )  # fmt: skip
            elif found is not None and found.undo_status in ("done", "skipped", "by_hand"):
                raise RefusedError("not_stuck", "the participant had undone it after all, or somebody was quicker")
            return "taking"
        said = proposal_for(state, item.place)
        if said is None:
            version = found.undo.taken_at
            await engine.operate(item.saga_id, "skip", item.place, version, first, act.reason, message_id=request)
            said = proposal_for(await self._office.state(first, item.saga_id), item.place)
        if said is not None:
            second = person(act, act.confirmed_by or act.made_by)
            version = said["version"]
            await engine.operate(
                item.saga_id, "skip", item.place, version, second, act.reason, message_id=f"{request}/2"
            )  # fmt: skip
        return "acted"

    async def _look(self, act: BulkAct, item: BulkItem) -> None:
        try:
            verdict = verdict_of(act.act, item, await self._office.state(person(act, act.made_by), item.saga_id))
        except RefusedError:
            verdict = "progressed"  # it is gone
        except Exception as error:
            if getattr(error, "retriable", False):
                raise
            log.exception("nobody can see what became of a saga", bulk=act.id, saga=item.saga_id)
            verdict = "waiting"
        age_us = (datetime.now(UTC) - instant(item.acted_at or 0)).total_seconds() * 1_000_000
        again_us = int(min(max(age_us / 5, SOON_US), LATE_US))
        await self._bulk.settle(act, item, item.state, verdict, item.detail, again_us=again_us)


def person(act: BulkAct, id_: str) -> Actor:
    """Who asked or confirmed, as what they were let in for; people who were barred since are not acted for."""
    return Actor(id_, authentication="bulk", tenant=act.tenant, capacities=frozenset({OPERATOR}))


def verdict_of(act: str, item: BulkItem, state: State) -> str:
    """What became of a saga after its act: waiting, progressed, failed."""
    name = item.place[1:]
    again = [stuck.version for place, stuck in state.stuck.items() if place[1:] == name]
    if act == "cancel":
        newly = any(stuck.version > item.version for stuck in state.stuck.values())
        return "failed" if newly else "waiting" if state.phase == "forward" else "progressed"
    if again:
        return "failed" if max(again) > item.version else "waiting"
    found = _activity(state, item)
    if found is not None and item.place[0] == "~":
        return "waiting" if found.undo_status in _UNDOING else "progressed"
    if found is not None and item.place[0] in "!?" and found.status in _UNDER_WAY:
        return "waiting"
    return "progressed"


def _activity(state: State, item: BulkItem) -> Activity | None:
    return state.activities.get(item.place[1:])

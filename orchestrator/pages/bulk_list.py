"""Which sagas of a cause an act on all of them would take, and which not and why: decided when it is previewed.

Rules of this file
- Pure. The offers of one saga's page decide here as well, so nothing can be done to many that cannot be done to one.
- What somebody has already proposed for a place is left to a second person; a list does not run over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set

from orchestrator.kernel.graph import Graph
from orchestrator.kernel.state import State
from orchestrator.pages.causes import Cause, StuckSaga
from orchestrator.pages.offers import Need, needs
from orchestrator.store.bulk import BulkItem

ACTS = {"retry": "Retry", "skip": "Skip the undo of", "cancel": "Cancel and undo"}
BULK_SAGAS_MAX = 5_000

GraphOf = Callable[[int], Graph | None]  # by version
IsInstalled = Callable[[int], bool]


def acts_for(cause: Cause) -> list[str]:
    """What can be done to sagas of this cause at all: an undo may be skipped, going forward may be cancelled."""
    return ["retry", "skip"] if cause.is_undo else ["retry", "cancel"]


def frozen(
    cause: Cause, act: str, graph_of: GraphOf, is_installed: IsInstalled, two_people: Set[str]
) -> Iterator[BulkItem]:
    """Every saga of the cause as an item, those that are left out with the reason."""
    for number, one in enumerate(cause.sagas, 1):
        why = "more than a list may hold: take them with the next one" if number > BULK_SAGAS_MAX else ""
        why = why or _why_not(one, act, graph_of, is_installed, two_people)
        yield BulkItem(
            number, one.saga.saga_id, one.saga.business_key, one.place, one.version,
            "excluded" if why else "open", "", why,
        )  # fmt: skip


def _why_not(one: StuckSaga, act: str, graph_of: GraphOf, is_installed: IsInstalled, two_people: Set[str]) -> str:
    if one.state is None:
        return "its stream is too long to be looked at here: open it"
    if not is_installed(one.saga.version):
        return f"the code of v{one.saga.version} is not installed here"
    found = needs(one.state, graph_of(one.saga.version), two_people)
    need = next((need for need in found if need.place == one.place), None)
    if need is None:
        return "it is not stuck there any more"
    if need.proposal is not None:
        return f"{need.proposal.by} proposed: {need.proposal.what}; that waits for a second person"
    return _unfit_cancel(one.state) if act == "cancel" else _unfit(need, act)


def _unfit(need: Need, act: str) -> str:
    offered = {offer.act for offer in need.offers}
    if act == "retry":
        return "" if "retry" in offered else "a retry does not help here: it needs a person's word"
    return "" if need.place.startswith("~") and "take_over" in offered else "only an undo that is stuck can be skipped"


def _unfit_cancel(state: State) -> str:
    if state.pivot == "passed":
        return "the point of no return is passed: it only goes forward"
    return "" if state.phase == "forward" else "it is going back already"

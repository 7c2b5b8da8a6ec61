"""Specifications for authors of sagas: given, when, then. No event loop, no database, no clock: about a millisecond.

    HELD = replied(hold_funds, FundsHeld(hold_id="H-1"))

    def test_a_rejected_transfer_releases_the_funds() -> None:
        (given(transfer, request(6000), HELD)
         .when(decided(manager_approval, REJECT, by="maria"))
         .then(asked(ReleaseFunds(hold_id="H-1")), published(FAILED), compensated("rejected")))

`explore(transfer, request(6000), seeds=500)` runs it through random replies, silences, crashes and cancels instead.

It runs the kernel that runs in production, and after every turn it checks that the records alone give the same state
and that deciding again gives the same records.
"""

from orchestrator.testing.answers import (
    Given,
    answered_late,
    errored,
    in_doubt,
    never_known,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settled_refused,
    settling_errored,
    unanswered,
    undo_errored,
    undo_refused,
    undone,
)
from orchestrator.testing.checks import KernelError
from orchestrator.testing.desk import attached, claimed, commented, delegated, reassigned, released, stands_in
from orchestrator.testing.explore import explore
from orchestrator.testing.inputs import (
    APPROVE,
    REJECT,
    arrived,
    cancelled,
    decided,
    elapsed,
    operated,
    started,
)
from orchestrator.testing.known import SpecificationError
from orchestrator.testing.outputs import (
    Output,
    amended,
    asked,
    awaits,
    compensated,
    denied,
    ended,
    entered,
    escalated,
    opened,
    published,
    reminded,
    settling,
    stuck,
    unwinding,
)
from orchestrator.testing.spec import Spec, given

__all__ = [
    "APPROVE", "REJECT", "Given", "KernelError", "Output", "Spec", "SpecificationError", "amended", "answered_late",
    "arrived", "asked", "attached", "awaits", "cancelled", "claimed", "commented", "compensated", "decided",
    "delegated", "denied", "elapsed", "ended", "entered", "errored", "escalated", "explore", "given", "in_doubt",
    "never_known", "opened", "operated", "published", "reassigned", "refused", "released", "reminded", "replied",
    "settled_done", "settled_not_done", "settled_refused", "settling", "settling_errored", "stands_in", "started",
    "stuck", "unanswered", "undo_errored", "undo_refused", "undone", "unwinding",
]  # fmt: skip

"""Participants: the library for services that obey commands, each exactly once as far as anybody can tell.

    inventory = Participant("inventory", migrations=Path(__file__).parent / "inventory")

    @inventory.handles(ReserveInventory)
    async def reserve(command: ReserveInventory, work: Work) -> InventoryReserved:
        await work.connection.execute(...)          # in the transaction of effect, inbox row and stored reply
        raise Refused("out_of_stock", "only 2 left")  # a business no: definite, stored, never retried

Any other exception stores nothing and is answered `error`; the coordinator asks again by the step's policy.
"""

from orchestrator.messages import Refused
from orchestrator.participants.own_schema import OwnSchema
from orchestrator.participants.participant import Participant
from orchestrator.participants.pool import open_pool
from orchestrator.participants.settings import ParticipantSettings
from orchestrator.participants.tracing import Calling, calling
from orchestrator.participants.work import Asked, Connection, LeaseOver, ManyWork, NotSent, ParticipantError, Pool, Work
from orchestrator.participants.worker import Handled, Worker
from orchestrator.store.sql import load_queries

__all__ = [
    "Asked", "Calling", "Connection", "Handled", "LeaseOver", "ManyWork", "NotSent", "OwnSchema", "Participant",
    "ParticipantError", "ParticipantSettings", "Pool", "Refused", "Work", "Worker", "calling", "load_queries",
    "open_pool",
]  # fmt: skip

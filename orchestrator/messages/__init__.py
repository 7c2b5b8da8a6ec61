"""Messages: contracts, canonical bytes, the envelope and the registry. Imports pydantic and orjson only."""

from orchestrator.messages.canonical import NotCanonicalError, canonical_bytes, plain
from orchestrator.messages.contract import Command, Contract, ContractError, Done, Event, Key, Personal, Reply
from orchestrator.messages.customers import CustomerView
from orchestrator.messages.envelope import Envelope, EnvelopeError
from orchestrator.messages.registry import Registry, UnknownTypeError
from orchestrator.messages.words import (
    Approval,
    Context,
    Decision,
    Failure,
    Form,
    Money,
    Person,
    Refused,
    Role,
    Verdict,
    Vote,
)

__all__ = [
    "Approval", "Command", "Context", "Contract", "ContractError", "CustomerView", "Decision", "Done", "Envelope",
    "EnvelopeError", "Event", "Failure", "Form", "Key", "Money", "NotCanonicalError", "Person", "Personal", "Refused",
    "Registry", "Reply", "Role", "UnknownTypeError", "Verdict", "Vote", "canonical_bytes", "plain",
]  # fmt: skip

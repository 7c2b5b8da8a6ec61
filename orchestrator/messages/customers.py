"""What a customer may see of a saga: declared beside its definition, because nothing else may be shown.

Rules of this file
- Shown is what is listed, in the words that are listed. What nobody has listed stays inside.
- It is no part of the definition's shape: better words are no new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.messages.contract import ContractError

STATES = ("underway", "completed", "returned")


@dataclass(frozen=True, slots=True)
class CustomerView:
    """What a customer may see of the sagas of one name; an attribute of the module that defines the saga.

    customer: the field of the start message that says whose it is. fields: field of the start message to its label.
    steps: name of a node to what is said of it, in the order in which customers are told. endings: outcome of the saga
    to what is said at its end; `underway`, `completed` and `returned` say it for all others.

    >>> CustomerView("transfer", title="Your transfer", customer="user_id", fields={"amount": "Amount"})
    ...                                                                                     # doctest: +SKIP
    """

    saga: str
    title: str
    customer: str = "customer_id"
    fields: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ContractError where it could show nothing, or something else than words."""
        if not self.saga or not self.title or not self.customer:
            raise ContractError("CustomerView needs the saga's name, a title, and the field that names the customer")
        texts = [*self.fields.values(), *self.steps.values(), *self.endings.values()]
        if not all(text.strip() for text in texts):
            raise ContractError(f"CustomerView({self.saga!r}): every field, step and ending needs words")

"""What is written to customers and to the regulator: plain words, and nothing that the reader need not know."""

from __future__ import annotations

from events.disputes import Finding, LetterKind, NotifyCustomer, NotifyRegulator

_RIGHT = (
    "If you do not agree, you may take your complaint to the Ombudsman free of charge, within six months of the date "
    "of this letter."
)


def to_customer(command: NotifyCustomer) -> tuple[str, str]:
    """Subject and text of the letter with which a case ends for its customer."""
    if command.kind is LetterKind.REFERRED:
        return (
            f"Your complaint {command.doc_id} was passed on",
            f"Dear customer,\n\nwe have not settled your complaint {command.doc_id} ourselves. We have passed it on to "
            "the Ombudsman, who decides independently of us and will write to you. You need not do anything.\n",
        )
    partly = command.resolution == Finding.PARTIAL_REFUND.value
    decided = "decided it in part in your favour" if partly else "closed it"
    paid = f" We have paid {command.refund:.2f} {command.currency} into your account." if command.refund > 0 else ""
    return (
        f"Your complaint {command.doc_id} is decided",
        f"Dear customer,\n\nwe have looked into your complaint {command.doc_id} and {decided}.{paid}\n\n{_RIGHT}\n",
    )


def to_regulator(command: NotifyRegulator, number: str) -> tuple[str, str]:
    """Subject and text of a regulatory notification; customers are not named in it."""
    facts = {
        "Notification": number,
        "Case": command.doc_id,
        "Category": command.category.value,
        "Severity": command.severity.value,
        "Disputed amount": f"{command.dispute_amount:.2f} {command.currency}",
        "Reason": command.reason,
    }
    lines = "\n".join(f"{name}: {value}" for name, value in facts.items())
    return f"Referral to the Ombudsman: case {command.doc_id}", f"{lines}\n"

"""A notice as a mail: plain text and HTML, headers that cannot be written by anybody but us.

Rules of this file
- The Message-ID is the notice's id, so the same notice is the same mail, however often it is sent.
- Nothing in a header comes from outside without having been cleaned (`words.line`) or checked (`words.mail_address`);
  the standard library's policy refuses a line end once more.
- `Auto-Submitted` and its like keep vacation answers from coming back.
"""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from orchestrator.notices.contract import Notice, NotSentError
from orchestrator.notices.preferences import instant
from orchestrator.notices.words import SUBJECT_CHARACTERS_MAX, AddressError, line, mail_address


def mail_of(notice: Notice, sender: Address) -> EmailMessage:
    """The mail. Raises NotSentError where the recipient's address is none."""
    try:
        to = mail_address(notice.address)
    except AddressError as error:
        raise NotSentError(str(error), retriable=False) from error
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = Address(addr_spec=to)
    mail["Subject"] = line(notice.subject, SUBJECT_CHARACTERS_MAX)
    mail["Date"] = format_datetime(instant(notice.planned_at))
    mail["Message-ID"] = f"<{notice.id}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail.set_content(notice.text)
    mail.add_alternative(notice.html, subtype="html")
    return mail


def sender_of(text: str) -> Address:
    """`Approvals <approvals@bank.example>` as an address. Raises AddressError."""
    name, bracket, rest = text.rpartition("<")
    spec = mail_address(rest.removesuffix(">").strip() if bracket else text.strip())
    return Address(display_name=line(name.strip().strip('"'), 80), addr_spec=spec)

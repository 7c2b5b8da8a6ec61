"""Settings of notices: which channels there are, how they are reached, and every limit.

Rules of this file
- No channel is configured unless somebody does: nothing leaves a fresh installation.
- A wrong address, URL or secret stops the start with its name, not the first notice a week later.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from orchestrator.notices.guard import Guard, NotAllowedError
from orchestrator.notices.mail import sender_of
from orchestrator.notices.preferences import PreferenceError, Preferences
from orchestrator.notices.smtp import MailServer, MailSettingError
from orchestrator.notices.webhook import SecretError, secrets_of
from orchestrator.notices.words import AddressError, mail_address
from orchestrator.setting import number

FILES = "file"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class NoticeSettings(BaseSettings):
    """Part of the settings of a process (`orchestrator.config.Settings`)."""

    notice_mail_url: str = Field(
        default="",
        description="smtps://user@host, smtp+starttls://user@host:587, smtp://host (plain, no password), or "
        "file:///directory for files. Empty: no mail.",
    )
    notice_mail_password: str = Field(default="", repr=False, description="The mail server's password.")
    notice_mail_from: str = Field(
        default="Approvals <approvals@localhost>", description="Who mails are from: Name <address>."
    )
    notice_mail_ca_file: str = Field(default="", description="Certificates that the mail server is checked against.")
    notice_mail_domain: str = Field(
        default="", description="Who has no entry in the address book is <id>@<this domain>. Empty: is told nothing."
    )
    notice_mail_domains: str = Field(
        default="",
        description="Domains, comma-separated: an id that is a mail address there is one, also of people who never "
        "signed in here. Empty: only the one of NOTICE_MAIL_DOMAIN.",
    )
    notice_webhook_url: str = Field(default="", repr=False, description="Where everything is told as well. Empty: no.")
    notice_webhook_secret: str = Field(
        default="", repr=False, description="whsec_<base64>; a second one behind a space while it is changed."
    )
    notice_webhook_allow: str = Field(
        default="",
        description="Hosts, addresses or networks that webhooks may go to although they are not public, "
        "comma-separated.",
    )
    notice_events: bool = Field(
        default=False, description="Tell everything on the broker too: orchestrator.notices.events."
    )
    notice_link_url: str = Field(
        default="",
        description="Where links lead: https://host. Empty: ORCHESTRATOR_PUBLIC_URL, or this process's own address.",
    )
    notice_show_key: bool = Field(default=False, description="Business keys may stand in mails and webhooks.")
    notice_language: str = Field(default="en", description="Of who has chosen none, for example en-IN.")
    notice_zone: str = Field(default="UTC", description="Time zone of who has chosen none, for example Asia/Kolkata.")
    notice_templates_dir: str = Field(default="", description="A directory with templates of your own.")
    notice_poll_ms: Annotated[int, number(1_000, 20, 60_000, "How often records and due notices are looked for.")]
    notice_batch_records: Annotated[int, number(1_000, 10, 10_000, "Records looked at in one go.")]
    notice_batch_rows: Annotated[int, number(50, 1, 1_000, "Notices taken in one go.")]
    notice_attempt_ms: Annotated[int, number(20_000, 500, 120_000, "How long one attempt to send may take.")]
    notice_lease_ms: Annotated[
        int, number(60_000, 1_000, 600_000, "After a crash a notice under way is tried again so much later.")
    ]
    notice_attempts_max: Annotated[int, number(8, 1, 100, "Attempts until a notice is given up.")]
    notice_retry_ms: Annotated[int, number(5_000, 50, 600_000, "Pause after a first attempt; doubled each time.")]
    notice_age_ms_max: Annotated[
        int, number(259_200_000, 60_000, 2_592_000_000, "A notice that could not be sent for so long is given up.")
    ]
    notice_keep_ms: Annotated[
        int, number(2_592_000_000, 60_000, 31_536_000_000, "How long notices that are sent or over are kept.")
    ]

    @model_validator(mode="after")
    def _notices_fit_together(self) -> NoticeSettings:  # noqa: N804 - in "after" mode pydantic passes the instance
        for name, check in (
            ("mail_url", self._check_mail),
            ("mail_from", lambda: sender_of(self.notice_mail_from)),
            ("mail_domain", lambda: self.notice_mail_domain and mail_address(f"x@{self.notice_mail_domain}")),
            ("mail_domains", lambda: [mail_address(f"x@{domain}") for domain in self.mail_domains]),
            ("webhook_secret", lambda: self.notice_webhook_secret and secrets_of(self.notice_webhook_secret)),
            ("webhook_url", lambda: self.notice_webhook_url and Guard().check(self.notice_webhook_url)),
            ("link_url", self._check_link),
            ("zone", lambda: Preferences(zone=self.notice_zone)),
        ):
            try:
                check()
            except (AddressError, MailSettingError, NotAllowedError, PreferenceError, SecretError) as error:
                raise ValueError(f"ORCHESTRATOR_NOTICE_{name.upper()}: {error}") from None
        if self.notice_webhook_url and not self.notice_webhook_secret:
            raise ValueError("ORCHESTRATOR_NOTICE_WEBHOOK_SECRET is missing: webhooks are signed, or not sent")
        if self.notice_lease_ms <= self.notice_attempt_ms:
            raise ValueError(
                f"ORCHESTRATOR_NOTICE_LEASE_MS ({self.notice_lease_ms}) must be more than "
                f"ORCHESTRATOR_NOTICE_ATTEMPT_MS ({self.notice_attempt_ms}): a notice would be taken by another "
                "process while it is being sent"
            )
        return self

    def _check_mail(self) -> None:
        if self.notice_mail_url and self.mailbox_dir is None:
            MailServer.of(self.notice_mail_url, self.notice_mail_password)

    def _check_link(self) -> None:
        parts = urlsplit(self.notice_link_url)
        if self.notice_link_url and (parts.scheme not in ("https", "http") or not parts.hostname or parts.query):
            raise AddressError("it must be https://host")

    @property
    def mail_domains(self) -> frozenset[str]:
        """Domains whose addresses are believed of people who are not known here."""
        named = (domain.strip().lower() for domain in self.notice_mail_domains.split(","))
        return frozenset(domain for domain in named if domain)

    @property
    def mailbox_dir(self) -> Path | None:
        """The directory for mails as files, where that is what mail_url says. Raises MailSettingError."""
        parts = urlsplit(self.notice_mail_url)
        if parts.scheme != FILES:
            return None
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise MailSettingError("files go to file:///directory")
        return Path(unquote(parts.path))

    @property
    def notices_wanted(self) -> bool:
        """A channel is configured."""
        return bool(self.notice_mail_url or self.notice_webhook_secret or self.notice_events)


def production_flaws(settings: NoticeSettings, public_url: str) -> Iterator[tuple[str, str, str]]:
    """What of this is only safe on a laptop: setting, what is wrong, what to do."""
    if not settings.notices_wanted:
        return
    mail = urlsplit(settings.notice_mail_url)
    if settings.mailbox_dir is not None:
        yield "notice_mail_url", "writes mails into files: nobody is told", "name a mail server"
    elif mail.scheme == "smtp" and mail.hostname not in _LOOPBACK:
        yield "notice_mail_url", "sends mails in the clear", "use smtps:// or smtp+starttls://"
    if settings.notice_mail_url and sender_of(settings.notice_mail_from).domain == "localhost":
        yield "notice_mail_from", "is an address of this machine alone", "use one that people can recognise"
    link = settings.notice_link_url or public_url
    if urlsplit(link).scheme != "https":
        yield (
            "notice_link_url",
            "leads people to a page without https, or nowhere",
            "set it, or ORCHESTRATOR_PUBLIC_URL",
        )

"""Planner and sender made from settings. Only wiring: which setting feeds which argument stands here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.broker.contract import Broker
from orchestrator.notices.contract import Channel, Notifier
from orchestrator.notices.events import Events
from orchestrator.notices.guard import Guard
from orchestrator.notices.mail import sender_of
from orchestrator.notices.mailbox import Mailbox
from orchestrator.notices.planner import Planner, Reach
from orchestrator.notices.preferences import Preferences
from orchestrator.notices.sender import Sender, Sending
from orchestrator.notices.settings import NoticeSettings
from orchestrator.notices.smtp import MailServer, SmtpMail
from orchestrator.notices.store import NoticeStore
from orchestrator.notices.texts import Texts
from orchestrator.notices.webhook import Webhook, secrets_of
from orchestrator.store.postgres import PostgresStore


class Notices:
    """Both loops of the role. own_url: gives where this process's pages are, for links where settings name no other."""

    def __init__(
        self, settings: NoticeSettings, store: PostgresStore, broker: Broker, own_url: Callable[[], str]
    ) -> None:
        kept = NoticeStore(store.pools)
        self.planner = Planner(
            store,
            kept,
            reach(settings),
            poll_ms=settings.notice_poll_ms,
            batch_records=settings.notice_batch_records,
            age_ms_max=settings.notice_age_ms_max,
        )
        self.sender = Sender(kept, texts(settings, own_url), channels(settings, broker), limits(settings))

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name, for health pages and metrics."""
        return {
            "notices_planned": self.planner.planned,
            "notices_position": self.planner.position,
            "notices_passed_over": self.planner.passed_over,
            "notices_unreachable": self.planner.unreachable,
            "notices_channels_away": len(self.sender.away),
            **{f"notices_{name}": count for name, count in self.sender.counts.items()},
        }


def reach(settings: NoticeSettings) -> Reach:
    """Which channels there are."""
    return Reach(
        mail=bool(settings.notice_mail_url),
        mail_domain=settings.notice_mail_domain,
        mail_domains=settings.mail_domains,
        webhooks=bool(settings.notice_webhook_secret),
        webhook=settings.notice_webhook_url,
        events=settings.notice_events,
        wishes=Preferences(language=settings.notice_language, zone=settings.notice_zone),
    )


def channels_of(settings: NoticeSettings) -> list[Channel]:
    """The names of the channels that are configured."""
    found: dict[Channel, bool] = {
        "mail": bool(settings.notice_mail_url),
        "webhook": bool(settings.notice_webhook_secret),
        "event": settings.notice_events,
    }
    return [channel for channel, wanted in found.items() if wanted]


def guard(settings: NoticeSettings) -> Guard:
    """Where webhooks may go."""
    return Guard(entry for part in settings.notice_webhook_allow.split(",") if (entry := part.strip()))


def channels(settings: NoticeSettings, broker: Broker) -> dict[Channel, Notifier]:
    """The channels that are configured."""
    found: dict[Channel, Notifier] = {}
    timeout_ms = settings.notice_attempt_ms * 2 // 5  # connecting and sending, within one attempt
    if settings.notice_mail_url:
        sender, directory = sender_of(settings.notice_mail_from), settings.mailbox_dir
        found["mail"] = (
            Mailbox(directory, sender)
            if directory is not None
            else SmtpMail(
                MailServer.of(settings.notice_mail_url, settings.notice_mail_password),
                sender,
                ca_file=settings.notice_mail_ca_file,
                timeout_ms=timeout_ms,
            )
        )
    if settings.notice_webhook_secret:
        keys = secrets_of(settings.notice_webhook_secret)
        found["webhook"] = Webhook(guard(settings), keys, timeout_ms=timeout_ms)
    if settings.notice_events:
        found["event"] = Events(broker)
    return found


def texts(settings: NoticeSettings, own_url: Callable[[], str]) -> Texts:
    """The words."""
    directory = Path(settings.notice_templates_dir) if settings.notice_templates_dir else None
    return Texts(lambda: settings.notice_link_url or own_url(), show_key=settings.notice_show_key, templates=directory)


def limits(settings: NoticeSettings) -> Sending:
    """The limits of sending."""
    return Sending(
        batch_rows=settings.notice_batch_rows,
        poll_ms=settings.notice_poll_ms,
        lease_ms=settings.notice_lease_ms,
        attempt_ms=settings.notice_attempt_ms,
        attempts_max=settings.notice_attempts_max,
        retry_ms=settings.notice_retry_ms,
        age_ms_max=settings.notice_age_ms_max,
        keep_ms=settings.notice_keep_ms,
    )

"""Settings of notices: nothing leaves a fresh installation, and a mistake stops the start with its name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import SettingsError, load_settings
from orchestrator.identity.production import flaws
from orchestrator.notices.settings import production_flaws
from orchestrator.notices.wiring import channels, limits, reach
from tests.simulation.fake_broker import FakeBroker
from tests.simulation.fake_log import Log

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def test_nothing_is_told_until_somebody_says_where() -> None:
    """No channel, no loops, no topic."""
    settings = load_settings()
    assert not settings.notices_wanted
    assert reach(settings).channels == frozenset()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"notice_mail_url": "smtps://bot@mail.example", "notice_mail_password": "pw"}, {"mail"}),
        ({"notice_mail_url": "file:///tmp/mails"}, {"mail"}),
        ({"notice_webhook_secret": SECRET}, {"webhook"}),
        ({"notice_webhook_secret": SECRET, "notice_webhook_url": "https://hooks.example/x"}, {"webhook"}),
        ({"notice_events": True}, {"event"}),
    ],
)
async def test_a_channel_is_there_when_it_is_configured(given: dict[str, Any], expected: set[str]) -> None:
    """And only that one."""
    settings = load_settings(**given)
    assert settings.notices_wanted
    made = channels(settings, FakeBroker(Log(), settings.broker_settings()))
    assert set(made) == expected == reach(settings).channels
    for channel in made.values():
        await channel.rest()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"notice_mail_url": "smtp://bot:hunter2@mail.example"}, "NOTICE_MAIL_URL: smtp:// is not encrypted"),
        ({"notice_mail_url": "mail.example"}, "NOTICE_MAIL_URL: a mail server is"),
        ({"notice_mail_url": "file://host/dir"}, "NOTICE_MAIL_URL: files go to"),
        ({"notice_mail_from": "nobody"}, "NOTICE_MAIL_FROM: 'nobody' is no mail address"),
        ({"notice_mail_domain": "bank example"}, "NOTICE_MAIL_DOMAIN"),
        ({"notice_webhook_url": "https://hooks.example/"}, "NOTICE_WEBHOOK_SECRET is missing"),
        ({"notice_webhook_secret": "hunter2"}, "NOTICE_WEBHOOK_SECRET: a webhook secret is whsec_"),
        ({"notice_webhook_secret": SECRET, "notice_webhook_url": "gopher://x"}, "NOTICE_WEBHOOK_URL: it must begin"),
        ({"notice_link_url": "office.example"}, "NOTICE_LINK_URL"),
        ({"notice_zone": "Mars"}, "NOTICE_ZONE: 'Mars'"),
        ({"notice_lease_ms": 5_000}, "NOTICE_LEASE_MS \\(5000\\) must be more than"),
        ({"notice_attempts_max": 0}, "NOTICE_ATTEMPTS_MAX is 0"),
    ],
)
def test_a_mistake_stops_the_start_and_shows_no_secret(given: dict[str, Any], expected: str) -> None:
    """Not the first notice, a week later."""
    with pytest.raises(SettingsError, match=expected) as caught:
        load_settings(**given)
    assert "hunter2" not in str(caught.value)


def test_settings_reach_what_they_are_for() -> None:
    """Each limit in its place."""
    made = limits(load_settings(notice_attempts_max=3, notice_retry_ms=70, notice_keep_ms=99_000))
    assert (made.attempts_max, made.retry_ms, made.keep_ms) == (3, 70, 99_000)
    delays = [made.delay_us(attempt, 1) for attempt in range(1, 40)]
    assert delays == sorted(delays)
    assert delays[0] >= 70_000
    assert delays[-1] <= made.retry_ms_max * 1_200
    assert load_settings(notice_mail_url="file:///a/b%20c").mailbox_dir == Path("/a/b c")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"notice_mail_url": "file:///tmp/mails"}, ["notice_mail_url", "notice_mail_from", "notice_link_url"]),
        ({"notice_mail_url": "smtp://mail.example"}, ["notice_mail_url", "notice_mail_from", "notice_link_url"]),
        ({"notice_mail_url": "smtp://127.0.0.1", "notice_mail_from": "a@bank.example"}, ["notice_link_url"]),
        ({"notice_events": True, "notice_link_url": "http://office.example"}, ["notice_link_url"]),
        (
            {
                "notice_mail_url": "smtps://mail.example",
                "notice_mail_from": "a@bank.example",
                "notice_link_url": "https://office.example",
            },
            [],
        ),
    ],
)
def test_what_is_only_safe_on_a_laptop_is_named(given: dict[str, Any], expected: list[str]) -> None:
    """A production process does not start with it."""
    settings = load_settings(**given)
    assert [name for name, _, _ in production_flaws(settings, "")] == expected
    if not settings.notice_link_url:
        assert "notice_link_url" not in {name for name, _, _ in production_flaws(settings, "https://office.example")}
    named = "\n".join(flaws(load_settings(**given), {}))
    assert all(f"ORCHESTRATOR_{name.upper()} " in named for name in expected)

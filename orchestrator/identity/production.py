"""What is only safe on a laptop, by name: a production process does not start with it.

Rules of this file
- Each flaw names its setting, what is wrong, and what to do. All are told at once.
- Settings are judged before anything is opened; the database as soon as it can be asked.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.config import OWN_LOG, PREFIX, Settings, SettingsError
from orchestrator.evidence.settings import production_flaws as evidence_flaws
from orchestrator.metrics import settings as metrics
from orchestrator.notices.settings import production_flaws

_PLAIN_TLS = frozenset({"disable", "allow", "prefer"})
_SECRET_CHARACTERS_MIN = 16


class UnsafeError(SettingsError):
    """A production process would not be safe. One line for each flaw."""


def refuse_unsafe(settings: Settings, environment: Mapping[str, str] | None = None) -> None:
    """Raises UnsafeError where this is production and a setting is not fit for it."""
    if settings.environment == "production":
        _raise(list(flaws(settings, os.environ if environment is None else environment)))


def refuse_unsafe_database(settings: Settings, found: Mapping[str, Any]) -> None:
    """The same for what the database says of itself (statement `server_flaws`)."""
    if settings.environment == "production":
        _raise(list(database_flaws(found)))


def flaws(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """What settings are not fit for production."""
    yield from _development_only(settings, environment)
    if "api" in settings.role_names:
        yield from _web(settings)
    yield from _database(settings)
    yield from _kafka(settings)
    yield from _vault(settings)
    for flaw in (*production_flaws(settings, settings.public_url), *metrics.production_flaws(settings)):
        yield _flaw(*flaw)
    if "coordinator" in settings.role_names:
        for flaw in evidence_flaws(settings, _is_kafka(settings)):
            yield _flaw(*flaw)


def _vault(settings: Settings) -> Iterator[str]:
    url = urlsplit(settings.key_service_url)
    if settings.key_service_url and url.scheme != "https" and not _stays_here(url.hostname):
        yield _flaw("key_service_url", "is not https: the API key could be read on the way", "use its https address")
    if not settings.vault_key_file and not (settings.key_service_url and settings.role_names == {"participants"}):
        yield _flaw(
            "vault_key_file",
            "is missing: what sagas hold of persons could never be erased",
            "make a key file with `orchestrator vault init`, and keep it apart from the database",
        )


def database_flaws(found: Mapping[str, Any]) -> Iterator[str]:
    """What a database is not fit for production."""
    if found["superuser"]:
        yield _flaw("database_url", "logs in as a superuser, who can change the audit trail", "use orchestrator_app")
    elif found["bypasses_rls"]:
        yield _flaw("database_url", "logs in as a role that bypasses row security", "use orchestrator_app")
    for name in ("fsync", "full_page_writes"):
        if found[name] != "on":
            yield f"PostgreSQL {name} is {found[name]}: a power cut loses what was promised. Set it to on."
    if found["synchronous_commit"] in ("off", "local"):
        yield (
            f"PostgreSQL synchronous_commit is {found['synchronous_commit']}: answers are given before they are safe. "
            "Set it to on."
        )


def _development_only(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    if settings.believes_headers:
        yield _flaw(
            "header_actors", "anybody on this machine may be anybody", "unset it; people sign in, services use keys"
        )
    if settings.has_local_users:
        yield _flaw("local_users", "local users are for demonstrations", "unset it, and connect an identity provider")
    for name in (f"{PREFIX}DEBUG", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE"):
        if environment.get(name):
            yield f"{name} is set: tracebacks and slow checks are for whoever mends the product. Unset it."
    if settings.log_level == "debug":
        yield _flaw("log_level", "debug writes what should stay in the database", "set it to info")


def _web(settings: Settings) -> Iterator[str]:
    if not settings.public_url:
        yield _flaw("public_url", "is missing", "set it to https://<host>, as browsers know this product")
    elif not settings.is_https:
        yield _flaw("public_url", "is not https: sessions could be read on the way", "serve it by https")
    allowed = {part.strip() for part in settings.allowed_hosts.split(",") if part.strip()}
    if not allowed:
        yield _flaw("allowed_hosts", "is missing", "name the hosts that requests may ask for, as the proxy sends them")
    elif any("*" in name for name in allowed):
        yield _flaw("allowed_hosts", "holds a wildcard", "name each host")
    if not settings.oidc_issuer:
        yield _flaw("oidc_issuer", "is missing: nobody could sign in", "name your identity provider")
    elif urlsplit(settings.oidc_issuer).scheme != "https":
        yield _flaw("oidc_issuer", "is not https: whoever is in between could be anybody", "use its https address")
    elif not settings.oidc_client_id:
        yield _flaw("oidc_client_id", "is missing", "register this product at the provider")
    if settings.oidc_issuer and not settings.capacities:
        yield _flaw("capacities", "is missing: nobody could do anything", "for example approver=finance, operator=sre")
    if settings.oidc_audience and settings.oidc_audience == settings.oidc_client_id:
        yield _flaw(
            "oidc_audience", "is the client's id: an ID token would pass for an access token", "give the API its own"
        )
    if settings.oidc_client_secret and len(settings.oidc_client_secret) < _SECRET_CHARACTERS_MIN:
        yield _flaw("oidc_client_secret", "can be guessed", f"use at least {_SECRET_CHARACTERS_MIN} random characters")
    if any(network.prefixlen == 0 for network in settings.proxy_networks):
        yield _flaw("trusted_proxies", "believes everybody", "name the networks of your own proxies")


def _database(settings: Settings) -> Iterator[str]:
    if not settings.database_url:
        yield _flaw("database_url", "is missing: the embedded server is for a laptop", "name a PostgreSQL of your own")
        return
    parts = urlsplit(settings.database_url)
    if parts.username in ("postgres", "root", "orchestrator_owner"):
        yield _flaw("database_url", f"logs in as {parts.username}", "use orchestrator_app, who cannot change history")
    mode = parse_qs(parts.query).get("sslmode", ["prefer"])[-1]
    if mode in _PLAIN_TLS and not _stays_here(parts.hostname):
        yield _flaw("database_url", "may go over the network in the clear", "add ?sslmode=verify-full")


def _kafka(settings: Settings) -> Iterator[str]:
    if not _is_kafka(settings):
        return
    if settings.kafka_protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        yield _flaw("kafka_protocol", f"is {settings.kafka_protocol}: messages go in the clear", "use SASL_SSL or SSL")
    elif settings.kafka_protocol == "SSL" and not settings.kafka_cert_file:
        yield _flaw("kafka_protocol", "is SSL without a certificate of ours: the broker cannot know us", "use SASL_SSL")


def _is_kafka(settings: Settings) -> bool:
    return urlsplit(settings.broker_url).scheme == "kafka" and settings.broker_url != OWN_LOG


def _flaw(name: str, wrong: str, remedy: str) -> str:
    return f"{PREFIX}{name.upper()} {wrong}. To do: {remedy}."


def _stays_here(host: str | None) -> bool:
    """True for a socket or an address of this machine."""
    if not host or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _raise(found: list[str]) -> None:
    if found:
        intro = f"{PREFIX}ENVIRONMENT is production, and this is not fit for it:"
        raise UnsafeError("\n".join([intro, *found]))

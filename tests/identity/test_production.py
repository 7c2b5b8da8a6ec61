"""J7: a production process does not start with what is only safe on a laptop; each flaw names its setting."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import SettingsError, load_settings
from orchestrator.identity.production import UnsafeError, database_flaws, refuse_unsafe, refuse_unsafe_database

SAFE: dict[str, Any] = {
    "environment": "production",
    "public_url": "https://orchestrator.bank.example",
    "allowed_hosts": "orchestrator.bank.example",
    "oidc_issuer": "https://login.bank.example",
    "oidc_client_id": "orchestrator",
    "oidc_client_secret": "a random text of enough characters",
    "oidc_audience": "https://api.orchestrator.bank.example",
    "capacities": "approver=finance, operator=sre",
    "database_url": "postgresql://orchestrator_app@db.bank.example/orchestrator?sslmode=verify-full",
    "broker_url": "kafka://kafka.bank.example:9093",
    "kafka_protocol": "SASL_SSL",
    "vault_key_file": "/run/secrets/vault.keys",
    "evidence_key_file": "/run/secrets/log.key",
    "evidence_topic": "audit.checkpoints",
}

UNSAFE: list[tuple[dict[str, Any], str]] = [
    ({"vault_key_file": ""}, "ORCHESTRATOR_VAULT_KEY_FILE"),
    ({"vault_key_file": "", "key_service_url": "https://orchestrator.bank.example"}, "ORCHESTRATOR_VAULT_KEY_FILE"),
    ({"key_service_url": "http://orchestrator.bank.example"}, "ORCHESTRATOR_KEY_SERVICE_URL"),
    ({"header_actors": True}, "ORCHESTRATOR_HEADER_ACTORS"),
    ({"local_users": True}, "ORCHESTRATOR_LOCAL_USERS"),
    ({"log_level": "debug"}, "ORCHESTRATOR_LOG_LEVEL"),
    ({"public_url": ""}, "ORCHESTRATOR_PUBLIC_URL"),
    ({"public_url": "http://orchestrator.bank.example"}, "ORCHESTRATOR_PUBLIC_URL"),
    ({"allowed_hosts": ""}, "ORCHESTRATOR_ALLOWED_HOSTS"),
    ({"allowed_hosts": "*"}, "ORCHESTRATOR_ALLOWED_HOSTS"),
    ({"allowed_hosts": "*.bank.example"}, "ORCHESTRATOR_ALLOWED_HOSTS"),
    ({"trusted_proxies": "0.0.0.0/0"}, "ORCHESTRATOR_TRUSTED_PROXIES"),
    ({"oidc_issuer": ""}, "ORCHESTRATOR_OIDC_ISSUER"),
    ({"oidc_issuer": "http://login.bank.example"}, "ORCHESTRATOR_OIDC_ISSUER"),
    ({"oidc_client_id": ""}, "ORCHESTRATOR_OIDC_CLIENT_ID"),
    ({"oidc_client_secret": "secret"}, "ORCHESTRATOR_OIDC_CLIENT_SECRET"),
    ({"oidc_audience": "orchestrator"}, "ORCHESTRATOR_OIDC_AUDIENCE"),
    ({"capacities": ""}, "ORCHESTRATOR_CAPACITIES"),
    ({"database_url": ""}, "ORCHESTRATOR_DATABASE_URL"),
    ({"database_url": "postgresql://postgres@localhost/orchestrator"}, "ORCHESTRATOR_DATABASE_URL"),
    ({"database_url": "postgresql://orchestrator_app@db.bank.example/o"}, "ORCHESTRATOR_DATABASE_URL"),
    ({"database_url": "postgresql://orchestrator_app@db.bank.example/o?sslmode=prefer"}, "ORCHESTRATOR_DATABASE_URL"),
    ({"kafka_protocol": "PLAINTEXT"}, "ORCHESTRATOR_KAFKA_PROTOCOL"),
    ({"kafka_protocol": "SASL_PLAINTEXT"}, "ORCHESTRATOR_KAFKA_PROTOCOL"),
    ({"kafka_protocol": "SSL"}, "ORCHESTRATOR_KAFKA_PROTOCOL"),
    ({"evidence_key_file": ""}, "ORCHESTRATOR_EVIDENCE_KEY_FILE"),
    ({"evidence_seal_ms": 0}, "ORCHESTRATOR_EVIDENCE_SEAL_MS"),
    ({"evidence_topic": ""}, "ORCHESTRATOR_EVIDENCE_FILE"),
    ({"evidence_url": "http://worm.bank.example/log"}, "ORCHESTRATOR_EVIDENCE_URL"),
    ({"broker_url": "postgres://"}, "ORCHESTRATOR_EVIDENCE_TOPIC"),
]


def test_what_is_safe_starts() -> None:
    """Nothing else than the flaws below is asked for."""
    refuse_unsafe(load_settings(**SAFE), {})
    lent = {"vault_key_file": "", "key_service_url": "https://orchestrator.bank.example", "roles": "participants"}
    refuse_unsafe(load_settings(**{**SAFE, **lent}), {})


@pytest.mark.parametrize(("changed", "named"), UNSAFE, ids=lambda value: str(value)[:60])
def test_production_refuses_by_name(changed: dict[str, Any], named: str) -> None:
    """One flaw, one line: the setting and what to do; its value is not shown."""
    with pytest.raises(UnsafeError) as refused:
        refuse_unsafe(load_settings(**{**SAFE, **changed}), {})
    _, *lines = str(refused.value).splitlines()
    assert [line.split()[0] for line in lines] == [named]
    assert all("To do:" in line for line in lines)
    assert "secret" not in lines[0].removeprefix(named)


@pytest.mark.parametrize("name", ["ORCHESTRATOR_DEBUG", "PYTHONASYNCIODEBUG"])
def test_production_refuses_to_be_debugged(name: str) -> None:
    """Tracebacks are for whoever mends the product."""
    with pytest.raises(UnsafeError, match=name):
        refuse_unsafe(load_settings(**SAFE), {name: "1"})


def test_all_flaws_are_told_at_once() -> None:
    """Nobody starts a process ten times to find ten of them; and it is an error of settings, with its exit code."""
    bare = load_settings(environment="production", broker_url="kafka://kafka:9092")
    with pytest.raises(SettingsError) as refused:
        refuse_unsafe(bare, {"ORCHESTRATOR_DEBUG": "1"})
    told = str(refused.value)
    for name in ("PUBLIC_URL", "ALLOWED_HOSTS", "OIDC_ISSUER", "DATABASE_URL", "KAFKA_PROTOCOL", "DEBUG"):
        assert f"ORCHESTRATOR_{name}" in told


@pytest.mark.parametrize("environment", ["development", "test"])
def test_elsewhere_a_laptop_is_fine(environment: str) -> None:
    """Nothing is asked of a developer."""
    refuse_unsafe(load_settings(environment=environment), {"ORCHESTRATOR_DEBUG": "1"})


def test_a_process_without_http_needs_no_provider() -> None:
    """A coordinator has no browsers to sign in."""
    settings = {
        name: value for name, value in SAFE.items() if not name.startswith(("oidc", "public", "allowed", "cap"))
    }
    refuse_unsafe(load_settings(**settings, roles="coordinator,relay,timers"), {})


FINE = {
    "superuser": False, "bypasses_rls": False, "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"superuser": True}, "superuser"),
        ({"bypasses_rls": True}, "row security"),
        ({"fsync": "off"}, "fsync"),
        ({"full_page_writes": "off"}, "full_page_writes"),
        ({"synchronous_commit": "off"}, "synchronous_commit"),
    ],
)
def test_production_refuses_a_database_that_forgets_or_forgives(changed: dict[str, Any], named: str) -> None:
    """A superuser can change the audit trail; without fsync a power cut loses what was promised."""
    assert list(database_flaws(FINE)) == []
    with pytest.raises(UnsafeError, match=named):
        refuse_unsafe_database(load_settings(**SAFE), {**FINE, **changed})
    refuse_unsafe_database(load_settings(), {**FINE, **changed})


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacities": "boss=finance"},
        {"capacities": "approver"},
        {"step_up_amounts": "EUR"},
        {"step_up_amounts": "EUR=-5"},
        {"trusted_proxies": "10.0.0.0/99"},
        {"public_url": "ftp://x"},
        {"public_url": "https://host/path"},
        {"oidc_issuer": "javascript:alert(1)"},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_read_stops_the_start(wrong: dict[str, Any]) -> None:
    """Also outside of production, with its name."""
    (name,) = wrong
    with pytest.raises(SettingsError, match=f"ORCHESTRATOR_{name.upper()}"):
        load_settings(**wrong)


def test_a_secret_is_not_in_an_error() -> None:
    """Nor in what a settings object shows of itself."""
    settings = load_settings(oidc_client_secret="very-secret-indeed")
    assert "very-secret-indeed" not in repr(settings)

"""Settings: every mistake is named by its variable, before anything runs."""

from __future__ import annotations

import pytest

from orchestrator.config import PREFIX, ROLES, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_the_defaults_run_on_a_laptop() -> None:
    settings = load_settings()
    assert settings.role_names == set(ROLES)
    assert settings.api_host == "127.0.0.1"
    assert settings.tenants == {"main"}
    assert settings.resolved_broker_url("postgresql://here/db") == "postgresql://here/db"
    assert settings.broker_settings().message_bytes_max == settings.message_bytes_max


def test_variables_are_read_and_given_values_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "kafka://k1:9092,k2:9092")
    monkeypatch.setenv("ORCHESTRATOR_SAGAS", "shop, bank.transfers")
    monkeypatch.setenv("ORCHESTRATOR_ROLES", "relay")
    settings = load_settings(roles="timers,relay")
    assert settings.resolved_broker_url("postgresql://here/db") == "kafka://k1:9092,k2:9092"
    assert settings.saga_modules == ("shop", "bank.transfers")
    assert settings.role_names == {"timers", "relay"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"intake_batch_messages": 0}, r"ORCHESTRATOR_INTAKE_BATCH_MESSAGES is 0: .*Range: 1 to 10000"),
        ({"timer_poll_ms": "soon"}, r"ORCHESTRATOR_TIMER_POLL_MS is 'soon': .*whole number|valid integer"),
        ({"timer_poll_ms": 500}, r"ORCHESTRATOR_TIMER_POLL_MS is 500"),
        ({"roles": "coordinator,boss"}, r"ORCHESTRATOR_ROLES has \['boss'\]; it may have coordinator, relay"),
        ({"sagas": " , "}, r"ORCHESTRATOR_SAGAS is empty"),
        ({"tenant": "two words"}, r"ORCHESTRATOR_TENANT is 'two words': must be one word"),
        ({"database_url": "mysql://root:secret@x"}, r"ORCHESTRATOR_DATABASE_URL must begin with postgresql://"),
        ({"outbox_backlog_rows_max": 30_000}, r"OUTBOX_BACKLOG_ROWS_MAX \(30000\) must not be more than"),
        ({"pool_coordinator_max": 2}, r"POOL_COORDINATOR_MAX \(2\) must be more than"),
        ({"relay_shard": 3}, r"RELAY_SHARD \(3\) must be less than"),
        ({"inbox_keep_ms": 60_000}, r"INBOX_KEEP_MS \(60000\) must not be less than"),
        ({"nonsense": 1}, r"ORCHESTRATOR_NONSENSE"),
    ],
)
def test_a_bad_value_is_named_with_what_it_may_be(given: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load_settings(**given)


def test_all_mistakes_are_listed_at_once_and_secrets_are_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(intake_lanes=0, api_port=70_000, database_url="mysql://root:secret@x")
    text = str(caught.value)
    assert len(text.splitlines()) == 3
    assert "secret" not in text


def test_a_misspelt_variable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABSE_URL", "postgresql://x")
    with pytest.raises(SettingsError, match=r"ORCHESTRATOR_DATABSE_URL: .* did you mean ORCHESTRATOR_DATABASE_URL"):
        load_settings()


def test_a_foreign_variable_with_our_prefix_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SOMEBODY_ELSES_TOKEN", "x")
    assert load_settings().tenant == "main"


def test_every_limit_is_documented_and_has_its_unit_in_the_name() -> None:
    units = (
        "_ms",
        "_max",
        "_bytes",
        "_rows",
        "_records",
        "_messages",
        "_lanes",
        "_partitions",
        "_port",
        "_shard",
        "_shards",
        "_blocks",
        "_amount",
    )
    for name, field in Settings.model_fields.items():
        if field.annotation is int:
            assert field.description, name
            assert "Range:" in field.description, name
            assert name.endswith(units) or "_max_" in name, name

"""Settings come from SLIPWAY_* variables, all wrong ones named at once."""

import pytest
from slipway_runtime.settings import DatabaseSettings, ServiceSettings, SettingsError


class Settings(ServiceSettings, DatabaseSettings):
    """What a service with a database has."""


def test_variables_become_typed_fields() -> None:
    settings = Settings.from_env({"SLIPWAY_GRPC_PORT": "9000", "SLIPWAY_DATABASE_URL": "postgresql://x"})

    assert settings.grpc_port == 9000
    assert settings.database_url == "postgresql://x"


def test_missing_and_bad_variables_are_named_together() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"SLIPWAY_GRPC_PORT": "many"})

    assert "SLIPWAY_GRPC_PORT" in str(refused.value)
    assert "SLIPWAY_DATABASE_URL" in str(refused.value)


def test_settings_cannot_be_changed() -> None:
    settings = Settings.from_env({"SLIPWAY_DATABASE_URL": "postgresql://x"})

    with pytest.raises(ValueError, match="frozen"):
        settings.grpc_port = 1  # type: ignore[misc]


def test_every_field_says_what_it_means() -> None:
    undocumented = [name for name, field in Settings.model_fields.items() if not field.description]

    assert undocumented == []

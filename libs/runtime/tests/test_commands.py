"""The command line that every service has."""

import sys

import pytest
from slipway_runtime.commands import run
from slipway_runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """Those of no service."""


def invoke(monkeypatch: pytest.MonkeyPatch, verb: str) -> list[str]:
    """Run a verb; return the database URLs that `serve` was called with."""
    seen: list[str] = []
    monkeypatch.setattr(sys, "argv", ["main", verb])
    run("slipway_nobody", Settings, serve=lambda settings: seen.append(settings.database_url))
    return seen


def test_the_verb_gets_the_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", "postgresql+psycopg://nowhere/none")
    monkeypatch.setenv("SLIPWAY_JWKS", "/nowhere")

    assert invoke(monkeypatch, "serve") == ["postgresql+psycopg://nowhere/none"]


def test_a_missing_setting_ends_it_with_code_2_and_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLIPWAY_DATABASE_URL", raising=False)

    with pytest.raises(SystemExit) as ended:
        invoke(monkeypatch, "serve")

    assert ended.value.code == 2
    assert "SLIPWAY_DATABASE_URL" in capsys.readouterr().err


def test_an_unknown_verb_is_answered_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        invoke(monkeypatch, "sing")

    assert "'serve', 'migrate'" in capsys.readouterr().err

"""The settings that come from the environment: where no file holds a password."""

from __future__ import annotations

import pytest

from lipwright.config import FILES_VARIABLE, STATE_VARIABLE, PipelineConfig
from lipwright.errors import ConfigError

URL = "postgresql://lipwright:secret@db.example/lipwright"


def test_state_is_read_from_the_environment_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    assert PipelineConfig().state is None
    for nothing in ("", " "):
        monkeypatch.setenv(STATE_VARIABLE, nothing)
        assert PipelineConfig().state is None, "compose files hand on what is not set as an empty text"
    monkeypatch.setenv(STATE_VARIABLE, URL)
    assert PipelineConfig().state == URL
    assert "secret" not in repr(PipelineConfig())
    assert PipelineConfig.model_validate({"state": None}).state is None
    other = "postgresql://other.example/lipwright"
    assert PipelineConfig.model_validate({"state": other}).state == other


@pytest.mark.parametrize("wrong", ["mysql://lipwright:secret@db.example/x", "secret@db.example", "sqlite:///x"])
def test_state_other_url_raises_without_its_password(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(STATE_VARIABLE, wrong)
    with pytest.raises(ConfigError, match=r"LIPWRIGHT_STATE: expected postgresql://.*, found ") as caught:
        PipelineConfig()
    assert "secret" not in str(caught.value)


def test_files_is_read_from_the_environment_unless_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILES_VARIABLE, "s3://ours/here")
    assert PipelineConfig().files == "s3://ours/here"
    assert PipelineConfig.model_validate({"files": None}).files is None
    monkeypatch.setenv(FILES_VARIABLE, "/srv/files")
    with pytest.raises(ConfigError, match=r"^LIPWRIGHT_FILES: expected s3://bucket/prefix, found no URL\.$"):
        PipelineConfig()

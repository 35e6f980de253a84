"""The settings that come from the environment: where no file holds a password."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config import FILES_VARIABLE, RENAMED_KEYS, STATE_VARIABLE, PipelineConfig
from errors import ConfigError

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


def test_renamed_keys_work_under_old_names_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    old = {
        "memory": {"max_loaded": 5},
        "speech": {"packaged": False, "max_at_a_time": 7},
        "newest_leads": True,
        "jobs": {"max_takeups": 2, "keep_finished_s": 60, "max_queue_share": 0.25, "max_attempts": 3},
        "live": {"moment_seconds": 0.1, "moment_timeout_s": 5, "lead_seconds": 0.2, "stand_in_after_s": 1},
        "decoder": {"is_confined": False},
        "limits": {"max_gap_seconds": 10},
        "heygem": {"chaofen_engine": "wav2lip:gan"},
    }
    before = repr(old)
    config = PipelineConfig.model_validate(old)
    assert repr(old) == before, "the caller's own mapping is left alone"
    assert config.engine_cache.max_loaded == 5
    assert (config.tts.use_builtin, config.tts.max_concurrent) == (False, 7)
    assert config.handover_to_newest
    jobs = config.jobs
    assert (jobs.max_restarts, jobs.retention_s, jobs.max_queue_share_per_key, jobs.max_attempts) == (2, 60, 0.25, 3)
    live = config.live
    assert (live.chunk_seconds, live.chunk_timeout_s) == (0.1, 5)
    assert (live.min_buffer_seconds, live.fallback_after_s) == (0.2, 1)
    assert not config.decoder.sandbox
    assert config.limits.max_frozen_seconds == 10
    assert config.heygem.super_resolution_engine == "wav2lip:gan"
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == len(RENAMED_KEYS)
    for name, new in RENAMED_KEYS.items():
        assert any(f"{name} has been renamed to {new};" in message for message in warned)
    caplog.clear()
    PipelineConfig.model_validate({"jobs": {"max_restarts": 2}, "tts": {"use_builtin": False}, "engine_cache": {}})
    assert not caplog.records


@pytest.mark.parametrize(
    ("both", "message"),
    [
        ({"jobs": {"max_takeups": 2, "max_restarts": 2}}, "jobs.max_takeups is the old name of jobs.max_restarts"),
        ({"memory": {}, "engine_cache": {}}, "memory is the old name of engine_cache"),
        ({"tts": {"packaged": True, "use_builtin": True}}, "tts.packaged is the old name of tts.use_builtin"),
    ],
)
def test_setting_under_both_names_raises(both: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=f"{message}, but both are set"):
        PipelineConfig.model_validate(both)


def test_renamed_keys_name_settings_that_exist() -> None:
    for old, new in RENAMED_KEYS.items():
        section, _, key = new.rpartition(".")
        model = PipelineConfig.model_fields[section].annotation if section else PipelineConfig
        assert model is not None and key in model.model_fields
        assert old.rpartition(".")[2] not in model.model_fields

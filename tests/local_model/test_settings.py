"""What a config may say of a local model, and what is said where one cannot be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import Config
from orchestrator.app.connections import open_client
from orchestrator.app.lane_plans import lane_plans
from orchestrator.config import load_config
from orchestrator.core.errors import ConfigError
from orchestrator.core.lanes import Lane
from orchestrator.job.spec import Job

pytestmark = pytest.mark.anyio


def config_of(folder: Path, **settings: object) -> Config:
    (folder / "config.yaml").write_text(f"provider: {{local_model: {settings}}}\n")
    return load_config(folder / "config.yaml", environ={"OPENAI_BASE_URL": "https://elsewhere.example/v1"})


def test_it_is_free_needs_no_key_and_is_not_replaced_by_the_environment(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config.is_free
    assert config.api_key({}) is None
    assert config.provider.address == "local model"
    assert not config.simulated


@pytest.mark.parametrize("other", ["sandbox: {}", "base_url: http://localhost:1/v1"])
def test_it_stands_beside_no_other_provider(tmp_path: Path, other: str) -> None:
    (tmp_path / "config.yaml").write_text(f"provider:\n  local_model: {{}}\n  {other}\n")
    with pytest.raises(ConfigError, match="cannot stand beside"):
        load_config(tmp_path / "config.yaml", environ={})


@pytest.mark.parametrize("settings", ["", " null", " {at_once: 0}", " {context_tokens: 1}", " {model: x}"])
def test_wrong_settings_are_refused(tmp_path: Path, settings: str) -> None:
    (tmp_path / "config.yaml").write_text(f"provider:\n  local_model:{settings}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2"):
        load_config(tmp_path / "config.yaml", environ={})


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"", "GGUF"), (b"GGML....", "GGUF")])
async def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        async with open_client(config_of(tmp_path, file="model.gguf"), None):
            pass
    assert refused.value.where == str(tmp_path / "model.gguf")


@pytest.mark.parametrize(("lane", "taken"), [("background", Lane.SYNC), ("sync", Lane.SYNC)])
def test_calls_are_held_since_there_is_no_background_mode(tmp_path: Path, lane: str, taken: Lane) -> None:
    job = Job.model_validate(
        {"name": "j", "input": {"path": "x.jsonl"}, "request": {"model": "m", "input": "a"}, "lane": lane}
    )
    assert lane_plans(config_of(tmp_path), job, ["main"])["main"].asked == taken
    assert lane_plans(Config(), job, ["main"])["main"].asked == lane

"""A configuration written in full says all there is to say, and reads back as itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, Field

from molbfn.benchmarks.config import BenchConfig
from molbfn.config import Config, EGNNConfig, TransformerConfig
from molbfn.config_file import bundled_configs, load_config, read_config, sections_of
from molbfn.config_text import config_text


@pytest.mark.parametrize("name", sorted(bundled_configs()))
def test_bundled_configs_read_back_as_themselves(name: str, tmp_path: Path):
    config = load_config(name)
    path = tmp_path / "full.yaml"
    path.write_text(config_text(config))
    assert load_config(path) == config


@pytest.mark.parametrize("name", sorted(bundled_configs("bench")))
def test_benchmarks_read_back_as_themselves(name: str, tmp_path: Path):
    config = read_config(BenchConfig, name, bundled=bundled_configs("bench"))
    path = tmp_path / "full.yaml"
    path.write_text(config_text(config))
    assert read_config(BenchConfig, path, bundled={}) == config


def keys_of(kind: type[BaseModel]) -> set[str]:
    return set(kind.model_fields)


def test_every_key_is_there():
    values = yaml.safe_load(config_text(Config()))
    assert set(values) == keys_of(Config)
    assert set(values["network"]) == keys_of(TransformerConfig)
    assert next(iter(values["network"])) == "kind"
    assert set(values["training"]) == keys_of(type(Config().training))


def test_other_kinds_and_absent_sections_are_comments_ready_to_be_taken():
    lines = config_text(Config()).splitlines()
    start = lines.index(next(line for line in lines if "EGNN" in line))
    block = [lines[start]]
    for line in lines[start + 1 :]:
        if not line.startswith("#  "):
            break
        block.append(line)
    taken = yaml.safe_load("\n".join(line.removeprefix("# ") for line in block))
    assert taken == {"network": EGNNConfig().model_dump()}
    assert any(line.startswith("charges: null") for line in lines)
    assert any(line.startswith("# charges:") for line in lines)


class Small(BaseModel):
    """An example."""

    count: int = Field(3, ge=1, lt=9, description="how many")
    ratio: float = 0.5


def test_a_remark_says_what_range_and_default():
    assert config_text(Small()).splitlines()[0].split(" # ")[1] == "how many; at least 1, below 9"
    told = config_text(Small(count=4)).splitlines()[0]
    assert told.split(" # ")[1] == "how many; at least 1, below 9; default 3"
    assert told.split()[:2] == ["count:", "4"]
    assert config_text(Small()).splitlines()[1] == "ratio: 0.5"


def test_lines_of_comments_are_no_longer_than_a_screen():
    text = config_text(load_config("qm9"))
    assert all(len(line) <= 100 for line in text.splitlines() if " # " in line and "[[" not in line)


def test_every_key_is_explained():
    def unexplained(section: type[BaseModel]) -> Iterator[str]:
        for name, field in section.model_fields.items():
            sections = sections_of(field.annotation)
            for inner in sections:
                yield from (f"{name}.{key}" for key in unexplained(inner))
            if not sections and name != "kind" and not field.description:
                yield name

    assert not list(unexplained(Config))
    assert not list(unexplained(BenchConfig))

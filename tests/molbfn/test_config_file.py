"""Every mistake in a config file is one line that says where and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from molbfn.config import ClipConfig, Config, EGNNConfig, ModelConfig
from molbfn.config_file import load_config, parse_config
from molbfn.errors import UserError


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "my.yaml"
        path.write_text(text)
        return path

    return write


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_empty_file_gives_the_defaults(write):
    assert load_config(write("")) == Config()


def test_empty_sections_give_the_defaults(write):
    assert load_config(write("training:\nname: a\n")) == Config(name="a")


def test_values_arrive(write):
    text = "training:\n  learning_rate: 1e-4\n  steps: 1e3\n  clip:\n    factor: 3\n"
    training = load_config(write(text)).training
    assert (training.learning_rate, training.steps) == (1e-4, 1000)
    assert training.clip == ClipConfig(factor=3.0)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("name: a\ntraining:\n  stepz: 3\n", 3, "'training.stepz'; did you mean 'steps'?"),
        ("trainin:\n  steps: 3\n", 1, "'trainin'; did you mean 'training'?"),
        ("network:\n  kind: egnn\n  hiden: 3\n", 3, "'network.hiden'; did you mean 'hidden'?"),
        ("network:\n  zzz: 3\n", 2, "'network.zzz'; known here: blocks, condition_width"),
        ("training:\n  clip:\n    factr: 3\n", 3, "'training.clip.factr'; did you mean 'factor'?"),
        ("network:\n  kind: transfomer\n", 2, "did you mean 'transformer'?"),
        ("network: 5\n", 1, "'network': expected a section"),
        ("training: 5\n", 1, "'training': expected a section"),
        ("training:\n  steps: abc\n", 2, "'training.steps': input should be a valid integer"),
        (
            "training:\n  steps: true\n",
            2,
            "'training.steps': expected a number or a name, got True",
        ),
        ("training:\n  steps: 0\n", 2, "'training.steps': input should be greater than or equal"),
        ("training:\n  clip: -1\n", 2, "'training.clip': input should be greater than 0, got -1"),
        ("training:\n  betas: [0.9, 2]\n", 2, "'training.betas.1': input should be less than 1"),
        ("data:\n  buckets: [1, a]\n", 2, "'data.buckets.1': input should be a valid integer"),
        ("data:\n  elements: [H, Xx]\n", 2, "'data.elements': unknown element 'Xx'"),
        ("network:\n  width: 65\n", 1, "'network': heads (8) must divide width (65)"),
        ("a: 1\nname: b\nname: c\n", 3, "key 'name' is given twice"),
        ("data:\n  split: a\n  split: b\n", 3, "key 'data.split' is given twice"),
        ("name: a\ndata: [\n", 3, "expected the node content"),
        ("name: a\n\tdata: 3\n", 2, "cannot start any token"),
        ("5: 3\n", 1, "'5': keys should be strings"),
    ],
)
def test_mistakes_name_file_line_and_key(write, text: str, line: int, expected: str):
    path = write(text)
    found = message(path)
    assert found.startswith(f"{path}:{line}: ")
    assert expected in found


def test_other_tops_are_refused(write):
    assert "'key: value'" in message(write("- a\n- b\n"))


def test_missing_and_unreadable_files(tmp_path: Path, write):
    assert "no such config file" in message(tmp_path / "none.yaml")
    assert "is a folder" in message(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: \xe9\xff\n")
    assert "cannot be read" in message(path)


def test_overrides_replace_and_add(write):
    path = write("training:\n  steps: 5\n")
    config = load_config(path, ["training.steps=7", "network.kind=egnn", "data.buckets=[3, 4]"])
    assert config.training.steps == 7
    assert isinstance(config.network, EGNNConfig)
    assert config.data.buckets == (3, 4)


def test_an_override_of_a_preset_keeps_the_rest_of_it(write):
    path = write("sampling: {presets: {20: {sampler: ode, renoise_from: 0.35, temperature: 0.8}}}")
    preset = load_config(path, ["sampling.presets.20.temperature=0.9"]).sampling.presets[20]
    assert (preset.sampler, preset.renoise_from, preset.temperature) == ("ode", 0.35, 0.9)


def test_an_override_fills_an_empty_section(write):
    assert load_config(write("training:\n"), ["training.steps=7"]).training.steps == 7


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainin.steps=3", "unknown key 'trainin'; did you mean 'training'?"),
        ("training.steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("training..steps=3", "expected key=value"),
        ("name.x=3", "'name' is a value, not a section"),
        ("training.steps=[", "not valid YAML"),
        ("name=2025-13-01", "not valid YAML"),
        ("training.stepz=3", "did you mean 'steps'?"),
        ("training.steps=abc", "'training.steps': input should be a valid integer"),
    ],
)
def test_a_wrong_override_is_named_and_not_the_file(write, override: str, expected: str):
    found = message(write("name: a\ntraining:\n  steps: 5\n"), override)
    assert found.startswith(f"--set {override}: ")
    assert expected in found


def test_tags_that_users_write_themselves_are_kept(write):
    # 'float' is also what pydantic calls a member of a union in its locations.
    assert "'network.float'" in message(write("network:\n  float: 3\n"))
    assert "'network.transformer'" in message(write("network:\n  transformer: 3\n"))


def test_parse_config_names_its_source():
    with pytest.raises(UserError, match=r"^model/config.json: unknown key 'positions.scal'"):
        parse_config(ModelConfig, {"positions": {"scal": 3}}, where="model/config.json")
    with pytest.raises(UserError, match=r"^here: expected a section"):
        parse_config(ModelConfig, [1], where="here")


def test_a_bundled_config_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("demo").name == "demo"
    assert "did you mean 'demo'" in message(Path("demmo"))


def test_a_section_that_contains_itself(write):
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(write("x: &x\n  <<: *x\n"))


def test_a_folder_does_not_hide_a_bundled_config(tmp_path, monkeypatch):
    expected = load_config("demo")
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "other"):
        (tmp_path / name).mkdir()
    assert load_config("demo") == expected
    with pytest.raises(UserError, match="other: is a folder; give a config file"):
        load_config("other")

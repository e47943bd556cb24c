"""The configuration of a model and of the run that trains it: one YAML file, checked before use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from molbfn.errors import UserError, nearest


class _Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """What is learned."""

    source: str = Field("demo", description="name (qm9, demo) or path of an npz data set")
    split: Literal["train", "valid", "test", "all"] = Field("train", description="part trained on")
    validation_split: Literal["train", "valid", "test", "all"] = "valid"
    elements: tuple[str, ...] = Field(
        ("H", "C", "N", "O"), min_length=2, description="element vocabulary, in class order"
    )
    buckets: int | tuple[int, ...] = Field(
        6, description="padded sizes, or how many to choose from the data"
    )


class PositionsConfig(_Section):
    """The flow of the coordinates."""

    scale: float = Field(1.5, gt=0, description="angstrom per network unit")
    sigma_1: float = Field(0.02, gt=0, lt=1, description="noise at t = 1, network units")
    parameterisation: Literal["preconditioned", "noise", "data"] = "preconditioned"
    sigma_data: float = Field(0.93, gt=0, description="spread of the data, network units")
    t_min: float = Field(1e-4, gt=0, lt=1, description="noise prediction only: t below is prior")


class DiscreteElementsConfig(_Section):
    """Elements as classes."""

    kind: Literal["discrete"] = "discrete"
    beta_1: float = Field(3.0, gt=0, description="accuracy at t = 1")


class DiscretisedElementsConfig(_Section):
    """Elements as GeoBFN's nuclear charge: an integer in ``bins`` bins on [-1, 1]."""

    kind: Literal["discretised"] = "discretised"
    bins: int = Field(9, ge=2, description="nuclear charges 1..bins")
    sigma_1: float = Field(0.15, gt=0, lt=1)
    parameterisation: Literal["preconditioned", "noise", "data"] = "noise"
    sigma_data: float = Field(0.5, gt=0)
    t_min: float = Field(1e-4, gt=0, lt=1)


ElementsConfig = Annotated[
    DiscreteElementsConfig | DiscretisedElementsConfig, Field(discriminator="kind")
]


class LossConfig(_Section):
    """Weights of the exact continuous-time losses (1 and 1 give the likelihood bound)."""

    positions: float = Field(1.0, ge=0)
    elements: float = Field(1.0, ge=0)


class TransformerConfig(_Section):
    """molbfn.networks.transformer.EquivariantTransformer."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(192, ge=8)
    vectors: int = Field(32, ge=1)
    pair_width: int = Field(32, ge=1)
    message_width: int = Field(48, ge=1)
    dots: int = Field(16, ge=1)
    heads: int = Field(8, ge=1)
    blocks: int = Field(6, ge=1)
    distances: int = Field(24, ge=2)
    time_features: int = Field(16, ge=1)
    condition_width: int = Field(96, ge=1)


class EGNNConfig(_Section):
    """molbfn.networks.egnn.EGNN: GeoBFN's network."""

    kind: Literal["egnn"] = "egnn"
    hidden: int = Field(256, ge=1)
    layers: int = Field(9, ge=1)
    charge_features: int | None = Field(16, ge=2, description="Gaussians on the charge, or null")


NetworkConfig = Annotated[TransformerConfig | EGNNConfig, Field(discriminator="kind")]


class ClipConfig(_Section):
    """Gradient clipping at ``factor x mean + spreads x sd`` of the last ``window`` norms."""

    factor: float = Field(1.5, gt=0)
    spreads: float = Field(2.0, ge=0)
    window: int = Field(200, ge=2)


class TrainingConfig(_Section):
    """How it is learned."""

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch_size: int = Field(128, ge=1, description="molecules a batch and process")
    accumulate: int = Field(1, ge=1, description="batches a step")
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(200, ge=0, description="linear rise at the start")
    decay_fraction: float = Field(0.3, ge=0, le=1, description="share of the steps that decays")
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.01, ge=0)
    amsgrad: bool = False
    ema: float = Field(0.9995, ge=0, lt=1, description="decay of the averaged weights")
    clip: float | ClipConfig = Field(2.0, description="largest gradient norm, or adaptive")
    bad_steps: int = Field(20, ge=0, description="non-finite steps skipped before giving up")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = Field(False, description="torch.compile, one graph a bucket")
    seed: int = 0
    checkpoint_minutes: float = Field(2.0, gt=0)
    checkpoint_steps: int | None = Field(None, ge=1, description="instead of minutes")
    validate_steps: int = Field(1000, ge=1)
    validate_molecules: int = Field(1024, ge=1)
    log_steps: int = Field(50, ge=1)


class SamplingConfig(_Section):
    """Recommended sampling settings, stored with the model."""

    steps: int = Field(50, ge=1)
    sampler: Literal["renoise", "bayesian", "window"] = "renoise"
    window: int | None = Field(None, ge=1, description="steps replaced (sampler: window)")
    draw: bool = Field(False, description="renoise: draw classes instead of averaging them")
    knots: tuple[tuple[float, float], ...] = Field(
        ((0.8, 0.6),), description="(share of the steps, time) corners of the time grid"
    )
    temperature: float = Field(1.0, ge=0, description="multiplies the sender's noise variance")


class ModelConfig(_Section):
    """What a saved model must know of its making to sample."""

    name: str = Field("molbfn", min_length=1)
    data: DataConfig = DataConfig()
    positions: PositionsConfig = PositionsConfig()
    elements: ElementsConfig = DiscreteElementsConfig()
    network: NetworkConfig = TransformerConfig()
    sampling: SamplingConfig = SamplingConfig()


class Config(ModelConfig):
    """A whole experiment: one YAML file."""

    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()

    def model(self) -> ModelConfig:
        """Return the part that is saved with the model."""
        return ModelConfig(**{name: getattr(self, name) for name in ModelConfig.model_fields})


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration, with overrides like ``training.steps=100``.

    Raises:
        UserError: file missing or not YAML; unknown key, wrong type or range.  Names the file, the
            line and the key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a config file ({error})") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f":{place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise UserError(f"{path}{line}: {problem}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected 'key: value' pairs at the top level")
    for override in overrides:
        _override(values, override)
    return parse_config(Config, values, where=str(path), lines=_lines(root))


def parse_config(
    kind: type[BaseModel],
    values: Any,
    *,
    where: str,
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> Any:
    """Build ``kind`` from plain values; problems become one UserError that names the key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(str(part) for part in first["loc"] if not _is_tag(part))
        line = (lines or {}).get(location)
        place = where if line is None else f"{where}:{line}"
        raise UserError(f"{place}: {_problem(kind, location, first)}") from None


def _is_tag(part: object) -> bool:
    """Pydantic puts the chosen member of a union into the location; a user did not write it."""
    return part in {"discrete", "discretised", "transformer", "egnn", "ClipConfig", "float", "int"}


def _problem(kind: type[BaseModel], location: tuple[str, ...], error: Mapping[str, Any]) -> str:
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"unknown key '{key}'" + (nearest(location[-1], _known_keys(kind, location)) or ";"
            f" known here: {', '.join(_known_keys(kind, location))}")  # fmt: skip
    message = error["msg"]
    return f"'{key}': {message[0].lower()}{message[1:]}, got {error['input']!r}"


def _known_keys(kind: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the field names at the level of ``location``'s last part."""
    kinds = [kind]
    for part in location[:-1]:
        found: list[type[BaseModel]] = []
        for one in kinds:
            if part in one.model_fields:
                found.extend(_sections(one.model_fields[part].annotation))
        kinds = found
    return sorted({name for one in kinds for name in one.model_fields})


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _sections(part)]


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected key=value, such as training.steps=100")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: '{parent}' is a value, not a section")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value is not valid YAML") from None


def _lines(node: yaml.Node | None, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Return the line of every key, by its path."""
    lines: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            lines[path] = key.start_mark.line + 1
            lines.update(_lines(value, path))
    return lines

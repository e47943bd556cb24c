"""What a configuration may hold: sections, types, ranges, defaults (read by `config_file`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, Tag, field_validator, model_validator

from molbfn.chem.elements import SYMBOLS, atomic_number
from molbfn.config_base import Section as _Section
from molbfn.config_base import form as _form
from molbfn.config_base import kind as _kind
from molbfn.config_base import rising
from molbfn.config_base import wrong as _wrong
from molbfn.errors import UserError

CompileMode = Literal["default", "reduce-overhead"]
_Size = Annotated[int, Field(ge=1)]
_Decay = Annotated[float, Field(ge=0, lt=1)]
_Buckets = Annotated[
    Annotated[_Size, Tag("count")]
    | Annotated[tuple[_Size, ...], Field(min_length=1), Tag("sizes")],
    _form({list: "sizes", tuple: "sizes"}, "count"),
]


class DataConfig(_Section):
    """What is learned."""

    source: str = Field("demo", description="name (qm9, demo) or path of an npz data set")
    split: Literal["train", "valid", "test", "all"] = Field("train", description="part trained on")
    validation_split: Literal["train", "valid", "test", "all"] = Field(
        "valid", description="part that the averaged weights are judged on"
    )
    elements: tuple[str, ...] = Field(
        ("H", "C", "N", "O"), min_length=2, description="element vocabulary, in class order"
    )
    leave_out_others: bool = Field(
        False, description="leave out molecules with other elements, which is a mistake otherwise"
    )
    buckets: _Buckets = Field(6, description="padded sizes, or how many to choose from the data")

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            numbers = [atomic_number(name) for name in names]
        except UserError as error:
            raise _wrong(str(error)) from None
        for name, number in zip(names, numbers, strict=True):
            if numbers.count(number) > 1:
                raise _wrong(f"element {SYMBOLS[number]} is given twice")
            if name != SYMBOLS[number]:
                raise _wrong(f"write element '{name}' as '{SYMBOLS[number]}'")
        return names


class PositionsConfig(_Section):
    """The flow of the coordinates."""

    scale: float = Field(1.5, gt=0, description="angstrom per network unit")
    sigma_1: float = Field(0.02, gt=0, lt=1, description="noise at t = 1, network units")
    parameterisation: Literal["preconditioned", "noise", "data"] = Field(
        "preconditioned", description="what the network estimates; preconditioned: a mix of both"
    )
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
    sigma_1: float = Field(0.15, gt=0, lt=1, description="noise at t = 1; the bins span [-1, 1]")
    parameterisation: Literal["preconditioned", "noise", "data"] = Field(
        "noise", description="what the network estimates; preconditioned: a mix of both"
    )
    sigma_data: float = Field(0.5, gt=0, description="spread of the data (preconditioned)")
    t_min: float = Field(1e-4, gt=0, lt=1, description="noise prediction only: t below is prior")


ElementsConfig = Annotated[
    Annotated[DiscreteElementsConfig, Tag("discrete")]
    | Annotated[DiscretisedElementsConfig, Tag("discretised")],
    _kind("discrete"),
]


class ChargesConfig(_Section):
    """Formal charges as classes."""

    values: tuple[int, ...] = Field((-1, 0, 1), min_length=2, description="in class order")
    beta_1: float = Field(3.0, gt=0, description="accuracy at t = 1")

    @field_validator("values")
    @classmethod
    def _rising(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if list(values) != sorted(set(values)):
            raise _wrong("the charges must rise, each given once")
        return values


class BondsConfig(_Section):
    """Bond orders of pairs of atoms as classes: none, single, double, triple (kekulised)."""

    beta_1: float = Field(3.0, gt=0, description="accuracy at t = 1")


class LossConfig(_Section):
    """Weights of the exact continuous-time losses (all 1 give the likelihood bound)."""

    positions: float = Field(1.0, ge=0, description="weight of the positions' loss")
    elements: float = Field(1.0, ge=0, description="weight of the elements' loss")
    charges: float = Field(1.0, ge=0, description="weight of the formal charges' loss")
    bonds: float = Field(1.0, ge=0, description="weight of the bonds' loss")


class TransformerConfig(_Section):
    """molbfn.networks.transformer.EquivariantTransformer."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(192, ge=8, description="scalar channels per atom")
    vectors: int = Field(32, ge=1, description="vector channels per atom")
    pair_width: int = Field(32, ge=1, description="channels per pair; cost grows with these")
    message_width: int = Field(48, ge=1, description="channels of the messages between pairs")
    dots: int = Field(16, ge=1, description="dot products of vectors per pair")
    heads: int = Field(8, ge=1, description="attention heads; divides width and vectors")
    blocks: int = Field(6, ge=1, description="layers")
    distances: int = Field(24, ge=2, description="Gaussians on a distance")
    time_features: int = Field(16, ge=1, description="sines and cosines per time")
    condition_width: int = Field(96, ge=1, description="channels of the time")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for name in ("width", "vectors"):
            if getattr(self, name) % self.heads:
                raise _wrong(f"heads ({self.heads}) must divide {name} ({getattr(self, name)})")
        return self


class EGNNConfig(_Section):
    """molbfn.networks.egnn.EGNN: GeoBFN's network."""

    kind: Literal["egnn"] = "egnn"
    hidden: int = Field(256, ge=1, description="channels per atom and per pair")
    layers: int = Field(9, ge=1, description="layers")
    charge_features: int | None = Field(
        16, ge=2, description="Gaussians on a nuclear charge, or null"
    )


class TensorFieldConfig(_Section):
    """molbfn.networks.tensor_field.TensorFieldNetwork: e3nn's tensor products."""

    kind: Literal["tensor_field"] = "tensor_field"
    scalars: int = Field(96, ge=1, description="channels with l = 0 per atom")
    vectors: int = Field(32, ge=1, description="channels with l = 1 per atom")
    tensors: int = Field(16, ge=1, description="channels with l = 2 per atom")
    layers: int = Field(4, ge=1, description="layers")
    radial_width: int = Field(64, ge=1, description="channels of the networks of a distance")
    distances: int = Field(24, ge=2, description="Gaussians on a distance")
    time_features: int = Field(16, ge=1, description="sines and cosines per time")
    condition_width: int = Field(96, ge=1, description="channels of the time")


NetworkConfig = Annotated[
    Annotated[TransformerConfig, Tag("transformer")]
    | Annotated[EGNNConfig, Tag("egnn")]
    | Annotated[TensorFieldConfig, Tag("tensor_field")],
    _kind("transformer"),
]


class ClipConfig(_Section):
    """Gradient clipping at ``factor x mean + spreads x sd`` of the last ``window`` norms."""

    factor: float = Field(1.5, gt=0, description="on the mean")
    spreads: float = Field(2.0, ge=0, description="standard deviations above it")
    window: int = Field(200, ge=2, description="steps looked back on")


_Clip = Annotated[
    Annotated[float, Field(gt=0), Tag("limit")] | Annotated[ClipConfig, Tag("rule")],
    _form({Mapping: "rule", ClipConfig: "rule"}, "limit"),
]


class RunConfig(_Section):
    """How any model is learned."""

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch_size: int = Field(128, ge=1, description="samples a batch and process")
    accumulate: int = Field(1, ge=1, description="batches a step")
    optimiser: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: for the matrices inside the network, AdamW for the rest"
    )
    learning_rate: float = Field(1e-3, gt=0, description="the highest, after the warm-up")
    warmup_steps: int = Field(200, ge=0, description="linear rise at the start")
    decay_fraction: float = Field(0.3, ge=0, le=1, description="share of the steps that decays")
    betas: tuple[_Decay, _Decay] = Field((0.9, 0.99), description="of AdamW")
    weight_decay: float = Field(
        0.01, ge=0, description="a step takes learning_rate times it of a weight"
    )
    decayed: Literal["all", "matrices"] = Field(
        "all", description="weights that decay: all, or matrices only (no biases, no norms)"
    )
    amsgrad: bool = Field(False, description="of AdamW")
    ema: float = Field(0.9995, ge=0, lt=1, description="decay of the averaged weights")
    clip: _Clip = Field(2.0, description="largest gradient norm, or adaptive")
    bad_steps: int = Field(20, ge=0, description="non-finite steps skipped before giving up")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="of network calls; auto: bf16 where the hardware multiplies it"
    )
    compile: bool = Field(False, description="torch.compile of the blocks, one graph a bucket")
    compile_mode: CompileMode = Field(
        "default",
        description="reduce-overhead: CUDA graphs, for a GPU that waits for Python; they take more "
        "memory, and a CPU has none; not tried on a GPU yet",
    )
    seed: int = Field(
        0, ge=0, lt=1 << 31, description="of the first weights, the order of the data and the noise"
    )
    checkpoint_minutes: float = Field(2.0, gt=0, description="between two checkpoints")
    checkpoint_steps: int | None = Field(None, ge=1, description="instead of minutes")
    minutes: float | None = Field(
        None,
        gt=0,
        description="from the start, after which to stop with a checkpoint and exit code 75, for "
        "--resume to go on; a step or validation that runs then is finished; null: none",
    )
    validate_steps: int = Field(1000, ge=1, description="between two validations")
    log_steps: int = Field(50, ge=1, description="between two lines of the logs")

    @model_validator(mode="after")
    def _graphs_fit(self) -> Self:
        if self.compile_mode == "default":
            return self
        if not self.compile:
            raise _wrong(f"compile_mode: {self.compile_mode} goes with compile: true")
        if self.accumulate > 1:
            raise _wrong(
                f"compile_mode: {self.compile_mode} goes with accumulate: 1, for each batch writes "
                f"its gradients over those of the last"
            )
        return self


class TrainingConfig(RunConfig):
    """How a model of molecules is learned."""

    start_from: str | None = Field(
        None, description="bundled model or model folder whose weights are the first; null: none"
    )
    data_device: Literal["auto", "cpu"] = Field(
        "auto",
        description="where the molecules live and batches are gathered; auto: on a CUDA GPU that "
        "trains, where they take at most a quarter of its free memory, else on the CPU",
    )
    validate_molecules: int = Field(
        1024, ge=1, description="at most so many of the validation part"
    )


_IDLE = {  # what a sampler takes no notice of
    "renoise": ("window", "churn", "extrapolation", "renoise_from", "spread"),
    "ode": ("window",),
    "sde": ("window",),
    "bayesian": ("window", "churn", "extrapolation", "renoise_from", "spread", "draw"),
    "window": ("churn", "extrapolation", "renoise_from", "spread", "draw"),
}


class SchemeConfig(_Section):
    """How to sample with a given number of steps."""

    sampler: Literal[
        "renoise", "bayesian", "window", "ode", "sde", "ode1", "ode2", "sde1", "sde2"
    ] = Field(
        "renoise",
        description="renoise: a fresh state each step, robust; ode, sde: solvers, which may "
        "re-noise from some time on; bayesian: Graves et al.'s; window: between these two; ode1 to "
        "sde2: the published solvers by their order",
    )
    window: int | None = Field(None, ge=1, description="steps replaced (sampler: window)")
    churn: float = Field(1.0, ge=0, description="sde: 0 is the ode, large values re-noise")
    extrapolation: float = Field(
        1.0, ge=0, description="ode and sde: 1 is the second order, 0 the first"
    )
    renoise_from: float | None = Field(
        None, gt=0, lt=1, description="ode and sde: re-noise from this time on; null: never"
    )
    spread: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="ode and sde: standard deviation of the positions in network units "
        "(positions.sigma_data), which the first step adds to its noise and about which the ode "
        "is solved; 0, as published: none",
    )
    draw: bool = Field(False, description="renoise, ode, sde: draw classes, not their average")
    knots: tuple[tuple[float, float], ...] = Field(
        ((0.8, 0.6),), description="(share of the steps, time) corners of the time grid"
    )
    class_knots: tuple[tuple[float, float], ...] | None = Field(
        None, description="the same for elements, charges and bonds; null: as for the positions"
    )
    temperature: float = Field(
        1.0,
        ge=0,
        description="multiplies the sender's noise variance; with renoise_from, from then on",
    )

    @model_validator(mode="after")
    def _settings_have_effect(self) -> Self:
        """The published solvers, named by their order, have nothing to adjust."""
        if self.sampler.endswith(("1", "2")):
            free = self.sampler[:-1]
            for key in ("churn", "extrapolation", "renoise_from", "spread", "draw"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise _wrong(
                        f"{key}: the sampler {self.sampler} is a published one without it; use "
                        f"{free}, or leave {key} out"
                    )
        for key in _IDLE.get(self.sampler, ()):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise _wrong(f"{key}: the sampler {self.sampler} does not use it; leave it out")
        if self.sampler == "window" and self.window is None:
            raise _wrong("window: the sampler window needs a number of steps")
        return self

    @field_validator("knots", "class_knots")
    @classmethod
    def _rising(
        cls, knots: tuple[tuple[float, float], ...] | None
    ) -> tuple[tuple[float, float], ...] | None:
        return None if knots is None else rising(knots)


class SamplingConfig(SchemeConfig):
    """Recommended sampling settings, stored with the model."""

    steps: int = Field(50, ge=1, description="where no other number is asked for")
    presets: dict[_Size, SchemeConfig] = Field(
        {}, description="number of steps -> scheme for about so many, in place of this one"
    )

    def scheme(self, steps: int) -> SchemeConfig:
        """Return the scheme for a number of steps: that of the nearest number, by ratio."""
        known = {self.steps: self, **self.presets}
        return known[min(known, key=lambda number: abs(math.log(steps / number)))]


class ModelConfig(_Section):
    """What a saved model must know of its making to sample."""

    name: str = Field(
        "molbfn",
        pattern=r"^[^./\\][^/\\]*$",
        description="of the model and its run folder, so without slashes",
    )
    data: DataConfig = DataConfig()
    positions: PositionsConfig = PositionsConfig()
    elements: ElementsConfig = DiscreteElementsConfig()
    charges: ChargesConfig | None = Field(
        None, description="null: not generated; goes with the section bonds"
    )
    bonds: BondsConfig | None = Field(None, description="null: not generated")
    decoupled: float = Field(
        0.0, ge=0, le=1, description="share of training molecules whose classes have own times"
    )
    self_conditioning: bool = Field(
        False, description="the network also sees its estimate of before"
    )
    network: NetworkConfig = TransformerConfig()
    sampling: SamplingConfig = SamplingConfig()

    @property
    def has_topology(self) -> bool:
        """Whether charges or bonds are generated."""
        return self.charges is not None or self.bonds is not None

    @model_validator(mode="after")
    def _charges_have_bonds(self) -> Self:
        """Bonds that are perceived bring their own charges, whatever was generated."""
        if self.charges is not None and self.bonds is None:
            raise _wrong("charges: goes with the section bonds; add `bonds: {}`, or leave it out")
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        schemes = [self.sampling, *self.sampling.presets.values()]
        if self.decoupled == 0 and any(scheme.class_knots is not None for scheme in schemes):
            raise _wrong(
                "sampling.class_knots: the model has seen the same time for all variables only; "
                "leave class_knots out, or train with decoupled above 0"
            )
        if self.decoupled and self.network.kind == "egnn":
            raise _wrong("decoupled: the egnn sees one time; use the transformer")
        return self

    @model_validator(mode="after")
    def _network_fits(self) -> Self:
        if self.self_conditioning and self.network.kind != "transformer":
            raise _wrong(
                f"self_conditioning: the {self.network.kind} has none; use the transformer"
            )
        return self


class Config(ModelConfig):
    """A whole experiment: one YAML file."""

    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _losses_have_effect(self) -> Self:
        for key in ("charges", "bonds"):
            if getattr(self, key) is None and getattr(self.loss, key) != 1:
                raise _wrong(f"loss.{key}: the model has no {key}; add the section or leave it out")
        return self

    def model(self) -> ModelConfig:
        """Return the part that is saved with the model."""
        return ModelConfig(**{name: getattr(self, name) for name in ModelConfig.model_fields})

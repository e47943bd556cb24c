"""What a benchmark's configuration may hold (``configs/bench/*.yaml``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, field_validator, model_validator

from molbfn.config import RunConfig
from molbfn.config_base import Section, kind, rising, wrong


class MNISTConfig(Section):
    """Handwritten digits, 28 x 28, black or white."""

    kind: Literal["mnist"] = "mnist"
    binarisation: Literal["dynamic", "static"] = Field(
        "dynamic", description="a fresh draw of the grey levels each time, or the fixed set"
    )


class CIFARConfig(Section):
    """Colour images, 32 x 32 x 3."""

    kind: Literal["cifar10"] = "cifar10"
    bins: int = Field(256, ge=2, le=256, description="levels of a pixel; 256 are all of them")


class TextConfig(Section):
    """text8: lower-case letters and spaces of Wikipedia."""

    kind: Literal["text8"] = "text8"
    length: int = Field(256, ge=1, description="characters in a sample")


DataConfig = Annotated[
    Annotated[MNISTConfig, Tag("mnist")]
    | Annotated[CIFARConfig, Tag("cifar10")]
    | Annotated[TextConfig, Tag("text8")],
    kind("mnist"),
]


class DiscreteConfig(Section):
    """Classes."""

    kind: Literal["discrete"] = "discrete"
    beta_1: float = Field(9.0, gt=0, description="accuracy at t = 1")
    residual: bool = Field(
        False, description="the network adds to what is known of each element (Bayes' rule)"
    )


class _GaussianConfig(Section):
    sigma_1: float = Field(1e-3, gt=0, lt=1, description="noise at t = 1; the pixels span [-1, 1]")
    parameterisation: Literal["preconditioned", "noise", "data"] = Field(
        "noise", description="what the network estimates; preconditioned: a mix of both"
    )
    sigma_data: float = Field(0.5, gt=0, description="spread of the data (preconditioned)")
    t_min: float = Field(1e-6, gt=0, lt=1, description="noise prediction only: t below is prior")


class DiscretisedConfig(_GaussianConfig):
    """Bins, the output a Gaussian's mass in each."""

    kind: Literal["discretised"] = "discretised"
    std_limits: tuple[float, float] | None = Field(
        None, description="least and largest standard deviation of that Gaussian; null: none"
    )

    @field_validator("std_limits")
    @classmethod
    def _positive(cls, limits: tuple[float, float] | None) -> tuple[float, float] | None:
        if limits is not None and not 0 < limits[0] < limits[1]:
            raise wrong("the limits must be positive, the second above the first")
        return limits


class ContinuousConfig(_GaussianConfig):
    """Real numbers, the output a point; the bound is that on the data's bins."""

    kind: Literal["continuous"] = "continuous"
    limit: float | None = Field(1.0, gt=0, description="estimates are clipped to it")
    reconstruction_sigma: float | None = Field(
        None, gt=0, description="spread about the last estimate; null: sigma_1"
    )


FlowConfig = Annotated[
    Annotated[DiscreteConfig, Tag("discrete")]
    | Annotated[DiscretisedConfig, Tag("discretised")]
    | Annotated[ContinuousConfig, Tag("continuous")],
    kind("discrete"),
]


class PatchUNetConfig(Section):
    """molbfn.benchmarks.networks.patch_unet.PatchUNet: ours, made for CPUs."""

    kind: Literal["patch_unet"] = "patch_unet"
    width: int = Field(64, ge=8, description="channels at half of the resolution")
    inner_width: int = Field(128, ge=8, description="channels at a quarter of it")
    blocks: int = Field(2, ge=1, description="at half of the resolution, down and up each")
    inner_blocks: int = Field(3, ge=1, description="at a quarter of it")
    condition_width: int = Field(128, ge=8, description="channels of the time")
    dropout: float = Field(0.0, ge=0, lt=1, description="share")


class NGramConfig(Section):
    """molbfn.benchmarks.networks.ngram_prior.NGramPrior: what n-grams know of the text."""

    order: int = Field(7, ge=2, le=10, description="characters of the longest n-grams")
    states: int = Field(16_000, ge=28, description="contexts, those that say most")
    share: float = Field(
        0.75, gt=0, lt=1, description="of the training text is counted; the rest is trained on"
    )


class TextUNetConfig(Section):
    """molbfn.benchmarks.networks.text_unet.TextUNet: ours, made for CPUs."""

    kind: Literal["text_unet"] = "text_unet"
    width: int = Field(96, ge=8, description="channels a character")
    inner_width: int = Field(224, ge=8, description="channels a group of characters")
    blocks: int = Field(2, ge=1, description="convolutional, before and after the inner ones each")
    inner_blocks: int = Field(3, ge=1, description="attention and MLP")
    heads: int = Field(4, ge=1, description="of attention")
    group: int = Field(4, ge=1, description="characters a group")
    condition_width: int = Field(128, ge=8, description="channels of the time")
    prior: NGramConfig | None = Field(
        None, description="n-grams whose exact posterior the network corrects; null: none"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.inner_width % self.heads:
            raise wrong(f"heads ({self.heads}) must divide inner_width ({self.inner_width})")
        return self


class BinaryUNetConfig(Section):
    """molbfn.benchmarks.networks.published.mnist.BinaryUNet: the paper's for MNIST."""

    kind: Literal["binary_unet"] = "binary_unet"
    width: int = Field(128, ge=32, multiple_of=32, description="channels at full resolution")
    heads: int = Field(4, ge=1, description="of attention")
    dropout: float = Field(0.5, ge=0, lt=1, description="share")


class DeepUNetConfig(Section):
    """molbfn.benchmarks.networks.published.cifar10.DeepUNet: the paper's for CIFAR-10."""

    kind: Literal["deep_unet"] = "deep_unet"
    width: int = Field(128, ge=32, multiple_of=32, description="channels")
    blocks: int = Field(32, ge=1, description="on the way down; one more on the way up")
    dropout: float = Field(0.1, ge=0, lt=1, description="share")


class TextTransformerConfig(Section):
    """molbfn.benchmarks.networks.published.text8.TextTransformer: the paper's for text8."""

    kind: Literal["text_transformer"] = "text_transformer"
    width: int = Field(768, ge=8, description="channels a character")
    layers: int = Field(24, ge=1, description="of attention and MLP")
    heads: int = Field(12, ge=1, description="of attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="share")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise wrong(f"heads ({self.heads}) must divide width ({self.width})")
        return self


NetworkConfig = Annotated[
    Annotated[PatchUNetConfig, Tag("patch_unet")]
    | Annotated[TextUNetConfig, Tag("text_unet")]
    | Annotated[BinaryUNetConfig, Tag("binary_unet")]
    | Annotated[DeepUNetConfig, Tag("deep_unet")]
    | Annotated[TextTransformerConfig, Tag("text_transformer")],
    kind("patch_unet"),
]
_FOR = {
    "mnist": ("patch_unet", "binary_unet"),
    "cifar10": ("patch_unet", "deep_unet"),
    "text8": ("text_unet", "text_transformer"),
}


class BenchTrainingConfig(RunConfig):
    """How a benchmark's model is learned."""

    time_knots: tuple[tuple[float, float], ...] = Field(
        (), description="(share of the samples, time) corners; the loss stays unbiased"
    )
    validate_samples: int = Field(1024, ge=1, description="at most so many of the validation part")

    @field_validator("time_knots")
    @classmethod
    def _rising(cls, knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return rising(knots)


class EvaluationConfig(Section):
    """What `molbfn bench eval` measures where it is not told otherwise."""

    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (10, 25, 50, 100), description="n of the n-step bounds, beside n = infinity"
    )
    batch_size: int = Field(250, ge=1, description="samples a batch")


class BenchModelConfig(Section):
    """What a saved model must know of its making."""

    name: str = Field(
        "bench",
        min_length=1,
        pattern=r"^[a-z0-9_]+$",
        description="of the model, its run folder and its figures",
    )
    data: DataConfig = MNISTConfig()
    flow: FlowConfig = DiscreteConfig()
    network: NetworkConfig = PatchUNetConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        discrete = self.flow.kind == "discrete"
        if discrete == (self.data.kind == "cifar10"):
            wanted = "discretised or continuous" if self.data.kind == "cifar10" else "discrete"
            raise wrong(f"flow.kind: {self.data.kind} takes a {wanted} flow")
        if self.network.kind not in _FOR[self.data.kind]:
            known = " or ".join(_FOR[self.data.kind])
            raise wrong(f"network.kind: {self.network.kind} is not for {self.data.kind} ({known})")
        if isinstance(self.network, TextUNetConfig) and isinstance(self.data, TextConfig):
            length, group = self.data.length, self.network.group
            if length % group:
                raise wrong(f"data.length: {length} is no multiple of network.group, {group}")
            residual = isinstance(self.flow, DiscreteConfig) and self.flow.residual
            if self.network.prior is not None and residual:
                raise wrong(
                    "flow.residual: network.prior brings what is known of each character; set "
                    "residual: false"
                )
        return self


class BenchConfig(BenchModelConfig):
    """A whole benchmark: one YAML file."""

    training: BenchTrainingConfig = BenchTrainingConfig()

    def model(self) -> BenchModelConfig:
        """Return the part that is saved with the model."""
        return BenchModelConfig(
            **{name: getattr(self, name) for name in BenchModelConfig.model_fields}
        )

"""A benchmark's model: one flow, one network, and how it is saved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bfn_core import (
    ContinuousFlow,
    DataPrediction,
    DiscreteFlow,
    DiscretisedFlow,
    Flow,
    JointFlow,
    NoisePrediction,
    Parameterisation,
    PreconditionedPrediction,
)
from bfn_core.flows.joint import Predictor
from molbfn.benchmarks.config import (
    BenchModelConfig,
    BinaryUNetConfig,
    CIFARConfig,
    ContinuousConfig,
    DeepUNetConfig,
    DiscreteConfig,
    DiscretisedConfig,
    TextConfig,
    TextTransformerConfig,
    TextUNetConfig,
)
from molbfn.benchmarks.data.samples import BenchData
from molbfn.config_file import parse_config
from molbfn.devices import choose_device
from molbfn.errors import UserError, nearest
from molbfn.weight_files import checksum, load_weights, write_model

FORMAT = 1
"""Version of the file layout; a reader refuses files of a later one."""

_LETTERS = 27


@dataclass(frozen=True)
class BenchInfo:
    """What a model carries beside its weights.

    Attributes:
        config: how it was built.
        provenance: data, steps, versions, for the reader; and "data_digest", of the part it was
            trained on, where that is known.
    """

    config: BenchModelConfig
    provenance: Mapping[str, Any]


class BenchModel(nn.Module):
    """Flow and network of one benchmark; the only variable is "x".

    Data: binary images int64 [B, 28, 28]; colour images int64 bins or floats [B, 32, 32, 3]; text
    int64 [B, length].
    """

    def __init__(self, info: BenchInfo) -> None:
        super().__init__()
        self.info = info
        self.flows = JointFlow(x=build_flow(info.config))
        self.network = build_network(info.config)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return data_shape(self.info.config)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def predictor(self) -> Predictor:
        """Bind the network to the flow."""
        return self.flows.predictor(self.network)

    def fingerprint(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the weights."""
        return checksum(self.network.state_dict())[:16]

    def save(
        self,
        folder: str | Path,
        *,
        weights: Mapping[str, Tensor] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Write ``model.safetensors`` and ``config.json`` into ``folder``, each atomically.

        Args:
            folder: made if missing.
            weights: saved in place of the network's own (averages of them, say).
            progress: added to the provenance.

        Raises:
            UserError: the folder cannot be written or the disk is full; old files stay whole.
        """
        header = {
            "format": FORMAT,
            "config": self.info.config.model_dump(mode="json"),
            "provenance": {**self.info.provenance, **(progress or {})},
        }
        write_model(Path(folder), header, weights or self.network.state_dict())


def data_shape(config: BenchModelConfig) -> tuple[int, ...]:
    """Return the shape of one sample."""
    if isinstance(config.data, TextConfig):
        return (config.data.length,)
    return (32, 32, 3) if isinstance(config.data, CIFARConfig) else (28, 28)


def classes_of(config: BenchModelConfig) -> int:
    """Return the number of values that an element takes."""
    if isinstance(config.data, TextConfig):
        return _LETTERS
    return config.data.bins if isinstance(config.data, CIFARConfig) else 2


def load_data(config: BenchModelConfig, folder: Path | None = None) -> BenchData:
    """Open the data set of a config.

    Args:
        config: names it.
        folder: where its files lie; looked for in the data folders by default.

    Raises:
        UserError: not on this machine, or damaged.
    """
    from molbfn.benchmarks.data import cifar10, mnist, text8
    from molbfn.benchmarks.data.files import locate

    data = config.data
    folder = folder or locate(data.kind)
    if isinstance(data, TextConfig):
        return text8.load_text8(folder, length=data.length)
    if isinstance(data, CIFARConfig):
        centres = config.flow.kind == "continuous"
        return cifar10.load_cifar10(folder, bins=data.bins, centres=centres)
    return mnist.load_mnist(folder, binarisation=data.binarisation)


def build_flow(config: BenchModelConfig) -> Flow:
    """Return the flow of a config."""
    flow = config.flow
    if isinstance(flow, DiscreteConfig):
        return DiscreteFlow(classes=classes_of(config), beta_1=flow.beta_1, residual=flow.residual)
    parameterisation = _parameterisation(flow)
    if isinstance(flow, DiscretisedConfig):
        return DiscretisedFlow(
            bins=classes_of(config),
            sigma_1=flow.sigma_1,
            parameterisation=parameterisation,
            std_limits=flow.std_limits,
        )
    return ContinuousFlow(
        sigma_1=flow.sigma_1,
        parameterisation=parameterisation,
        limit=flow.limit,
        reconstruction_sigma=flow.reconstruction_sigma,
        reconstruction_bins=classes_of(config),
    )


def _parameterisation(flow: DiscretisedConfig | ContinuousConfig) -> Parameterisation:
    if flow.parameterisation == "noise":
        return NoisePrediction(t_min=flow.t_min)
    if flow.parameterisation == "data":
        return DataPrediction()
    return PreconditionedPrediction(sigma_data=flow.sigma_data)


def build_network(config: BenchModelConfig) -> nn.Module:
    """Return the network of a config, with fresh weights."""
    options = config.network.model_dump(exclude={"kind"})
    shape, flow, classes = data_shape(config), config.flow, classes_of(config)
    pixel = shape[2:]
    if flow.kind == "discrete":
        inputs, outputs = math.prod(pixel) * classes, (*pixel, classes)
    else:
        inputs, outputs = math.prod(pixel), (*pixel, 2) if flow.kind == "discretised" else pixel
    if isinstance(config.network, TextUNetConfig):
        return _text_unet(config.network, shape[0], classes)
    if isinstance(config.network, TextTransformerConfig):
        from molbfn.benchmarks.networks.published.text8 import TextTransformer

        return TextTransformer(length=shape[0], classes=classes, **options)
    if isinstance(config.network, BinaryUNetConfig):
        from molbfn.benchmarks.networks.published.mnist import BinaryUNet

        return BinaryUNet(**options)
    if isinstance(config.network, DeepUNetConfig):
        from molbfn.benchmarks.networks.published.cifar10 import DeepUNet

        return DeepUNet(channels=inputs, outputs=outputs, **options)
    from molbfn.benchmarks.networks.patch_unet import PatchUNet

    return PatchUNet(size=(shape[0], shape[1]), inputs=inputs, outputs=outputs, **options)


def _text_unet(network: TextUNetConfig, length: int, classes: int) -> nn.Module:
    from molbfn.benchmarks.networks.ngram_prior import NGramPrior, PriorNetwork
    from molbfn.benchmarks.networks.text_unet import TextUNet

    options = network.model_dump(exclude={"kind", "prior"})
    if network.prior is None:
        return TextUNet(length=length, classes=classes, **options)
    prior = NGramPrior(classes=classes, order=network.prior.order, states=network.prior.states)
    inner = TextUNet(length=length, classes=classes, inputs=2 * classes, **options)
    return PriorNetwork(prior, inner)


def bundled_models() -> dict[str, Path]:
    """Return name -> folder of the benchmark models that come with the package."""
    root = Path(str(resources.files("molbfn"))) / "weights" / "bench"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def load_bench_model(name: str | Path, *, device: torch.device | str = "cpu") -> BenchModel:
    """Load a bundled benchmark model by name, or a folder that :meth:`BenchModel.save` wrote.

    Args:
        name: of a bundled model, or a path: of a model folder, or of the run folder it is in.
        device: where it shall compute; "auto" takes a GPU if there is one.

    Raises:
        UserError: unknown name; missing, corrupted or mismatching file (names file and field); a
            device that this machine does not have.
    """
    device = choose_device(device) if isinstance(device, str) else device
    bundled = bundled_models()
    folder = bundled.get(str(name), Path(name))
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder /= "model"  # of a run folder
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            f"no benchmark model '{name}';{nearest(str(name), bundled)} bundled models: "
            f"{', '.join(bundled) or 'none'}; or give the path of a model folder"
        )
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        version, values, provenance = header["format"], header["config"], header["provenance"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not the config of a benchmark model, or cut short") from None
    if version != FORMAT:
        raise UserError(
            f"{path}: field 'format' is {version!r}, this molbfn reads {FORMAT}; update molbfn"
        )
    config = parse_config(BenchModelConfig, values, where=str(path))
    model = BenchModel(BenchInfo(config=config, provenance=provenance))
    load_weights(model.network, folder / "model.safetensors")
    return model.to(device).eval()

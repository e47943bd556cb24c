"""A trained thing: flows, network, size histogram and config; saved as safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bfn_core import (
    ContinuousFlow,
    DataPrediction,
    DiscreteFlow,
    DiscretisedFlow,
    Flow,
    GaussianState,
    JointFlow,
    NoisePrediction,
    Parameterisation,
    PreconditionedPrediction,
)
from bfn_core.flows.base import Output, State
from bfn_core.flows.joint import Network, Predictor
from molbfn.chem.elements import atomic_number
from molbfn.config import (
    CompileMode,
    DiscreteElementsConfig,
    DiscretisedElementsConfig,
    EGNNConfig,
    ModelConfig,
    PositionsConfig,
    TensorFieldConfig,
)
from molbfn.config_file import parse_config
from molbfn.data.batching import MoleculeBatch, bucket_of, pair_mask
from molbfn.devices import choose_device
from molbfn.errors import UserError, nearest
from molbfn.weight_files import checksum, load_weights, write_model

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

BOND_CLASSES = 4
"""None, single, double, triple."""

FORMAT = 1
"""Version of the file layout; a reader refuses files of a later one."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model carries beside its weights.

    Attributes:
        config: how it was built.
        buckets: padded sizes it was trained at, ascending.
        sizes: number of atoms -> number of training molecules.
        provenance: data, steps, versions: shown, never used.
    """

    config: ModelConfig
    buckets: tuple[int, ...]
    sizes: Mapping[int, int]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class DecodedBatch:
    """Molecules as dense arrays.

    Attributes:
        positions: [B, N, 3], angstrom.
        atomic_numbers: int64 [B, N].
        charges: formal charges, int64 [B, N], or None: not generated.
        bonds: orders 0 to 3, int64 [B, N, N], zero but for i < j, or None: not generated.
    """

    positions: Tensor
    atomic_numbers: Tensor
    charges: Tensor | None = None
    bonds: Tensor | None = None

    def cpu(self) -> DecodedBatch:
        """Return the same on the CPU, positions in float32."""
        moved = {name: None if x is None else x.cpu() for name, x in vars(self).items()}
        return DecodedBatch(**{**moved, "positions": self.positions.float().cpu()})


class MoleculeModel(nn.Module):
    """Flows and network of one model, in angstrom and atomic numbers on the outside.

    Variables: "positions" (network units, [B, N, 3]), "elements" (int64 class [B, N]) and, where
    the config has them, "charges" (int64 class [B, N]) and "bonds" (int64 order 0 to 3 [B, N, N],
    of which i < j counts).
    """

    def __init__(self, info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        config = info.config
        self.vocabulary = tuple(atomic_number(name) for name in config.data.elements)
        self.flows = build_flows(config, self.vocabulary)
        self.network = build_network(config, self.vocabulary)
        self._compiled_as: dict[str, Any] | None = None
        self._tables: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    @property
    def name(self) -> str:
        return self.info.config.name

    @property
    def makes_bonds(self) -> bool:
        """Whether bonds are generated and need not be perceived."""
        return "bonds" in self.flows.flows

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def fingerprint(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the weights."""
        return checksum(self.network.state_dict())[:16]

    def compile_blocks(self, *, dynamic: bool, mode: CompileMode = "default") -> None:
        """Have the network's blocks compiled when they are called next, once for all calls.

        Block by block: one graph serves them all, so the first call waits for seconds where the
        whole network would take most of a minute.

        Args:
            dynamic: one graph for all batch shapes; else one each, a little faster in training.
            mode: torch's; with "reduce-overhead" a GPU replays CUDA graphs, whose tensors are
                overwritten after the next ``torch.compiler.cudagraph_mark_step_begin()``.
        """
        options = {"dynamic": dynamic, "mode": mode}
        if self._compiled_as != options:
            for block in self.network.blocks:
                block.compile(**options)
            self._compiled_as = options

    def encode(self, batch: MoleculeBatch) -> dict[str, Tensor]:
        """Return the flows' data for a batch: scaled positions, classes.

        Formal charges must be among the config's; those of a data set are checked when it is
        opened for training.

        Raises:
            ValueError: the batch has no bonds or charges but the model generates them.
        """
        data = {
            "positions": batch.positions / self.info.config.positions.scale,
            "elements": self._element_codes(batch.elements),
        }
        for name in ("charges", "bonds"):
            value = getattr(batch, name)
            if name not in self.flows.flows:
                continue
            if value is None:
                raise ValueError(f"the model generates {name} but the batch has none")
            if name == "charges":
                value = torch.searchsorted(self._charge_values(value.device), value)
            data[name] = value
        return data

    def decode(self, data: Mapping[str, Tensor]) -> DecodedBatch:
        """Return what the flows' data stand for (padding: anything)."""
        positions = data["positions"] * self.info.config.positions.scale
        numbers = self._table(self.vocabulary, positions.device)
        elements = data["elements"]
        if isinstance(self.info.config.elements, DiscretisedElementsConfig):
            # A charge between the known elements is read as the nearest of them.
            gap = (elements[..., None] + 1 - numbers).abs()
            elements = gap.argmin(-1)
        charges, bonds = data.get("charges"), data.get("bonds")
        return DecodedBatch(
            positions=positions,
            atomic_numbers=numbers[elements],
            charges=None if charges is None else self._charge_values(charges.device)[charges],
            bonds=None if bonds is None else bonds.triu(1),
        )

    def shapes(self, batch: int, atoms: int) -> dict[str, tuple[int, ...]]:
        """Return the data shape of each variable."""
        shapes = {"positions": (batch, atoms, 3), "bonds": (batch, atoms, atoms)}
        return {name: shapes.get(name, (batch, atoms)) for name in self.flows}

    def masks(self, mask: Tensor) -> dict[str, Tensor]:
        """Return the mask of each variable for atoms ``mask`` [B, N]; bonds: each pair once."""
        return {name: pair_mask(mask) if name == "bonds" else mask for name in self.flows}

    def predictor(
        self,
        mask: Tensor,
        network: Network | None = None,
        *,
        previous: Mapping[str, Tensor] | None = None,
    ) -> Predictor:
        """Bind the network (or a stand-in for it) to the flows, for atoms ``mask`` [B, N].

        Args:
            mask: True where there is an atom.
            network: called in place of the model's own.
            previous: with self-conditioning, estimates (:meth:`estimates`) of before.
        """
        masks, call = self.masks(mask), network or self.network
        conditioned = self.info.config.self_conditioning

        def bound(inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], _: object) -> Any:
            if conditioned:
                inputs = {**inputs, **_previous_inputs(inputs, previous)}
            return call(inputs, t, mask)

        return self.flows.predictor(bound, masks)

    def sampling_predictor(self, mask: Tensor, network: Network | None = None) -> Predictor:
        """Return a predictor for one sampling run: each call is shown the estimates of the last."""
        if not self.info.config.self_conditioning:
            return self.predictor(mask, network)
        latest: dict[str, Tensor] = {}

        def predict(states: Mapping[str, State], t: Mapping[str, Tensor]) -> Mapping[str, Output]:
            outputs = self.predictor(mask, network, previous=latest or None)(states, t)
            latest.update(self.estimates(outputs))
            return outputs

        return predict

    def estimates(self, outputs: Mapping[str, Output]) -> dict[str, Tensor]:
        """Return the expectation of each variable, in the form of the network's inputs."""
        found = {}
        for name, flow in self.flows.flows.items():
            mean = flow.expectation(outputs[name])
            if isinstance(flow, DiscreteFlow):
                mean = 2 * mean - 1
            found[name] = mean[..., None] if isinstance(flow, ChargeFlow) else mean
        return found

    def padded_size(self, atoms: int) -> int:
        """Return the size that a molecule of ``atoms`` atoms is padded to."""
        return bucket_of(atoms, self.info.buckets)

    def generate(self, n: int, **options: Any) -> list[Molecule]:
        """Generate ``n`` molecules; see :func:`molbfn.generation.generate` for the options."""
        from molbfn.generation import generate

        return list(generate(self, n, **options))

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
            "buckets": list(self.info.buckets),
            "sizes": {str(size): count for size, count in self.info.sizes.items()},
            "provenance": {**self.info.provenance, **(progress or {})},
        }
        write_model(Path(folder), header, weights or self.network.state_dict())

    def _table(self, values: tuple[int, ...], device: torch.device) -> Tensor:
        """Return values as a tensor, copied to a device once: each copy would wait for a GPU."""
        key = values, device
        if key not in self._tables:
            self._tables[key] = torch.tensor(values, device=device)
        return self._tables[key]

    def _charge_values(self, device: torch.device) -> Tensor:
        assert self.info.config.charges is not None
        return self._table(self.info.config.charges.values, device)

    def _element_codes(self, classes: Tensor) -> Tensor:
        if isinstance(self.info.config.elements, DiscretisedElementsConfig):
            numbers = self._table(self.vocabulary, classes.device)
            return numbers[classes] - 1  # bin 0 is hydrogen
        return classes


def _previous_inputs(
    inputs: Mapping[str, Tensor], previous: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """Return the inputs of self-conditioning; zeros where there is no estimate yet."""
    x = inputs["positions"]
    known = x.new_full((len(x),), 0.0 if previous is None else 1.0)
    shown = (
        {name: torch.zeros_like(value) for name, value in inputs.items()}
        if previous is None
        else previous
    )
    return {"previous_known": known, **{f"previous_{name}": shown[name] for name in inputs}}


class ChargeFlow(DiscretisedFlow):
    """Nuclear charges; shows the network one channel an atom, [B, N, 1]."""

    def inputs(self, state: GaussianState, t: Tensor) -> Tensor:
        return super().inputs(state, t)[..., None]


def build_flows(config: ModelConfig, vocabulary: tuple[int, ...]) -> JointFlow:
    """Return the joint flow of all variables of the config."""
    flows: dict[str, Flow] = {
        "positions": ContinuousFlow(
            sigma_1=config.positions.sigma_1,
            centred=True,
            parameterisation=_parameterisation(config.positions),
        ),
        "elements": _element_flow(config, vocabulary),
    }
    if config.charges is not None:
        flows["charges"] = DiscreteFlow(
            classes=len(config.charges.values), beta_1=config.charges.beta_1
        )
    if config.bonds is not None:
        flows["bonds"] = DiscreteFlow(classes=BOND_CLASSES, beta_1=config.bonds.beta_1)
    return JointFlow(**flows)


def _element_flow(config: ModelConfig, vocabulary: tuple[int, ...]) -> Flow:
    elements = config.elements
    if isinstance(elements, DiscreteElementsConfig):
        return DiscreteFlow(classes=len(vocabulary), beta_1=elements.beta_1)
    if max(vocabulary) > elements.bins:
        raise UserError(
            f"elements.bins: {elements.bins} bins hold nuclear charges up to {elements.bins}, "
            f"but data.elements goes up to {max(vocabulary)}"
        )
    return ChargeFlow(
        bins=elements.bins,
        sigma_1=elements.sigma_1,
        parameterisation=_parameterisation(elements),
    )


def _parameterisation(config: PositionsConfig | DiscretisedElementsConfig) -> Parameterisation:
    if config.parameterisation == "noise":
        return NoisePrediction(t_min=config.t_min)
    if config.parameterisation == "data":
        return DataPrediction()
    return PreconditionedPrediction(sigma_data=config.sigma_data)


def build_network(config: ModelConfig, vocabulary: tuple[int, ...]) -> nn.Module:
    """Return the network named by the config, with fresh weights."""
    discrete = isinstance(config.elements, DiscreteElementsConfig)
    channels = {
        "elements_in": len(vocabulary) if discrete else 1,
        "elements_out": len(vocabulary) if discrete else 2,
    }
    channels["charges"] = len(config.charges.values) if config.charges else 0
    channels["bonds"] = BOND_CLASSES if config.bonds else 0
    options = config.network.model_dump(exclude={"kind"})
    if isinstance(config.network, EGNNConfig):
        from molbfn.networks.egnn import EGNN

        if discrete:
            options["charge_features"] = None
        return EGNN(**channels, **options)
    if isinstance(config.network, TensorFieldConfig):
        from molbfn.networks.tensor_field import TensorFieldNetwork

        return TensorFieldNetwork(**channels, **options)
    from molbfn.networks.transformer import EquivariantTransformer

    return EquivariantTransformer(**channels, self_conditioning=config.self_conditioning, **options)


def bundled_models() -> dict[str, Path]:
    """Return name -> folder of the models that come with the package."""
    root = Path(str(resources.files("molbfn"))) / "weights"
    if not root.is_dir():
        return {}
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def load_model(name: str | Path = "qm9", *, device: torch.device | str = "cpu") -> MoleculeModel:
    """Load a bundled model by name, or a folder that :meth:`MoleculeModel.save` wrote.

    Args:
        name: of a bundled model, or a path: of a model folder, or of the run folder it is in.
        device: where it shall compute; "auto" takes a GPU if there is one.

    Raises:
        UserError: unknown name; missing, corrupted or mismatching file (names file and field); a
            device that this machine does not have.
    """
    device = choose_device(device) if isinstance(device, str) else device
    folder = _find(name)
    info = _read_info(folder / "config.json")
    try:
        model = MoleculeModel(info)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    load_weights(model.network, folder / "model.safetensors")
    return model.to(device).eval()


def _find(name: str | Path) -> Path:
    bundled = bundled_models()
    if str(name) in bundled:
        return bundled[str(name)]
    folder = Path(name)
    for place in (folder, folder / "model"):  # a run folder holds its model there
        if (place / "config.json").is_file():
            return place
    if folder.exists():
        raise UserError(f"{folder}: not a model folder (it has no config.json)")
    raise UserError(
        f"no model named '{name}';{nearest(str(name), list(bundled))} bundled models: "
        f"{', '.join(sorted(bundled)) or 'none'}; or give the path of a model folder"
    )


def _read_info(path: Path) -> ModelInfo:
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        version = header["format"]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not the config of a molbfn model, or cut short") from None
    if version != FORMAT:
        raise UserError(
            f"{path}: field 'format' is {version!r}, this molbfn reads {FORMAT}; update molbfn"
        )
    for field, kind in (("config", dict), ("buckets", list), ("sizes", dict), ("provenance", dict)):
        if not isinstance(header.get(field), kind):
            raise UserError(f"{path}: field '{field}' is missing or not a {kind.__name__}")
    return ModelInfo(
        config=parse_config(ModelConfig, header["config"], where=str(path)),
        buckets=tuple(_positive(header["buckets"], path, "buckets")),
        sizes=dict(
            zip(
                _positive(header["sizes"], path, "sizes"),
                _positive(header["sizes"].values(), path, "sizes"),
                strict=True,
            )
        ),
        provenance=header["provenance"],
    )


def _positive(values: Iterable[Any], path: Path, field: str) -> list[int]:
    try:
        numbers = [int(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(f"{path}: field '{field}' needs whole numbers above 0")
    return numbers

"""Reads the weights that Graves et al. 2023 published into our form of their networks.

They are on Hugging Face (rupspace/pretrained-BFNs), state dicts of tensors.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from molbfn.benchmarks.config import BenchConfig
from molbfn.benchmarks.model import BenchInfo, BenchModel
from molbfn.errors import UserError

# The two discretised files for CIFAR-10 hold the same names and shapes: only their names tell.
_FILES = {
    "mnist_ema.pt": "mnist",
    "cifar10_256d_ema.pt": "cifar10_256",
    "cifar10_16d_ema.pt": "cifar10_16",
    "cifar10_256c_ema.pt": "cifar10_continuous",
    "text8_ema.pt": "text8",
}
_PREFIX = "net."
_UNUSED = "input_adapter.pos_feats"  # a buffer that their networks carry and never read
_FIXED = "input_adapter.pos_embedding"  # a buffer that ours computes


def import_checkpoint(config: BenchConfig, path: Path) -> BenchModel:
    """Return the model of a config with published weights; never runs code from the file.

    Args:
        config: one at the paper's settings (``mnist``, ``cifar10_256``, ``text8``, ...).
        path: the published file.

    Raises:
        UserError: the file has the name of another benchmark's, is damaged or not a state dict, or
            a weight is missing, unknown, of another shape or value than the config's network
            needs, not of real numbers or not finite; names the first one.
    """
    meant = _FILES.get(path.name, config.name)
    if meant != config.name and config.name in _FILES.values():
        raise UserError(
            f"{path}: the published file of this name is for {meant}, not {config.name}; import "
            f"it as {meant}, or rename it"
        )
    weights = _read(path)
    provenance = {
        "data": "see Graves et al. 2023",
        "imported": path.name,
        "sha256": _sha256(path),
        "steps": 0,
    }
    model = BenchModel(BenchInfo(config=config.model(), provenance=provenance))
    own = model.network.state_dict()
    found: dict[str, Tensor] = {}
    for full_name, value in weights.items():
        name = full_name.removeprefix(_PREFIX)
        if name in found:
            raise UserError(f"{path}: holds both '{_PREFIX}{name}' and '{name}'")
        if name != _UNUSED:
            found[name] = value
    fixed = found.pop(_FIXED, None)
    if fixed is not None:
        mine = getattr(getattr(model.network, "input_adapter", None), "pos_embedding", None)
        if mine is None or not torch.allclose(mine, fixed.to(mine), atol=1e-4):
            raise UserError(f"{path}: buffer '{_FIXED}' is not that of this config's network")
    for name in sorted(own.keys() | found.keys()):
        if name not in found:
            raise UserError(f"{path}: has no weight '{_PREFIX}{name}'; is it for {config.name}?")
        if name not in own:
            raise UserError(f"{path}: weight '{_PREFIX}{name}' has no place in {config.name}")
        if own[name].shape != found[name].shape:
            raise UserError(
                f"{path}: weight '{_PREFIX}{name}' has shape {tuple(found[name].shape)}, "
                f"{config.name} needs {tuple(own[name].shape)}"
            )
        _check_numbers(found[name], f"{path}: weight '{_PREFIX}{name}'", own[name].dtype)
    model.network.load_state_dict(found)
    return model.eval()


def _check_numbers(weight: Tensor, where: str, dtype: torch.dtype) -> None:
    """Refuse what is no real number, or none any more in the network's ``dtype``."""
    if not weight.is_floating_point():
        kind = str(weight.dtype).removeprefix("torch.")
        raise UserError(f"{where} holds {kind}, expected real numbers")
    if not weight.to(dtype).isfinite().all():
        raise UserError(f"{where} holds numbers that are not finite")


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        _check_sums(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, RuntimeError, ValueError, LookupError,
            pickle.UnpicklingError, zipfile.BadZipFile, zlib.error):  # fmt: skip
        # torch's own text advises to switch the safe loading off; it is not repeated here.
        raise UserError(
            f"{path}: not a file of weights that torch.save wrote, or it holds more than tensors"
        ) from None
    named = isinstance(weights, Mapping) and all(isinstance(name, str) for name in weights)
    if not named or not all(map(_is_plain, weights.values())):
        raise UserError(f"{path}: not a state dict, a mapping from names to tensors")
    return weights


def _check_sums(path: Path) -> None:
    """Refuse a zip file with a wrong checksum, which ``torch.load`` does not look at."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise UserError(f"{path}: damaged at {damaged}; download it again")


def _is_plain(value: object) -> bool:
    """Tell a tensor of numbers in memory from sparse, quantised and empty ones."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

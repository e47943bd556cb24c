"""A model on disk: ``model.safetensors`` with a checksum, and ``config.json`` beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from molbfn.atomic import replacing
from molbfn.errors import UserError
from molbfn.rounding import restore_weights


def checksum(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and bytes, so that a flipped bit in a file is seen."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def write_model(folder: Path, header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write both files, each atomically.

    Args:
        folder: made if missing.
        header: content of ``config.json``.
        weights: name -> tensor.

    Raises:
        UserError: the folder cannot be written or the disk is full; old files stay whole.
    """
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    with replacing(folder / "model.safetensors") as stream:
        stream.write(save(weights, metadata={"sha256": checksum(weights)}))
    with replacing(folder / "config.json") as stream:
        stream.write((json.dumps(header, indent=1) + "\n").encode())


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a safetensors file that fits the network exactly, as float32 whatever it is stored in.

    Raises:
        UserError: missing, damaged, or a weight that is missing, unknown or of another shape.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            expected = (file.metadata() or {}).get("sha256")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; the model folder is incomplete") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: corrupted or not a safetensors file ({error})") from None
    if expected is not None and checksum(stored) != expected:
        raise UserError(f"{path}: corrupted (its checksum is wrong); copy or download it again")
    try:
        weights = restore_weights(stored)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    own = network.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights:
            raise UserError(f"{path}: weight '{name}' of the config is missing in the file")
        if name not in own:
            raise UserError(f"{path}: weight '{name}' is not part of the network in config.json")
        if own[name].shape != weights[name].shape:
            raise UserError(
                f"{path}: weight '{name}' has shape {tuple(weights[name].shape)}, "
                f"config.json asks for {tuple(own[name].shape)}"
            )
    network.load_state_dict(weights)

"""Start training from a model that exists: fine-tuning, and taking a model further."""

from __future__ import annotations

from typing import Any

from molbfn.errors import UserError
from molbfn.model import MoleculeModel, load_model

# Keys that give the same weights another meaning, where both models have them.
_MEANING = (
    ("positions", "scale"),
    ("positions", "sigma_data"),
    ("positions", "parameterisation"),
    ("elements", "kind"),
    ("elements", "parameterisation"),
    ("elements", "sigma_data"),
    ("elements", "bins"),
    ("charges", "values"),
)


def start_from(model: MoleculeModel, source: str) -> dict[str, Any]:
    """Copy the weights of another model into a fresh one.

    The fresh network may have layers that the other lacks (those of charges and bonds, say), which
    keep their fresh weights; all that the other has must fit.

    Args:
        model: changed in place.
        source: name of a bundled model, or a model folder.

    Returns:
        What the provenance says of it.

    Raises:
        UserError: no such model, another element vocabulary, or a weight that does not fit.
    """
    other = load_model(source)
    if other.vocabulary != model.vocabulary:
        raise UserError(
            f"training.start_from: {source} knows the elements "
            f"{', '.join(other.info.config.data.elements)}, data.elements has "
            f"{', '.join(model.info.config.data.elements)}; they must be the same, in order"
        )
    for section, name in _MEANING:
        here, there = (
            getattr(getattr(one.info.config, section), name, None) for one in (model, other)
        )
        if here is not None and there is not None and here != there:
            raise UserError(
                f"training.start_from: {source} was trained with {section}.{name} = {there!r}, "
                f"this config has {here!r}; its weights mean something else then"
            )
    weights, own = other.network.state_dict(), model.network.state_dict()
    for name, value in weights.items():
        if name not in own:
            raise UserError(
                f"training.start_from: {source} has the weight '{name}', which the network of "
                f"this config lacks"
            )
        if own[name].shape != value.shape:
            raise UserError(
                f"training.start_from: weight '{name}' has shape {tuple(value.shape)} in {source} "
                f"and {tuple(own[name].shape)} here; use the same network section"
            )
    model.network.load_state_dict(weights, strict=False)
    return {
        "model": other.name,
        "weights": other.fingerprint(),
        "new_weights": sorted(own.keys() - weights.keys()),
        "provenance": dict(other.info.provenance),
    }

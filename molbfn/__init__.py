"""3D molecules from Bayesian Flow Networks.

>>> from molbfn import load_model
>>> molecules = load_model("qm9").generate(10, seed=0)

To a file, as `molbfn generate` does:

>>> from molbfn import generate_file
>>> generate_file(load_model("qm9"), 10, "molecules.sdf")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.generation.job import generate_file
    from molbfn.generation.plan import GenerationOptions
    from molbfn.model import MoleculeModel, load_model

__all__ = ["GenerationOptions", "Molecule", "MoleculeModel", "generate_file", "load_model"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: torch and rdkit are slow to load."""
    if name in {"MoleculeModel", "load_model"}:
        from molbfn import model

        return getattr(model, name)
    if name == "generate_file":
        from molbfn.generation.job import generate_file

        return generate_file
    if name == "GenerationOptions":
        from molbfn.generation.plan import GenerationOptions

        return GenerationOptions
    if name == "Molecule":
        from molbfn.chem.molecule import Molecule

        return Molecule
    raise AttributeError(f"module 'molbfn' has no attribute '{name}'")

"""Drug-likeness and its kin: QED, synthetic accessibility, logP, molecular weight."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdkit import Chem

#: Name -> label and unit.
PROPERTIES: dict[str, tuple[str, str | None]] = {
    "qed": ("QED", None),
    "sa": ("Synthetic accessibility, 1 easy to 10", None),
    "logp": ("Crippen logP", None),
    "weight": ("Molecular weight", "g/mol"),
}


def properties(mol: Chem.Mol) -> dict[str, float]:
    """Return the properties of a sanitised molecule, by the names of `PROPERTIES`.

    QED: Bickerton et al., Nat. Chem. 4:90 (2012). SA: Ertl & Schuffenhauer, J. Cheminf. 1:8
    (2009), left out where RDKit comes without its Contrib folder. logP: Wildman & Crippen, J.
    Chem. Inf. Comput. Sci. 39:868 (1999). One that RDKit cannot compute is left out.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import QED, Crippen, Descriptors

    computed: dict[str, Callable[[Chem.Mol], float] | None] = {
        "qed": QED.qed,
        "sa": _accessibility(),
        "logp": Crippen.MolLogP,
        "weight": Descriptors.MolWt,
    }
    found = {}
    with rdBase.BlockLogs():
        try:
            bare = Chem.RemoveHs(mol)
        except (ValueError, RuntimeError):
            return {}
        for name, function in computed.items():
            try:
                if function is not None and bare.GetNumAtoms():
                    found[name] = float(function(bare))
            except (ValueError, RuntimeError, ZeroDivisionError):
                continue
    return found


@functools.cache
def _accessibility() -> Callable[[Chem.Mol], float] | None:
    """Return RDKit's contributed SA score, or None where it is not there."""
    from rdkit import RDConfig

    file = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.calculateScore

"""The protocol "similarity": how alike molecules are to each other and to a reference.

By Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits) of valid molecules' SMILES
(largest fragment, no stereochemistry; a molecule's own bonds if it states any, else EDM's table):

* internal diversity, 1 minus the mean similarity of all pairs (Benhenda, arXiv 1708.08227);
* nearest neighbour: the mean, over molecules, of the largest similarity to any molecule of the
  reference. It is 1 for some that differ, such as long chains, so what is identical is told by
  SMILES: the share of molecules that stand in the reference. Close to the data is good and
  copying it is not: read it beside novelty, and beside the same figure of a held-out part of the
  data;
* Frechet ChemNet distance (Preuer et al., J. Chem. Inf. Model. 58:1736, 2018), where `fcd_torch`
  is installed and there are at least 500 molecules on both sides. It is biased upwards for small
  sets, so only figures of equal numbers of molecules compare.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from molbfn.evaluation.intervals import additive_ratio
from molbfn.evaluation.metrics import NamedRatio, NamedStatistic, Quantity, summarise
from molbfn.evaluation.own_bonds import judge
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.sampled import SampledProtocol, sample_note

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.evaluation.protocols import Progress
    from molbfn.evaluation.reference import KnownSmiles

PROTOCOL = "similarity"
DEFAULT_SAMPLE = 1000
FEWEST_FOR_FCD = 500
REFERENCE_FOR_FCD = 5_000
_RADIUS, _BITS = 2, 2048


class SimilarityProtocol(SampledProtocol):
    """Takes a sample of molecules and compares their fingerprints.

    Time grows with the square of their number.
    """

    def finish(self, context: Context) -> Findings:
        """Compare the sample and return what was found."""
        molecules = self._sample.molecules
        smiles = [v.smiles for v in judge(molecules) if v.smiles]
        notes = [
            f"{PROTOCOL}: {len(smiles):,} valid molecules by {_route(molecules)}, of "
            f"{sample_note(len(molecules), self._sample.given)}"
        ]
        prints = fingerprints(smiles)
        quantities = [_diversity(prints, given=len(molecules))]
        ratios: list[NamedRatio] = []
        packages: list[str] = []
        if context.known and smiles:
            known = context.known[0]
            nearest = nearest_similarities(prints, known, context.progress)
            quantities.append(_nearest(nearest, known, len(molecules), seed=context.seed))
            ratios.append(_identical(smiles, known, len(molecules)))
            found, note = _frechet(smiles, known, len(molecules), seed=context.seed)
            quantities += [found] if found else []
            packages += ["fcd_torch"] if found else []
            notes += [note] if note else []
        return Findings(ratios=ratios, quantities=quantities, notes=notes, packages=packages)


def _route(molecules: Sequence[Molecule | None]) -> str:
    """Return in words whose bonds molecules are judged by."""
    several = [m for m in molecules if m is not None and len(m) > 1]
    own = sum(m.states_bonds for m in several)
    if 0 < own < len(several):
        return f"own bonds ({own:,} that state any) or EDM's table"
    return "own bonds" if own else "EDM's table"


def fingerprints(smiles: Sequence[str]) -> list[Any]:
    """Return RDKit's Morgan bit vectors of SMILES in the form of `graph`."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)
    with rdBase.BlockLogs():
        mols = (Chem.MolFromSmiles(text) for text in smiles)
        return [generator.GetFingerprint(mol) for mol in mols if mol is not None]


def internal_diversity(prints: Sequence[Any]) -> float | None:
    """Return 1 minus the mean similarity of all pairs of different molecules; None for one."""
    from rdkit.DataStructs import BulkTanimotoSimilarity

    if len(prints) < 2:
        return None
    total = sum(sum(BulkTanimotoSimilarity(prints[k], prints[:k])) for k in range(1, len(prints)))
    return 1 - 2 * total / (len(prints) * (len(prints) - 1))


def nearest_similarities(
    prints: Sequence[Any], known: KnownSmiles, progress: Progress | None = None
) -> list[float]:
    """Return each molecule's largest similarity to any structure of a reference."""
    from rdkit.DataStructs import BulkTanimotoSimilarity

    theirs = fingerprints(sorted(known.smiles))
    found = []
    for k, own in enumerate(prints):
        found.append(max(BulkTanimotoSimilarity(own, theirs), default=0.0))
        if progress and (k + 1) % 100 == 0:
            progress("nearest neighbours", k + 1, len(prints))
    return found


def _of_the_set(
    name: str, *, label: str, value: float | None, count: int, given: int, definition: str
) -> Quantity:
    """Return a number of all molecules together, which has no interval."""
    return Quantity(
        name=f"{PROTOCOL}_{name}",
        label=label,
        value=value,
        low=None,
        high=None,
        unit="",
        count=count,
        given=given,
        protocol=PROTOCOL,
        interval=None,
        definition=definition,
    )


def _diversity(prints: Sequence[Any], *, given: int) -> Quantity:
    return _of_the_set(
        "internal_diversity",
        label="Internal diversity",
        value=internal_diversity(prints),
        count=len(prints),
        given=given,
        definition="1 minus the mean Tanimoto similarity of all pairs of valid molecules; Morgan "
        "fingerprints, radius 2, 2048 bits",
    )


def _nearest(values: list[float], known: KnownSmiles, given: int, *, seed: int) -> Quantity:
    named = NamedStatistic(
        name=f"{PROTOCOL}_nearest_neighbour",
        label="Nearest neighbour in the reference",
        unit="",
        protocol=PROTOCOL,
        definition="mean over valid molecules of the largest Tanimoto similarity to a structure of "
        + known.description,
        values=np.array(values, dtype=np.float64),
        reduce=np.mean,
        given=given,
    )
    return summarise(named, seed=seed)


def _identical(smiles: Sequence[str], known: KnownSmiles, given: int) -> NamedRatio:
    # those that are not valid have no neighbour and stay in the denominator
    copied = np.zeros(given, dtype=bool)
    copied[: len(smiles)] = [text in known.smiles for text in smiles]
    return NamedRatio(
        f"{PROTOCOL}_identical",
        "Nearest neighbour identical",
        PROTOCOL,
        "molecules (largest fragments) with the same SMILES as a structure of "
        f"{known.description}, over all molecules of the sample",
        additive_ratio(copied, np.ones(given, dtype=bool)),
    )


def _frechet(
    smiles: Sequence[str], known: KnownSmiles, given: int, *, seed: int
) -> tuple[Quantity | None, str | None]:
    """Return the Frechet ChemNet distance, or why there is none."""
    if importlib.util.find_spec("fcd_torch") is None:
        return None, f"{PROTOCOL}: no FCD, needs fcd_torch: pip install 'molbfn[eval]'"
    if min(len(smiles), len(known.smiles)) < FEWEST_FOR_FCD:
        return None, f"{PROTOCOL}: no FCD, it needs {FEWEST_FOR_FCD} molecules on both sides"
    theirs = sorted(known.smiles)
    if len(theirs) > REFERENCE_FOR_FCD:
        chosen = np.random.default_rng(seed).choice(len(theirs), REFERENCE_FOR_FCD, replace=False)
        theirs = [theirs[k] for k in np.sort(chosen)]
    from fcd_torch import FCD

    value = FCD(device="cpu", n_jobs=1, canonize=False)(gen=list(smiles), ref=theirs)
    quantity = _of_the_set(
        "fcd",
        label="Fréchet ChemNet distance",
        value=float(value),
        count=len(smiles),
        given=given,
        definition=f"between the valid molecules and {len(theirs):,} structures of "
        f"{known.description}; biased upwards for small sets",
    )
    return quantity, None

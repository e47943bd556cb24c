"""Molecules that the chem tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from molbfn.chem.molecule import Molecule

_PRINTABLE = st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_characters="\x7f\xad")
_WORDS = st.lists(st.text(_PRINTABLE, min_size=1, max_size=6), max_size=3).map(" ".join)
_TEXT = _WORDS.filter(lambda t: t.isprintable() and not t.startswith(("$$$$", ">", "M  END")))
_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda n: n not in ("name", "Properties")
)


@st.composite
def molecules(draw: st.DrawFn, *, max_atoms: int = 9, known: bool = True) -> Molecule:
    """Any atoms anywhere with any bonds and charges: the formats must not mind the chemistry."""
    n = draw(st.integers(1, max_atoms))
    coordinate = st.integers(-(10**6), 10**6).map(lambda k: k / 10**4)
    numbers = draw(st.lists(st.integers(1, 118), min_size=n, max_size=n))
    points = draw(st.lists(coordinate, min_size=3 * n, max_size=3 * n))
    hypothesis.assume(n == 1 or points != points[:3] * n)  # readers refuse all on one point
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    chosen = draw(st.sets(st.sampled_from(pairs), max_size=2 * n)) if pairs else set()
    bonds = [(i, j, draw(st.integers(1, 3))) for i, j in sorted(chosen)]
    charges = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    # text that looks like a number comes back as one (documented), so text here never does
    text = _TEXT.map(lambda t: f"t{t}")
    value = st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, width=64), text)
    value = value.filter(lambda v: not isinstance(v, float) or np.isfinite(v))
    return Molecule(
        atomic_numbers=np.array(numbers),
        positions=np.array(points, dtype=np.float32).reshape(n, 3),
        formal_charges=np.array(charges) if known else None,
        bonds=np.array(bonds, dtype=np.int64).reshape(-1, 3) if known else None,
        title=draw(_TEXT),
        properties=draw(st.dictionaries(_NAMES, value, max_size=4)),
    )


def assert_same(first: Molecule, second: Molecule, *, decimals: float = 0.0) -> None:
    """Check that two molecules are equal in everything, coordinates within ``decimals``."""
    np.testing.assert_array_equal(first.atomic_numbers, second.atomic_numbers)
    np.testing.assert_allclose(first.positions, second.positions, rtol=1e-6, atol=decimals)
    for a, b in ((first.formal_charges, second.formal_charges), (first.bonds, second.bonds)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a, b)
    assert first.title == second.title
    assert dict(first.properties) == dict(second.properties)
    types = [(type(first.properties[k]), type(second.properties[k])) for k in first.properties]
    assert all(a is b for a, b in types)


@pytest.fixture(scope="session")
def same():
    return assert_same


@pytest.fixture(scope="session")
def any_molecules():
    return molecules


def embedded(smiles: str) -> Molecule:
    """A molecule with RDKit's own 3D coordinates, bonds and charges, hydrogens explicit."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    AllChem.MMFFOptimizeMolecule(mol)
    return Molecule.from_rdkit(mol)


@pytest.fixture(scope="session")
def embed():
    return embedded


@pytest.fixture
def water() -> Molecule:
    return Molecule(
        atomic_numbers=np.array([8, 1, 1]),
        positions=np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]),
        formal_charges=np.zeros(3),
        bonds=np.array([[0, 1, 1], [0, 2, 1]]),
        title="water",
        properties={"model": "test", "seed": 0, "index": 3, "score": 0.5},
    )


@pytest.fixture(scope="session")
def qm9() -> dict[str, np.ndarray]:
    """The real QM9 subset, with offsets; skips where it is absent."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("MOLBFN_DATA", root.parent / "shared" / "data"))
    file = folder / "qm9" / "qm9.npz"
    if not file.is_file():
        pytest.skip(f"no QM9 data at {file} (set MOLBFN_DATA)")
    with np.load(file) as npz:
        arrays = {
            name: npz[name] for name in ("num_atoms", "atomic_numbers", "positions", "smiles")
        }
    arrays["offsets"] = np.concatenate([[0], np.cumsum(arrays["num_atoms"], dtype=np.int64)])
    return arrays

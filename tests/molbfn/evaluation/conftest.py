"""Small molecules with known verdicts; coordinates in angstrom, bonds made by distance alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molbfn.chem.files import open_writer
from molbfn.chem.molecule import Molecule
from molbfn.data.locate import available_datasets
from molbfn.data.store import MoleculeStore

Vectors = list[tuple[float, float, float]]
TETRAHEDRON: Vectors = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]


def centred(centre: int, others: list[int], directions: Vectors, length: float) -> Molecule:
    """One atom and others at the same distance from it."""
    arms = np.array(directions, dtype=float)
    arms *= length / np.linalg.norm(arms, axis=1, keepdims=True)
    return Molecule(np.array([centre, *others]), np.concatenate([np.zeros((1, 3)), arms]))


def joined(first: Molecule, second: Molecule, shift: tuple[float, float, float]) -> Molecule:
    """Two molecules as one, the second moved."""
    return Molecule(
        np.concatenate([first.atomic_numbers, second.atomic_numbers]),
        np.concatenate([first.positions, second.positions + np.array(shift, dtype=np.float32)]),
    )


def methyl(tilt: float = 1.0) -> Molecule:
    """CH3 with its open side towards +z (tilt 1) or -z (tilt -1)."""
    downs = [(0.943, 0, -0.333), (-0.471, 0.816, -0.333), (-0.471, -0.816, -0.333)]
    return centred(6, [1, 1, 1], [(x, y, z * tilt) for x, y, z in downs], 1.09)


def examples() -> dict[str, Molecule]:
    """Name -> molecule; what each is for stands in the tests."""
    methane = centred(6, [1] * 4, TETRAHEDRON, 1.09)
    water = centred(8, [1, 1], [(0.79, 0.61, 0), (-0.79, 0.61, 0)], 0.96)
    # five hydrogens around carbon stay farther apart than an H-H bond
    bipyramid = [(0, 0, 1), (0, 0, -1), (1, 0, 0), (-0.5, 0.866, 0), (-0.5, -0.866, 0)]
    return {
        "methane": methane,
        "water": water,
        "ammonia": centred(7, [1] * 3, TETRAHEDRON[:3], 1.01),
        "ammonium": centred(7, [1] * 4, TETRAHEDRON, 1.02),
        "methyl": methyl(),
        "ethane": joined(methyl(), methyl(-1), (0, 0, 1.53)),
        "torn ethane": joined(methyl(), methyl(-1), (0, 0, 2.2)),
        "pentavalent carbon": centred(6, [1] * 5, bipyramid, 1.1),
        "methane and water": joined(methane, water, (6, 0, 0)),
        "two methanes": joined(methane, methane, (6, 0, 0)),
        "hydrogen cyanide": Molecule([1, 6, 7], [[0, 0, -1.07], [0, 0, 0], [0, 0, 1.156]]),
        "carbon dioxide": Molecule([8, 6, 8], [[0, 0, -1.17], [0, 0, 0], [0, 0, 1.17]]),
        # the length that CO2 really has lies just within the table's triple bond (116 pm)
        "real carbon dioxide": Molecule([8, 6, 8], [[0, 0, -1.1598], [0, 0, 0], [0, 0, 1.1598]]),
        "hydrogen chloride": Molecule([17, 1], [[0, 0, 0], [0, 0, 1.27]]),
        "sodium hydride": Molecule([11, 1], [[0, 0, 0], [0, 0, 1.89]]),
    }


@pytest.fixture(scope="session")
def example() -> Callable[[str], Molecule]:
    """A molecule of `examples` by its name."""
    return examples().__getitem__


@pytest.fixture(scope="session")
def named() -> Callable[..., list[Molecule]]:
    """Several molecules of `examples` by their names."""
    known = examples()
    return lambda *names: [known[name] for name in names]


@pytest.fixture(scope="session")
def embed() -> Callable[..., Molecule]:
    """A molecule in 3D, with the bonds and charges of its SMILES."""

    def make(smiles: str, seed: int = 1) -> Molecule:
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=seed) == 0, smiles
        rdForceFieldHelpers.UFFOptimizeMolecule(mol)
        return Molecule.from_rdkit(mol)

    return make


@pytest.fixture(scope="session")
def nitrobenzenes(embed) -> dict[str, list[Molecule]]:
    """Nitrobenzene by both Kekule structures, its nitrogen "charged" or "five-valent"."""
    charged = embed("[O-][N+](=O)c1ccccc1")
    bonds = charged.bonds.copy()
    ring = (charged.atomic_numbers[bonds[:, :2]] == 6).all(axis=1)
    bonds[ring, 2] = 3 - bonds[ring, 2]
    pair = [charged, dataclasses.replace(charged, bonds=bonds)]
    found = {"charged": pair, "five-valent": []}
    for molecule in pair:
        bonds = molecule.bonds.copy()
        nitrogen = charged.atomic_numbers[bonds[:, :2]].sum(axis=1) == 7 + 8
        bonds[nitrogen, 2] = 2
        found["five-valent"].append(
            dataclasses.replace(molecule, bonds=bonds, formal_charges=np.zeros(len(charged)))
        )
    return found


@pytest.fixture(scope="session")
def shuffled() -> Callable[..., Molecule]:
    """The same molecule with its atoms in another order, turned and moved."""

    def shuffle(molecule: Molecule, seed: int = 0) -> Molecule:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(molecule))
        place = np.argsort(order)
        bonds, charges = molecule.bonds, molecule.formal_charges
        if bonds is not None:
            bonds = bonds.copy()
            bonds[:, :2] = np.sort(place[bonds[:, :2]], axis=1)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        return Molecule(
            molecule.atomic_numbers[order],
            molecule.positions[order].astype(float) @ turn + rng.normal(size=3),
            None if charges is None else charges[order],
            bonds,
        )

    return shuffle


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, list[Molecule]], Path]:
    """Write molecules to a file of the test's folder."""

    def writer(name: str, molecules: list[Molecule]) -> Path:
        with open_writer(tmp_path / name) as stream:
            for molecule in molecules:
                stream.write(molecule)
        return tmp_path / name

    return writer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("molbfn.evaluation.reference.cache_dir", lambda: folder)
    return folder


@pytest.fixture(scope="session")
def qm9() -> MoleculeStore:
    """The real QM9 subset; skips where it is absent."""
    if "qm9" not in available_datasets():
        pytest.skip("no QM9 data here (set MOLBFN_DATA)")
    return MoleculeStore.open("qm9")

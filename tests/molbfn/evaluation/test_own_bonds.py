"""Molecules with and without bonds of their own, mixed."""

from __future__ import annotations

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation import bonds, edm
from molbfn.evaluation.own_bonds import any_stated, judge
from molbfn.evaluation.reference import open_reference
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Settings

ATOM = Molecule(np.array([2]), np.zeros((1, 3)), np.zeros(1, int), np.zeros((0, 3), int))
"""What an SDF record of helium reads as: it has all the bonds that it can have."""


def bare(molecule: Molecule) -> Molecule:
    return Molecule(molecule.atomic_numbers, molecule.positions)


@pytest.fixture(scope="module")
def mixed(embed) -> list[Molecule | None]:
    ethanol, ethene = embed("CCO"), embed("C=C")
    torn = Molecule(  # its own bonds say two pieces, its coordinates one
        ethene.atomic_numbers, ethene.positions, ethene.formal_charges, ethene.bonds[1:]
    )
    return [ethanol, bare(ethene), None, torn, bare(ethanol), ethene, ATOM]


def test_each_molecule_is_judged_by_its_own_route(mixed):
    found = judge(mixed)
    own = [0, 3, 5, 6]
    expected = [(bonds if k in own else edm).judge([m])[0] for k, m in enumerate(mixed)]
    assert found == expected
    assert [v.smiles for v in found] == ["CCO", "C=C", None, "[CH2]", "CCO", "C=C", None]
    assert judge([]) == []


def test_a_single_atom_does_not_tell_whether_bonds_are_stated(embed):
    ethanol = embed("CCO")
    assert ATOM.states_bonds
    assert not any_stated([ATOM, bare(ethanol), None])
    assert any_stated([ATOM, bare(ethanol), ethanol])
    assert not any_stated([])


@pytest.mark.parametrize("place", [0, 3])
def test_an_atom_among_molecules_without_bonds_changes_no_route(embed, place):
    molecules = [bare(embed(smiles)) for smiles in ("CCO", "CCN", "CO")]
    molecules.insert(place, ATOM)
    result = evaluate(
        molecules,
        protocols=("agreement", "similarity", "distributions"),
        settings=Settings(workers=1),
    )
    assert result["agreement_table_rdkit"].numerator == 3
    assert "agreement_file_table" not in [m.name for m in result.metrics]
    notes = " ".join(result.notes)
    assert "similarity: 3 valid molecules by EDM's table" in notes
    assert "distributions: by the bonds of EDM's distance table" in notes
    assert {d.name for d in result.distributions} >= {"bond_orders", "rings_per_molecule"}
    (size,) = (d for d in result.distributions if d.name == "size")
    assert size.count == 4


def test_atoms_alone_still_count(embed):
    result = evaluate([ATOM, ATOM], protocols=("distributions", "similarity"))
    (size,) = (d for d in result.distributions if d.name == "size")
    assert size.count == 2


def test_half_of_the_molecules_state_bonds(embed):
    molecules = [embed(smiles) for smiles in ("CCO", "CCN", "CO")]
    both = [*molecules, *map(bare, molecules), None]
    result = evaluate(both, protocols=("agreement", "similarity"), settings=Settings(workers=1))
    counts = {m.name: (m.numerator, m.denominator) for m in result.metrics}
    # what cannot be read fails, and might have stated bonds
    assert counts["agreement_table_rdkit"] == (6, 7)
    assert counts["agreement_file_table"] == counts["agreement_file_table_rdkit"] == (3, 4)
    assert "that states bonds" in result["agreement_file_table"].definition
    assert "that states bonds" not in result["agreement_table_rdkit"].definition
    assert any("agreement: 3 of 7 molecules state no bonds" in note for note in result.notes)
    assert any(
        "6 valid molecules by own bonds (3 that state any) or EDM's table" in note
        for note in result.notes
    )


def test_a_reference_with_an_atom_among_molecules_without_bonds(embed, write):
    file = write("ref.sdf", [ATOM, bare(embed("CCO"))])
    assert not open_reference(file).has_smiles()
    assert open_reference(write("with.sdf", [ATOM, embed("CCO")])).has_smiles()

"""Three routes to the bonds, and molecules on which they differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.agreement import agreement_ratios, graphs_record
from molbfn.evaluation.distributed import reference_molecules
from molbfn.evaluation.reference import open_reference
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Outcome, Settings


def found(*molecules: Molecule | None) -> dict[str, tuple[int, int]]:
    outcomes = [
        Outcome(None, "unreadable", {}) if m is None else Outcome(m, "ok", graphs_record(m))
        for m in molecules
    ]
    return {
        r.name.removeprefix("agreement_"): (r.ratio.numerator, r.ratio.denominator)
        for r in agreement_ratios(outcomes)
    }


def test_ethanol_has_one_graph_whatever_the_route_and_the_order_of_atoms(embed, shuffled):
    for molecule in (embed("CCO"), shuffled(embed("CCO"))):
        record = graphs_record(molecule)
        assert record["file"] == record["table"] == record["rdkit"]
        assert len(record["file"]) == 8
    assert set(found(embed("CCO"), None).values()) == {(1, 2)}


def test_another_kekule_structure_is_no_disagreement(embed):
    benzene = embed("c1ccccc1")
    other = benzene.bonds.copy()
    ring = (other[:, :2] < 6).all(axis=1)
    other[ring, 2] = 3 - other[ring, 2]
    record = graphs_record(benzene)
    assert graphs_record(dataclasses.replace(benzene, bonds=other))["file"] == record["file"]
    assert record["file"] == record["rdkit"]


def test_a_wrong_order_in_the_file_is_seen_by_orders_only(embed):
    ethane = embed("CC")
    bonds = ethane.bonds.copy()
    bonds[0, 2] = 2
    assert bonds[0, :2].tolist() == [0, 1]
    wrong = dataclasses.replace(ethane, bonds=bonds)
    assert found(wrong) == {
        "file_table": (0, 1),
        "file_rdkit": (0, 1),
        "table_rdkit": (1, 1),
        "file_table_rdkit": (0, 1),
        "file_table_rdkit_connectivity": (1, 1),
    }


def test_without_stated_bonds_two_routes_are_left_and_chlorine_has_no_table(embed):
    water, chloride = embed("O"), embed("CCl")
    bare = [Molecule(m.atomic_numbers, m.positions) for m in (water, chloride)]
    assert found(*bare) == {"table_rdkit": (1, 2), "table_rdkit_connectivity": (1, 2)}
    assert graphs_record(bare[1])["table"] is None


def test_atoms_far_apart_have_no_graph_by_rdkit():
    apart = Molecule(np.array([1, 1]), [[0, 0, 0], [0, 0, 9]])
    record = graphs_record(apart)
    assert (record["table"], record["rdkit"]) == ([], None)
    assert found(apart)["table_rdkit"] == (0, 1)


def test_whole_protocol_in_a_worker(embed):
    result = evaluate([embed("CCO")], protocols=("agreement",), settings=Settings(workers=1))
    assert result["agreement_file_table_rdkit"].value == 1
    assert any("all 1 molecules" in note for note in result.notes)


@pytest.mark.parametrize("smiles", ["CC(=O)N", "C#CC#N", "C1CC1"])
def test_rdkit_finds_the_bonds_of_ordinary_molecules(embed, smiles: str):
    record = graphs_record(embed(smiles))
    assert record["file"] == record["rdkit"]


def test_qm9_by_three_routes(qm9):
    """Measured on 500 molecules of the test part: 95.2 % by all three, 99.8 % without orders."""
    chosen = qm9.subset(np.random.default_rng(2).choice(len(qm9), 100, replace=False))
    molecules = list(reference_molecules(open_reference(chosen, split="all"), "own", seed=0))
    shares = found(*molecules)
    assert 88 <= shares["file_table_rdkit"][0] <= 100
    assert 97 <= shares["file_table_rdkit_connectivity"][0] <= 100

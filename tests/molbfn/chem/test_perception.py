from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import BondPerceiver, fall_back

ROOT = Path(__file__).resolve().parents[3]


def bare(molecule: Molecule, index: int = 0) -> Molecule:
    """Only atoms and coordinates: what a generator gives."""
    return Molecule(
        molecule.atomic_numbers, molecule.positions, title="kept", properties={"index": index}
    )


def fake_worker(folder: Path, body: str) -> list[str]:
    """A worker process that answers with ``perceive(numbers, positions, charge)`` of this text."""
    text = f"""
        import os, sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from molbfn.chem._worker import perceive as real, serve

        def perceive(numbers, positions, charge):
            {body}
            return real(numbers, positions, charge)

        serve(perceive)
        """
    script = folder / "fake_worker.py"
    script.write_text(textwrap.dedent(text))
    return [sys.executable, str(script)]


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("CCO", 0),
        ("C[N+](=O)[O-]", 0),
        ("[NH4+]", 1),
        ("CC(=O)[O-]", -1),
        ("C1CC2C3OC(=N1)C23", 0),  # a cage whose far atoms are 1.9 angstrom apart
        ("c1ccc2[nH]ccc2c1", 0),
        ("C#CC#N", 0),
        ("[NH3+]CC(=O)[O-]", 0),
    ],
)
def test_bonds_and_charges_of_known_molecules(embed, smiles: str, charge: int) -> None:
    known = embed(smiles)
    with BondPerceiver() as perceiver:
        result = perceiver.perceive(bare(known))
    assert (result.route, result.status, result.reason) == ("rdkit", "ok", "")
    assert result.charge == result.molecule.charge == charge
    assert result.molecule.smiles() == known.smiles()
    assert result.molecule.title == "kept"
    np.testing.assert_array_equal(result.molecule.positions, known.positions)


def test_order_is_kept_with_several_workers(embed, tmp_path: Path) -> None:
    kinds = [embed("CO"), embed("C"), embed("CCCC")]
    given = [bare(kinds[k % 3], k) for k in range(30)]
    # the larger the molecule, the slower the answer: results come back out of order
    command = fake_worker(tmp_path, "time.sleep(0.004 * len(numbers))")
    with BondPerceiver(workers=3, command=command) as perceiver:
        results = list(perceiver.perceive_many(iter(given)))
    assert [r.molecule.properties["index"] for r in results] == list(range(30))
    assert {r.route for r in results} == {"rdkit"}


def test_streaming_reads_only_a_few_ahead(water: Molecule) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield bare(water, taken)

    with BondPerceiver() as perceiver:
        stream = perceiver.perceive_many(endless())
        for _ in range(10):
            next(stream)
        stream.close()
    assert 10 <= taken < 20


def test_a_hang_costs_one_molecule_only(embed, tmp_path: Path) -> None:
    methane, ethane = embed("C"), embed("CC")
    given = [bare(methane), bare(ethane), bare(methane), bare(methane)]
    command = fake_worker(tmp_path, "time.sleep(60 if len(numbers) == 8 else 0)")
    with BondPerceiver(timeout=0.5, command=command) as perceiver:
        results = list(perceiver.perceive_many(given))
    assert [r.status for r in results] == ["ok", "timeout", "ok", "ok"]
    hung = results[1]
    assert hung.route == "table"
    assert "0.5 s" in hung.reason
    assert hung.molecule.smiles() == "CC"


def test_a_hang_outside_python_is_killed_too(embed, tmp_path: Path) -> None:
    """A worker that does not even take signals, as when it spins in C++."""
    command = fake_worker(tmp_path, "import signal; signal.pthread_sigmask(0, range(1, 65)); "
                          "exec('while len(numbers) == 5: pass')")  # fmt: skip
    with BondPerceiver(timeout=0.5, command=command) as perceiver:
        results = list(perceiver.perceive_many([bare(embed("C")), bare(embed("CC"))]))
    assert [r.status for r in results] == ["timeout", "ok"]


def test_a_worker_that_dies_costs_one_molecule_only(embed, tmp_path: Path) -> None:
    command = fake_worker(tmp_path, "os._exit(7) if len(numbers) == 8 else None")
    given = [bare(embed("C")), bare(embed("CC")), bare(embed("C"))]
    with BondPerceiver(command=command) as perceiver:
        results = list(perceiver.perceive_many(given))
    assert [r.status for r in results] == ["ok", "died", "ok"]
    assert "exit status 7" in results[1].reason
    assert results[1].route == "table"


@pytest.mark.parametrize("command", [["/nonexistent/python"], [sys.executable, "-c", "pass"]])
def test_no_worker_at_all_still_gives_bonds(water: Molecule, command: list[str]) -> None:
    with BondPerceiver(command=command) as perceiver:
        results = list(perceiver.perceive_many([bare(water)] * 3))
    assert [r.status for r in results] == ["unavailable"] * 3
    assert all(r.molecule.smiles() == "O" for r in results)


def test_an_answer_that_is_an_error_or_noise(water: Molecule, tmp_path: Path) -> None:
    command = fake_worker(tmp_path, "print('noise'); raise KeyError('boom')")
    with BondPerceiver(command=command) as perceiver:
        result = perceiver.perceive(bare(water))
    assert (result.status, result.route) == ("failed", "table")
    assert "boom" in result.reason


def test_what_rdkit_cannot_assign_takes_the_table() -> None:
    """CH3 and a hydrogen far away, with no charge that balances: still written, with bonds."""
    far = Molecule(np.array([6, 1, 1, 1, 1, 1]), np.array([
        [0, 0, 0], [1.08, 0, 0], [-0.54, 0.94, 0], [-0.54, -0.94, 0], [9, 0, 0], [0, 9, 0],
    ]))  # fmt: skip
    with BondPerceiver() as perceiver:
        result = perceiver.perceive(far)
    assert (result.route, result.status) == ("table", "failed")
    assert result.molecule.bonds.tolist() == [[0, 1, 1], [0, 2, 1], [0, 3, 1]]
    assert result.molecule.formal_charges.tolist() == [0] * 6


def test_single_bonds_where_the_table_knows_no_pair() -> None:
    """CB with a carbon that has too few neighbours: the table has no C-B length."""
    points = np.array([[0, 0, 0], [1.57, 0, 0], [-0.6, 0.9, 0]])
    result = fall_back(Molecule(np.array([6, 5, 1]), points), "failed", "why")
    assert result.route == "single"
    assert result.molecule.bonds.tolist() == [[0, 1, 1], [0, 2, 1]]
    assert result.reason.startswith("why")
    assert "atoms 1 and 2" in result.reason
    # the same elements out of reach of each other do not spoil the table
    apart = fall_back(Molecule(np.array([6, 5, 1]), points * [1, 1, 1] + [[0, 0, 0], [8, 0, 0],
                      [0, 0, 0]]), "failed", "why")  # fmt: skip
    assert apart.route == "table"
    assert apart.molecule.bonds.tolist() == [[0, 2, 1]]


def test_one_atom_gains_no_hydrogens_and_nan_does_not_stop() -> None:
    nan = Molecule(np.array([6, 1]), np.array([[0, 0, 0], [np.nan, 0, 0]]))
    with BondPerceiver() as perceiver:
        lone, broken = perceiver.perceive_many([Molecule(np.array([8]), np.zeros((1, 3))), nan])
    assert lone.route == "table"
    assert lone.molecule.smiles() == "[O]"
    assert (broken.status, len(broken.molecule.bonds)) == ("failed", 0)


def test_works_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from molbfn.chem.molecule import Molecule\n"
        "from molbfn.chem.perception import BondPerceiver\n"
        "print('started')\n"
        "h2 = Molecule(np.array([1, 1]), np.array([[0, 0, 0], [0.74, 0, 0]]))\n"
        "with BondPerceiver(workers=2) as p:\n"
        "    print([r.route for r in p.perceive_many([h2] * 3)])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["started", "['rdkit', 'rdkit', 'rdkit']"]


def test_arguments_are_checked() -> None:
    for arguments in ({"workers": 0}, {"timeout": 0.0}):
        with pytest.raises(ValueError, match="positive"):
            BondPerceiver(**arguments)


def test_real_qm9_geometries(qm9: dict[str, np.ndarray]) -> None:
    """Of 3,000 others, 2,999 were perceived, 2,995 with the very SMILES of the data set."""
    from rdkit import Chem

    smiles = bytes(qm9["smiles"]).decode().split("\n")
    chosen = np.random.default_rng(11).choice(len(smiles), 500, replace=False)
    own = [slice(qm9["offsets"][k], qm9["offsets"][k + 1]) for k in chosen]
    given = [Molecule(qm9["atomic_numbers"][o], qm9["positions"][o]) for o in own]
    with BondPerceiver() as perceiver:
        results = list(perceiver.perceive_many(given))
    assert Counter(r.route for r in results)["rdkit"] >= 495
    same = [
        r.molecule.smiles() == Chem.CanonSmiles(smiles[k], useChiral=0)
        for r, k in zip(results, chosen, strict=True)
    ]
    assert sum(same) >= 490


def test_the_charge_that_a_file_states_is_tried_first(embed) -> None:
    """A dication is beyond the charges that are tried by themselves."""
    dication, cation = bare(embed("[NH3+]CC[NH3+]")), bare(embed("C[NH3+]"))
    with BondPerceiver() as perceiver:
        assert perceiver.perceive(dication).route != "rdkit"
        found = perceiver.perceive(dication.with_properties(charge=2))
        # a wrong one does no harm
        other = perceiver.perceive(cation.with_properties(charge=-3))
    assert (found.route, found.charge, found.molecule.charge) == ("rdkit", 2, 2)
    assert sorted(found.molecule.formal_charges)[-2:] == [1, 1]
    assert (other.route, other.charge) == ("rdkit", 1)

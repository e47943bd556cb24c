from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from rdkit import Chem

from molbfn.chem import sdf
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import RawRecord, RecordError


def parse(text: str) -> Molecule:
    raw, *rest = sdf.split_records(text.splitlines(keepends=True))
    assert not rest
    return sdf.parse_record(raw.lines, ended=raw.ended)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_round_trip(any_molecules, same, data) -> None:
    molecule = data.draw(any_molecules())
    same(molecule, parse(sdf.format_record(molecule)), decimals=5.1e-5)


def chain(n: int) -> Molecule:
    points = np.zeros((n, 3))
    points[:, 0] = np.arange(n) * 1.5
    bonds = np.array([(k, k + 1, 1) for k in range(n - 1)])
    charges = np.zeros(n)
    charges[3] = -1
    return Molecule(np.full(n, 6), points, charges, bonds, "chain", {"index": 1})


@pytest.mark.parametrize(("atoms", "version"), [(999, "V2000"), (1000, "V3000")])
def test_v3000_above_999_atoms(same, atoms: int, version: str) -> None:
    molecule = chain(atoms)
    text = sdf.format_record(molecule)
    assert text.splitlines()[3].endswith(version)
    same(molecule, parse(text), decimals=5.1e-5)
    assert Chem.MolFromMolBlock(text, sanitize=False).GetNumAtoms() == atoms


def test_v3000_where_a_coordinate_is_too_wide(same, water: Molecule) -> None:
    far = dataclasses.replace(water, positions=water.positions + np.array([123456.0, 0, -54321.0]))
    text = sdf.format_record(far)
    assert "V3000" in text.splitlines()[3]
    same(far, parse(text), decimals=1e-4)


def test_rdkit_reads_what_we_write(tmp_path, embed) -> None:
    for smiles in ("C[N+](=O)[O-]", "c1cc[nH]c1", "CC(=O)[O-]", "C[NH3+]", "[CH3]", "[CH2]", "O"):
        text = sdf.format_record(embed(smiles).with_properties(index=4, model="m 1"))
        file = tmp_path / "a.sdf"
        file.write_text(text)
        (mol,) = Chem.SDMolSupplier(str(file))
        assert Chem.MolToSmiles(mol) == Chem.CanonSmiles(smiles)
        assert mol.GetConformer().Is3D()
        assert mol.GetPropsAsDict() == {"index": 4, "model": "m 1"}


@pytest.mark.parametrize("hydrogens", range(6))
@pytest.mark.parametrize("extra", [1, 1000])
def test_readers_invent_no_hydrogens(hydrogens: int, extra: int) -> None:
    """Radicals, bare atoms and a pentavalent carbon, in V2000 and (with many atoms) V3000."""
    n = hydrogens + 1
    numbers = np.array([6] + [1] * hydrogens + [2] * extra)
    points = np.random.default_rng(0).normal(size=(len(numbers), 3))
    bonds = np.array([(0, k, 1) for k in range(1, n)]).reshape(-1, 3)
    text = sdf.format_record(Molecule(numbers, points, bonds=bonds))
    mol = Chem.MolFromMolBlock(text, sanitize=False, removeHs=False)
    if hydrogens < 5:
        Chem.SanitizeMol(mol)
    mol.UpdatePropertyCache(strict=False)
    assert mol.GetNumAtoms() == len(numbers)
    assert sum(a.GetTotalNumHs() for a in mol.GetAtoms()) == 0


def test_flat_molecules_stay_three_dimensional(water: Molecule) -> None:
    flat = dataclasses.replace(water, positions=water.positions[:, [1, 2, 0]])
    assert (flat.positions[:, 2] == 0).all()
    np.testing.assert_allclose(parse(sdf.format_record(flat)).positions, flat.positions, atol=1e-4)


def test_text_cannot_break_the_record(water: Molecule) -> None:
    evil = dataclasses.replace(
        water,
        title="$$$$\nM  END",
        properties={"a<b>\n": "$$$$", "c": "> <d>\n\nM  END\n$$$$", "empty": ""},
    )
    text = sdf.format_record(evil)
    assert text.count("\n$$$$\n") == 1
    back = parse(text)
    assert list(back.properties) == ["a_b_", "c", "empty"]
    assert back.properties["empty"] == ""
    assert "$$$$" in back.title


def test_not_finite_coordinates_are_refused(water: Molecule) -> None:
    bad = dataclasses.replace(water, positions=np.full((3, 3), np.inf))
    with pytest.raises(ValueError, match="finite"):
        sdf.format_record(bad)


def edited(text: str, line: int, new: str | None) -> list[str]:
    lines = text.splitlines()[:-1]
    if new is None:
        return lines[: line - 1]
    lines[line - 1] = new
    return lines


@pytest.mark.parametrize(
    ("line", "new", "message", "at"),
    [
        (6, None, "no 'M  END'", 5),
        (4, "hello", "counts line is wrong: 'hello'", 4),
        (4, "  9  2  0  0  0  0  0  0  0  0999 V2000", "promises 9 atoms", 4),
        (4, "  3 99  0  0  0  0  0  0  0  0999 V2000", "promises 3 atoms and 99 bonds", 4),
        (4, "  2  2  0  0  0  0  0  0  0  0999 V2000", "", None),
        (6, "    0.0000    0.7572   -0.4692 Xx  0  0", "unknown element 'Xx'", 6),
        (6, "       nan    0.7572   -0.4692 H   0  0", "not a finite number", 6),
        (6, "       inf    0.7572   -0.4692 H   0  0", "not a finite number", 6),
        (6, "    0.0000    0.75z2   -0.4692 H   0  0", "are not numbers", 6),
        (6, "    0.0000", "are not numbers", 6),
        (8, "  1  9  1  0", "a bond of atom 9, but there are 3 atoms", 8),
        (8, "  2  2  1  0", "a bond of atom 2 with itself", 8),
        (9, "  2  1  1  0", "the bond of atoms 2 and 1 again", 9),
        (9, "  1  x  1  0", "not a bond: '1  x  1  0'", 9),
        (8, "  1  2  7  0", "", None),
    ],
)
def test_bad_lines_are_named(water: Molecule, line, new, message, at) -> None:
    with pytest.raises(RecordError) as error:
        sdf.parse_record(edited(sdf.format_record(water), line, new))
    assert message in str(error.value)
    if at is not None:
        assert error.value.line == at


def test_v3000_bad_lines_are_named() -> None:
    lines = sdf.format_record(chain(1000)).splitlines()[:-1]
    for number, old, new, message in [
        (6, "COUNTS", "COUNTS 1 x", "counts line"),
        (8, " C ", "M  V30 1 Qq 0 0 0 0", "unknown element 'Qq'"),
        (8, " C ", "M  V30 1 C 0 0 nan 0", "finite"),
        (8, " C ", "M  V30 1 C 0", "cut short"),
    ]:
        assert old in lines[number - 1]
        broken = [*lines[: number - 1], new, *lines[number:]]
        with pytest.raises(RecordError, match=message) as error:
            sdf.parse_record(broken)
        assert error.value.line == number


def test_two_molecules_in_one_record_are_not_taken_for_one(water: Molecule) -> None:
    lines = sdf.format_record(water).splitlines()[:-1]
    with pytest.raises(RecordError, match="second molecule"):
        sdf.parse_record(lines + lines)


def test_the_end_of_the_file(water: Molecule) -> None:
    """A mol block may end a file, and data items that a blank line closes."""
    lines = sdf.format_record(water).splitlines()[:-1]
    block = lines[: lines.index("M  END") + 1]
    assert len(sdf.parse_record(block, ended=False)) == 3
    assert sdf.parse_record(lines, ended=False).properties == water.properties
    for cut in (lines[:-1], [*block, "> <index>"]):
        with pytest.raises(RecordError, match="truncated"):
            sdf.parse_record(cut, ended=False)


def test_depictions_are_not_taken_for_geometries() -> None:
    mol = Chem.MolFromSmiles("CCO")
    with pytest.raises(RecordError, match="2D"):
        sdf.parse_record(Chem.MolToMolBlock(mol).splitlines())


def test_split_counts_lines_and_ignores_blank_ends() -> None:
    records = list(sdf.split_records(["a\n", "$$$$\r\n", "b\n", "\n", "$$$$\n", "\n", " \n"]))
    assert records == [RawRecord(1, ["a"]), RawRecord(3, ["b", ""])]
    assert list(sdf.split_records(["x"])) == [RawRecord(1, ["x"], ended=False)]


ZINC = ["Zn  0.0  0.0  0.0", "Cl  2.2  0.0  0.0", "Cl -2.2  0.0  0.2", "O  0.0  2.0  0.0",
        "H  0.8  2.5  0.1", "H -0.8  2.5  0.0"]  # fmt: skip


def zinc(dative: str, *, v3000: bool, others: str = "1") -> list[str]:
    """ZnCl2(OH2) as a record; the bond from Zn or O, and the type of those to hydrogen."""
    atoms = [line.split() for line in ZINC]
    bonds = ["1 1 2", "1 1 3", dative, f"{others} 4 5", f"{others} 4 6"]
    if v3000:
        lines = ["  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB"]
        lines += ["M  V30 COUNTS 6 5 0 0 0", "M  V30 BEGIN ATOM"]
        lines += [f"M  V30 {k} {' '.join(atom)} 0" for k, atom in enumerate(atoms, 1)]
        lines += ["M  V30 END ATOM", "M  V30 BEGIN BOND"]
        lines += [f"M  V30 {k} {bond}" for k, bond in enumerate(bonds, 1)]
        lines += ["M  V30 END BOND", "M  V30 END CTAB"]
    else:
        lines = ["  6  5  0  0  0  0  0  0  0  0999 V2000"]
        for symbol, x, y, z in atoms:
            place = f"{float(x):10.4f}{float(y):10.4f}{float(z):10.4f}"
            lines.append(f"{place} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
        for bond in bonds:
            order, first, second = (int(word) for word in bond.split())
            lines.append(f"{first:3d}{second:3d}{order:3d}  0")
    return ["zinc", "  test              3D", "", *lines, "M  END"]


@pytest.mark.parametrize("v3000", [False, True])
def test_a_dative_bond_is_a_single_one_between_charges(v3000: bool) -> None:
    molecule = sdf.parse_record(zinc("9 4 1", v3000=v3000))
    assert molecule.bonds.tolist() == [[0, 1, 1], [0, 2, 1], [0, 3, 1], [3, 4, 1], [3, 5, 1]]
    assert molecule.formal_charges.tolist() == [-1, 0, 0, 1, 0, 0]
    assert molecule.smiles() == "[OH2+][Zn-]([Cl])[Cl]"
    # a donor on the other side, as the arrow says
    other = sdf.parse_record(zinc("9 1 4", v3000=v3000))
    assert other.formal_charges.tolist() == [1, 0, 0, -1, 0, 0]
    plain = sdf.parse_record(zinc("1 4 1", v3000=v3000))
    assert not plain.formal_charges.any()


@pytest.mark.parametrize("order", [5, 6, 7, 8])
def test_a_bond_of_no_definite_order_is_refused(order: int) -> None:
    with pytest.raises(RecordError, match="between atoms 4 and 5 is unspecified"):
        sdf.parse_record(zinc("1 4 1", v3000=False, others=str(order)))


def test_an_aromatic_donor_has_a_kekule_structure(embed) -> None:
    pyridine = embed("c1ccncc1")
    mol = Chem.RWMol(pyridine.to_rdkit())
    zinc_atom = mol.AddAtom(Chem.Atom(30))
    mol.GetConformer().SetAtomPosition(zinc_atom, (9.0, 0.0, 0.0))
    nitrogen = int(np.flatnonzero(pyridine.atomic_numbers == 7)[0])
    mol.AddBond(nitrogen, zinc_atom, Chem.BondType.DATIVE)
    molecule = Molecule.from_rdkit(mol)
    assert molecule.formal_charges[[nitrogen, zinc_atom]].tolist() == [1, -1]
    ring = (molecule.atomic_numbers[molecule.bonds[:, :2]] != 1).all(axis=1)
    assert sorted(molecule.bonds[ring, 2].tolist()) == [1, 1, 1, 1, 2, 2, 2]
    assert mol.GetAtomWithIdx(nitrogen).GetFormalCharge() == 0  # the caller's stays as it is


def test_aromatic_bonds_of_other_programs_are_kekulised() -> None:
    ring = "".join(f"{k + 1:3d}{(k + 1) % 6 + 1:3d}  4  0\n" for k in range(6))
    atoms = "".join(f"{np.cos(k):10.4f}{np.sin(k):10.4f}{0.1:10.4f} C   0  0\n" for k in range(6))
    text = f"benzene\n\n\n  6  6  0  0  0  0  0  0  0  0999 V2000\n{atoms}{ring}M  END\n$$$$\n"
    assert sorted(parse(text).bonds[:, 2].tolist()) == [1, 1, 1, 2, 2, 2]


def test_data_items_with_headers_of_other_programs(water: Molecule) -> None:
    lines = sdf.format_record(dataclasses.replace(water, properties={})).splitlines()[:-1]
    lines += [">  25  <energy>  (3)", "-1.5", "", "> <two lines>", "a", "b", "", "> <last>", "x"]
    properties = sdf.parse_record(lines).properties
    assert properties == {"energy": -1.5, "two lines": "a\nb", "last": "x"}


def continued(text: str, *cuts: tuple[str, str]) -> str:
    """The text with its V3000 lines broken within these words."""
    for before, after in cuts:
        assert before + after in text
        text = text.replace(before + after, f"{before}-\nM  V30 {after}", 1)
    return text


def test_v3000_lines_that_go_on_in_the_next(same, water: Molecule) -> None:
    far = dataclasses.replace(water, positions=water.positions + np.float32(2e5))
    text = sdf.format_record(far)
    atoms = [line for line in text.splitlines() if line.startswith("M  V30 1 O")]
    x, y, z = atoms[0].split()[4:7]
    broken = continued(text, ("COUNTS 3", " 2 0"), (f"O {x} {y}", f" {z}"), ("BEGIN BO", "ND"))
    same(far, parse(broken), decimals=5.1e-5)
    assert Chem.MolFromMolBlock(broken, removeHs=False).GetNumAtoms() == 3
    # what is wrong is found all the same, and named by the line that it begins in
    with pytest.raises(RecordError, match="unknown element 'Qq'") as error:
        parse(broken.replace(" O ", " Qq "))
    assert error.value.line == 1 + broken.splitlines().index(f"M  V30 1 O {x} {y}-")
    with pytest.raises(RecordError, match="cut short"):
        parse(broken.replace(f"{y}-\nM  V30  {z} 0", f"{y}"))


def test_what_only_python_takes_for_a_number_is_none(water: Molecule) -> None:
    lines = sdf.format_record(water).splitlines(keepends=True)
    lines[4] = "    1_0.74" + lines[4][10:]
    with pytest.raises(RecordError, match="are not numbers") as error:
        parse("".join(lines))
    assert error.value.line == 5

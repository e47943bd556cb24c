"""Make files of molecules as the world has them: whole, odd, damaged and huge.

    python scripts/make_fuzz_corpus.py FOLDER [--big BYTES]

The molecules are RDKit's embeddings of a few SMILES; the same files come out every time. With
each file, ``expected.json`` says how many molecules and how many bad records a reader finds.
``--big`` adds ``big.sdf`` of at least so many bytes, in which every hundredth record is damaged.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from molbfn.chem import sdf, xyz
from molbfn.chem.molecule import Molecule

SMILES = ("O", "CCO", "c1ccccc1", "CC(=O)[O-]", "C[NH3+]", "C[N+](=O)[O-]", "FC(F)Cl", "c1cc[nH]c1")


@dataclasses.dataclass(frozen=True)
class Case:
    """One file and what is in it."""

    name: str
    content: bytes
    good: int
    """molecules"""
    bad: int
    """records that cannot be read; -1: the whole file is refused"""


def molecules() -> list[Molecule]:
    """Return the molecules of `SMILES` with 3D coordinates."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    made = []
    for smiles in SMILES:
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if AllChem.EmbedMolecule(mol, randomSeed=7) != 0:
            raise RuntimeError(f"RDKit cannot embed {smiles}")
        made.append(dataclasses.replace(Molecule.from_rdkit(mol), title=smiles))
    return made


def cases() -> list[Case]:
    """Return every file but the big one."""
    whole = molecules()
    return [
        *_whole_files(whole),
        *_damaged_sdf(whole),
        *_odd_sdf(whole),
        *_xyz(whole),
        *_packed(whole),
    ]


def _text(name: str, text: str, good: int, bad: int) -> Case:
    return Case(name, text.encode(), good, bad)


def _whole_files(whole: list[Molecule]) -> Iterator[Case]:
    records = [sdf.format_record(m) for m in whole]
    text, n = "".join(records), len(records)
    yield _text("whole.sdf", text, n, 0)
    yield _text("line_ends.sdf", _mixed_line_ends(records), n, 0)
    yield _text("no_end.sdf", text.removesuffix("$$$$\n"), n, 0)
    data = records[1].removesuffix("$$$$\n") + "> <from>\nanother program\n"
    yield _text("data_at_the_end.sdf", data + "\n", 1, 0)
    yield _text("data_cut.sdf", records[0] + data, 1, 1)
    yield _text("blank_end.sdf", text + "\n \n\n", n, 0)
    yield Case("byte_order_mark.sdf", b"\xef\xbb\xbf" + text.encode(), n, 0)
    title = records[0].replace("O\n", "Stra\xdfe \xb5\u20ac\n", 1)
    yield Case("windows_1252.sdf", title.encode("cp1252"), 1, 0)
    block = "\n".join(["line of a long property"] * 200_000)
    yield _text("large_property.sdf", records[0][:-5] + f"> <log>\n{block}\n\n$$$$\n", 1, 0)
    other = dataclasses.replace(whole[1], positions=whole[1].positions * 1.01)
    yield _text("conformers.sdf", records[1] + sdf.format_record(other), 2, 0)
    yield _text("large_v3000.sdf", sdf.format_record(_lattice(10_000)), 1, 0)


def _mixed_line_ends(records: list[str]) -> str:
    ends = ("\n", "\r\n", "\r")
    return "".join(r.replace("\n", ends[k % 3]) for k, r in enumerate(records))


def _lattice(atoms: int) -> Molecule:
    """Helium on a grid of 4 angstrom: large, and nothing is bonded."""
    grid = np.stack(np.meshgrid(*[np.arange(22)] * 3), axis=-1).reshape(-1, 3)[:atoms]
    return Molecule(np.full(atoms, 2), grid * 4.0, bonds=np.empty((0, 3), np.int64))


def _damaged_sdf(whole: list[Molecule]) -> Iterator[Case]:
    good = sdf.format_record(whole[1])
    lines = good.splitlines()
    counts, atom = lines[3], lines[4]

    def between(name: str, record: str) -> Case:
        return _text(name, good + record + good, 2, 1)

    yield _text("truncated.sdf", good + good[: len(good) // 2], 1, 1)
    yield between("nan.sdf", good.replace(atom[:10], "       nan", 1))
    yield between("inf.sdf", good.replace(atom[:10], "     1e999", 1))
    yield between("counts_high.sdf", good.replace(counts, " 99 99" + counts[6:]))
    yield between("counts_low.sdf", good.replace(counts, "  3  2" + counts[6:]))
    yield between("counts_words.sdf", good.replace(counts, "many atoms"))
    yield between("element.sdf", good.replace(" C  ", " Qq ", 1))
    yield between("empty_record.sdf", "$$$$\n")
    yield between("no_atoms.sdf", f"none\n\n\n  0  0{counts[6:]}\nM  END\n$$$$\n")
    yield between("bond_to_nowhere.sdf", good.replace("\n  1  2", "\n  1 99", 1))
    yield between("bond_twice.sdf", good.replace("\n  1  2", "\n  2  1  1  0\n  1  2", 1).replace(
        counts, counts[:3] + f"{int(counts[3:6]) + 1:3d}" + counts[6:]))  # fmt: skip
    yield between("text.sdf", "this is not a molecule\n" * 50 + "$$$$\n")
    noise = bytes(range(256)) * 40 + b"\n$$$$\n"
    yield Case("binary.sdf", good.encode() + noise + good.encode(), 2, 1)
    yield _text("no_separator.sdf", good.removesuffix("$$$$\n") + good + good, 1, 1)
    v3000 = sdf.format_record(_lattice(1_100))
    yield between("v3000_counts.sdf", v3000.replace("COUNTS 1100", "COUNTS 99999999"))
    yield between("v3000_short.sdf", v3000.replace("COUNTS 1100", "COUNTS 1000"))
    large = "\n".join(["large", "", "", "10000  0" + counts[6:]] + [atom] * 10_000)
    yield between("large_v2000.sdf", large + "\nM  END\n$$$$\n")
    yield _text("endless.sdf", good + "x" * 80_000_000, 1, 1)
    yield _text("empty.sdf", "", 0, -1)
    yield _text("blank.sdf", "\n\n \n", 0, -1)


def _odd_sdf(whole: list[Molecule]) -> Iterator[Case]:
    good = sdf.format_record(whole[1])
    for name, word in (("r_group", "R# "), ("dummy", "*  "), ("query", "A  "), ("pair", "LP ")):
        yield _text(f"{name}.sdf", good + good.replace(" C  ", f" {word} ", 1), 1, 1)
    yield _text("deuterium.sdf", good.replace(" H  ", " D  ", 1), 1, 0)
    isotope = good.replace("M  END", "M  ISO  1   1  13\nM  END")
    yield _text("isotope.sdf", isotope, 1, 0)
    yield _text("radical.sdf", good.replace("M  END", "M  RAD  1   1   2\nM  END"), 1, 0)
    for name, order, bad in (("dative", 9, 0), ("any_bond", 8, 1), ("double_or_aromatic", 7, 1)):
        bond = good.replace("\n  1  2  1", f"\n  1  2  {order}", 1)
        yield _text(f"{name}.sdf", good + bond, 2 - bad, bad)
    yield _text("aromatic.sdf", _aromatic(whole[2]), 1, 0)
    flat = dataclasses.replace(whole[1], positions=whole[1].positions * [1, 1, 0])
    yield _text("drawing.sdf", good + sdf.format_record(flat).replace("  3D\n", "  2D\n", 1), 1, 1)
    zero = dataclasses.replace(whole[1], positions=np.zeros_like(whole[1].positions))
    yield _text("zeros.sdf", good + sdf.format_record(zero).replace(" 3D\n", "\n", 1), 1, 1)
    yield _text("one_point.sdf", good + sdf.format_record(zero), 1, 1)
    lines = sdf.format_record(_lattice(1_100)).splitlines()
    for k in range(7, 1_107):  # atoms that go on in the next line, in the middle of a word
        lines[k] = f"{lines[k][:-4]}-\nM  V30 {lines[k][-4:]}"
    yield _text("v3000_continued.sdf", "\n".join(lines) + "\n", 1, 0)


def _aromatic(benzene: Molecule) -> str:
    """Benzene with bonds of order 4 around the ring."""
    lines = sdf.format_record(benzene).splitlines()
    carbons = {k for k, z in enumerate(benzene.atomic_numbers.tolist(), 1) if z == 6}
    start = 4 + len(benzene)
    for k in range(start, start + len(benzene.bonds)):
        if {int(lines[k][:3]), int(lines[k][3:6])} <= carbons:
            lines[k] = lines[k][:6] + "  4" + lines[k][9:]
    return "\n".join(lines) + "\n"


def _xyz(whole: list[Molecule]) -> Iterator[Case]:
    records = [xyz.format_record(m) for m in whole]
    text, n = "".join(records), len(records)
    good = "2\ngood\nH 0 0 0\nH 0 0 .74\n"
    yield _text("trajectory.xyz", text, n, 0)
    yield _text("line_ends.xyz", _mixed_line_ends(records), n, 0)
    yield _text("numbers.xyz", "2\nby number\n6 0 0 0\n8 0 0 1.2\n", 1, 0)
    extended = 'Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="F F F"'
    yield _text("extended.xyz", f"1\n{extended}\nC 1 2 3 .1 .2 .3\n", 1, 0)
    atomic = "Properties=Z:I:1:pos:R:3"
    yield _text("extended_z.xyz", f"1\n{atomic}\n6 1 2 3\n", 1, 0)
    named = "Properties=species:S:1:magmoms:R:1:positions:R:3"
    yield _text("extended_positions.xyz", f"1\n{named}\nC .5 1 2 3\n", 1, 0)
    flat = "Properties=species:S:1:pos:R:2:forces:R:3"
    yield _text("extended_flat.xyz", good + f"1\n{flat}\nC 1 2 .1 .2 .3\n" + good, 2, 1)
    yield _text("underscore.xyz", good + "1\n\nC 1_0 0 0\n" + good, 2, 1)
    yield _text("one_point.xyz", good + "2\n\nH 1 1 1\nH 1 1 1\n" + good, 2, 1)
    yield _text("suffix.extxyz", f"1\n{extended}\nC 1 2 3 .1 .2 .3\n", 1, 0)
    yield _text("extra_columns.xyz", "1\ncharge after it\nC 1 2 3 -0.25 label\n", 1, 0)
    yield _text("truncated.xyz", text + "9\ncut\nC 0 0 0\n", n, 1)
    yield _text("nan.xyz", good + "1\n\nC nan 0 0\n" + good, 2, 1)
    yield _text("element.xyz", good + "1\n\nQq 0 0 0\n" + good, 2, 1)
    yield _text("dummy.xyz", good + "1\n\nX 0 0 0\n" + good, 2, 1)
    yield _text("number.xyz", good + "1\n\n119 0 0 0\n" + good, 2, 1)
    yield _text("superscript.xyz", good + "1\n\n\xb2 0 0 0\n" + good, 2, 1)
    yield _text("huge_count.xyz", good + "999999999\n\nC 0 0 0\n" + good, 2, 1)
    yield _text("long_comment.xyz", good + "1\n" + "a" * 3_000_000 + "\nC 0 0 0\n" + good, 3, 0)
    quote = 'key="' + "x\\\\" * 500_000
    yield _text("open_quote.xyz", good + f"1\n{quote}\nC 0 0 0\n" + good, 3, 0)
    yield _text("large.xyz", xyz.format_record(_lattice(10_000)) + good, 2, 0)
    yield _text("too_large.xyz", good + "20000\n\n" + "C 0 0 0\n" * 20_000 + good, 2, 1)
    yield _text("empty.xyz", "", 0, -1)


def _packed(whole: list[Molecule]) -> Iterator[Case]:
    text = "".join(sdf.format_record(m) for m in whole).encode()
    packed = gzip.compress(text, mtime=0)
    yield Case("whole.sdf.gz", packed, len(whole), 0)
    parts = b"".join(gzip.compress(sdf.format_record(m).encode(), mtime=0) for m in whole)
    yield Case("parts.sdf.gz", parts, len(whole), 0)
    # the last part lacks its end: what came before is read, and the rest is one bad record
    yield Case("cut.sdf.gz", parts[:-30], len(whole) - 1, 1)
    yield Case("not_packed.sdf.gz", text, len(whole), 0)
    arrays = {
        "num_atoms": np.array([len(m) for m in whole]),
        "atomic_numbers": np.concatenate([m.atomic_numbers for m in whole]),
        "positions": np.concatenate([m.positions for m in whole]),
    }
    good = _npz(arrays)
    yield Case("whole.npz", good, len(whole), 0)
    yield Case("cut.npz", good[: len(good) // 2], 0, -1)
    nan = arrays["positions"].copy()
    nan[0] = np.nan
    yield Case("nan.npz", _npz(arrays | {"positions": nan}), len(whole) - 1, 1)
    zero = arrays["positions"].copy()
    zero[: len(whole[0])] = 0.0
    yield Case("one_point.npz", _npz(arrays | {"positions": zero}), len(whole) - 1, 1)
    yield Case("negative.npz", _npz(arrays | {"num_atoms": -arrays["num_atoms"]}), 0, -1)
    yield Case("short.npz", _npz(arrays | {"positions": nan[:-1]}), 0, -1)
    yield Case("empty.npz", b"", 0, -1)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def write(folder: Path) -> list[Case]:
    """Write every file but the big one, and ``expected.json``; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    made = cases()
    for case in made:
        (folder / case.name).write_bytes(case.content)
    expected = {case.name: {"good": case.good, "bad": case.bad} for case in made}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    return made


def write_big(path: Path, size: int, *, text: int = 0) -> tuple[int, int]:
    """Write at least ``size`` bytes of records; return how many are good and how many bad.

    Args:
        path: of the file.
        size: bytes.
        text: bytes of text that each record holds beside its molecule.
    """
    log = "\n".join(["a line of some program's output"] * (text // 32))
    made = [m.with_properties(log=log) if log else m for m in molecules()]
    records = [_with_lines(sdf.format_record(m)).encode() for m in made]
    damaged = records[1].replace(b" C  ", b" Qq ")
    written = count = 0
    with path.open("wb") as stream:
        while written < size:
            count += 1
            written += stream.write(records[count % len(records)] if count % 100 else damaged)
    return count - count // 100, count // 100


def _with_lines(record: str) -> str:
    """Return a record with the lines of its log, which the writer joins, apart again."""
    return record.replace("output a line", "output\na line")


def main() -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--big", type=int, default=0, metavar="BYTES")
    arguments = parser.parse_args()
    print(f"{len(write(arguments.folder))} files in {arguments.folder}")
    if arguments.big:
        good, bad = write_big(arguments.folder / "big.sdf", arguments.big)
        print(f"big.sdf: {good} molecules, {bad} damaged records")


if __name__ == "__main__":
    main()

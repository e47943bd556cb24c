"""One molecule, and its conversions to and from RDKit and PyTorch Geometric."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.elements import MAX_ATOMIC_NUMBER
from molbfn.chem.properties import Property, parse_property, total_charge
from molbfn.errors import UserError

if TYPE_CHECKING:
    from rdkit import Chem
    from torch_geometric.data import Data

# bonds per atom up to which a SMILES is looked for: the search for rings among 60 atoms that are
# all bonded to each other takes minutes, and metals have no valence that would forbid it
_MOST_BONDS = 8
AROMATIC = 4  # bond order in files and arrays that stands for "aromatic"


@dataclasses.dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule in three dimensions; hydrogens are atoms like the others.

    Arrays are converted to the dtypes below and are not to be changed in place.

    Raises:
        ValueError: shapes that do not fit, atomic numbers outside 1 to 118, or bonds that are not
            (i < j, order 1 to 3) between distinct pairs of atoms.
    """

    atomic_numbers: NDArray[np.int64]
    """[N]"""
    positions: NDArray[np.float32]
    """[N, 3], angstrom"""
    formal_charges: NDArray[np.int64] | None = None
    """[N] in elementary charges, or None: not known (written as 0)"""
    bonds: NDArray[np.int64] | None = None
    """[E, 3] rows (i, j, order), i < j, Kekule orders 1, 2, 3; None: not known (written as none)"""
    title: str = ""
    properties: Mapping[str, Property] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = np.asarray(self.atomic_numbers, dtype=np.int64)
        positions = np.asarray(self.positions, dtype=np.float32)
        if numbers.ndim != 1 or positions.shape != (len(numbers), 3):
            raise ValueError(f"atomic numbers {numbers.shape} and positions {positions.shape}")
        if len(numbers) and not (numbers.min() >= 1 and numbers.max() <= MAX_ATOMIC_NUMBER):
            raise ValueError("atomic numbers must lie between 1 and 118")
        object.__setattr__(self, "atomic_numbers", numbers)
        object.__setattr__(self, "positions", positions)
        if self.formal_charges is not None:
            charges = np.asarray(self.formal_charges, dtype=np.int64)
            if charges.shape != numbers.shape:
                raise ValueError(f"{charges.shape} formal charges for {len(numbers)} atoms")
            object.__setattr__(self, "formal_charges", charges)
        if self.bonds is not None:
            object.__setattr__(self, "bonds", _checked_bonds(self.bonds, len(numbers)))

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.atomic_numbers)

    @property
    def charge(self) -> int:
        """Sum of the formal charges; where they are not known the stated charge, else 0."""
        if self.formal_charges is None:
            return self.stated_charge or 0
        return int(self.formal_charges.sum())

    @property
    def stated_charge(self) -> int | None:
        """Total charge by the property "charge" of a molecule without formal charges.

        So XYZ comments have it ("charge=-1", "Total_charge=+1.00"). None where there is none, or
        it is no whole number, or its size is beyond the number of electrons of the neutral atoms.
        """
        if self.formal_charges is not None:
            return None
        value = total_charge(self.properties)
        return None if value is None or abs(value) > int(self.atomic_numbers.sum()) else value

    @property
    def states_bonds(self) -> bool:
        """Whether it comes with bonds: several atoms with none at all do not count."""
        return self.bonds is not None and (len(self.bonds) > 0 or len(self) < 2)

    def with_properties(self, **properties: Property) -> Molecule:
        """Return the same molecule with these properties added or replaced."""
        return dataclasses.replace(self, properties={**self.properties, **properties})

    def to_rdkit(self, *, stereo: bool = False, implicit_hydrogens: bool = False) -> Chem.Mol:
        """Return an RDKit molecule with explicit hydrogens, a 3D conformer, bonds and charges.

        It is sanitised where RDKit can; a chemically wrong molecule comes back as it is. Sets
        ``_Name`` and the properties (RDKit keeps those whose name begins with an underscore to
        itself).

        Args:
            stereo: perceive stereochemistry from the coordinates; needs a sanitised molecule.
            implicit_hydrogens: let atoms take those that they want, as readers of files do;
                otherwise none appear.
        """
        mol, sanitised = _rdkit_molecule(self, implicit=implicit_hydrogens)
        if stereo and sanitised:
            from rdkit import Chem, rdBase

            with rdBase.BlockLogs():
                Chem.AssignStereochemistryFrom3D(mol)
        return mol

    def sanitised(self) -> Chem.Mol | None:
        """Return what `to_rdkit` does, normalised and sanitised; None where RDKit cannot.

        Five-valent nitrogen and the like are rewritten with charges, so what they are part of has
        one structure however it is drawn; atoms and bonds keep their places.
        """
        mol, sanitised = _rdkit_molecule(self, normalise=True)
        return mol if sanitised else None

    def smiles(self, *, stereo: bool = False) -> str | None:
        """Return the canonical SMILES without hydrogens, or None where RDKit cannot sanitise.

        A nitro group drawn with five-valent nitrogen gets the SMILES with charges.

        Args:
            stereo: perceive and write the stereochemistry of the coordinates.

        Returns:
            None also where the bonds are not known, or are so many that it is no molecule.
        """
        if self.bonds is None or len(self.bonds) > _MOST_BONDS * len(self):
            return None
        from rdkit import Chem, rdBase

        mol = self.sanitised()
        if mol is None:
            return None
        with rdBase.BlockLogs():
            if stereo:
                Chem.AssignStereochemistryFrom3D(mol)
            return Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False), isomericSmiles=stereo)

    @classmethod
    def from_rdkit(cls, mol: Chem.Mol, *, conformer: int = -1) -> Molecule:
        """Return a molecule from the atoms of an RDKit molecule, as they are; none are added.

        Bonds are kekulised on a copy; formal charges, ``_Name`` and the public properties are
        kept. A dative bond becomes a single one between the charges that it stands for: one more
        at the donor, one less at the acceptor. Text properties that read as numbers become numbers
        (`parse_property`).

        Raises:
            UserError: no 3D conformer, dummy atoms, or bonds without a Kekule order 1 to 3.
        """
        if mol.GetNumConformers() == 0 or not mol.GetConformer(conformer).Is3D():
            raise UserError("the molecule has no 3D coordinates (embed it first)")
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        if 0 in numbers:
            raise UserError(f"atom {numbers.index(0) + 1} is a dummy atom, not an element")
        raw = mol.GetPropsAsDict(autoConvertStrings=False)
        mol = _without_dative(mol)
        return cls(
            atomic_numbers=np.array(numbers, dtype=np.int64),
            positions=mol.GetConformer(conformer).GetPositions().astype(np.float32).reshape(-1, 3),
            formal_charges=np.array([a.GetFormalCharge() for a in mol.GetAtoms()], dtype=np.int64),
            bonds=_kekule_bonds(mol),
            title=mol.GetProp("_Name") if mol.HasProp("_Name") else "",
            properties={k: parse_property(v) for k, v in raw.items() if _is_property(v)},
        )

    def to_pyg(self) -> Data:
        """Return a PyTorch Geometric ``Data``.

        ``z`` int64 [N], ``pos`` float32 [N, 3] in angstrom, ``name`` (title), and where known
        ``edge_index`` int64 [2, 2E] (both directions), ``edge_attr`` int64 [2E] (bond orders),
        ``charge`` int64 [N] (formal charges) and ``properties`` (a dict).
        """
        import torch
        from torch_geometric.data import Data

        fields: dict[str, Any] = {"name": self.title}
        if self.bonds is not None:
            pairs = torch.tensor(self.bonds[:, :2].T.copy())
            orders = torch.tensor(self.bonds[:, 2])
            fields["edge_index"] = torch.cat([pairs, pairs.flip(0)], dim=1)
            fields["edge_attr"] = orders.repeat(2)
        if self.formal_charges is not None:
            fields["charge"] = torch.tensor(self.formal_charges)
        if self.properties:
            fields["properties"] = dict(self.properties)
        return Data(z=torch.tensor(self.atomic_numbers), pos=torch.tensor(self.positions), **fields)

    @classmethod
    def from_pyg(cls, data: Data) -> Molecule:
        """Return a molecule from ``z``, ``pos`` (angstrom) and, where present, bonds and charges.

        ``edge_attr`` holds bond orders ([E] or [E, 1]; 4 or 1.5 is aromatic) or, as in PyTorch
        Geometric's QM9, one column each for single, double, triple and aromatic; edges without
        ``edge_attr`` are not taken for bonds. ``charge`` counts where it has one value per atom.

        Raises:
            UserError: ``z`` or ``pos`` missing, or aromatic bonds without a Kekule structure.
        """
        if data.get("z") is None or data.get("pos") is None:
            raise UserError("the PyTorch Geometric data has no 'z' and 'pos'")
        numbers = data.z.cpu().numpy().astype(np.int64).reshape(-1)
        charges = data.get("charge")
        charges = None if charges is None or charges.numel() != len(numbers) else charges
        formal = None if charges is None else charges.cpu().numpy().reshape(-1).astype(np.int64)
        return cls(
            atomic_numbers=numbers,
            positions=data.pos.cpu().numpy(),
            formal_charges=formal,
            bonds=_pyg_bonds(data, numbers, formal),
            title=str(data.get("name") or ""),
            properties=dict(data.get("properties") or {}),
        )


def kekulise(
    atomic_numbers: NDArray[np.int64], bonds: NDArray[np.int64], charges: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return bonds [E, 3] with aromatic orders (4) turned into alternating 1 and 2.

    Raises:
        UserError: RDKit finds no Kekule structure.
    """
    if not (bonds[:, 2] == AROMATIC).any():
        return bonds
    mol = skeleton(atomic_numbers, bonds, charges)
    for bond in mol.GetBonds():
        if bond.GetIsAromatic():
            bond.GetBeginAtom().SetIsAromatic(True)
            bond.GetEndAtom().SetIsAromatic(True)
    return _kekule_bonds(mol)


def _checked_bonds(bonds: Any, atoms: int) -> NDArray[np.int64]:
    array = np.asarray(bonds, dtype=np.int64)
    array = array.reshape(0, 3) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"bonds must be [E, 3], not {array.shape}")
    i, j, order = array.T
    if not ((i >= 0) & (i < j) & (j < atoms) & (order >= 1) & (order <= 3)).all():
        raise ValueError("bonds must be rows (i < j, order 1 to 3) of existing atoms")
    if len(np.unique(i * atoms + j)) < len(array):
        raise ValueError("two bonds between the same pair of atoms")
    return array


def _is_property(value: Any) -> bool:
    return isinstance(value, str | int | float)


def skeleton(
    atomic_numbers: NDArray[np.integer],
    bonds: NDArray[np.integer],
    charges: NDArray[np.integer] | None = None,
) -> Chem.RWMol:
    """Return atoms and bonds as an RDKit molecule that has not been checked in any way.

    Args:
        atomic_numbers: [N], 1 to 118.
        bonds: rows (i, j, order) [E, 3], i != j, order 1 to 3 or `AROMATIC`.
        charges: formal charges [N]; None: all zero.
    """
    from rdkit import Chem

    types = {
        1: Chem.BondType.SINGLE,
        2: Chem.BondType.DOUBLE,
        3: Chem.BondType.TRIPLE,
        AROMATIC: Chem.BondType.AROMATIC,
    }
    mol = Chem.RWMol()
    for k, number in enumerate(atomic_numbers.tolist()):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        if charges is not None:
            atom.SetFormalCharge(int(charges[k]))
        mol.AddAtom(atom)
    for i, j, order in bonds.tolist():
        mol.AddBond(i, j, types[order])
        if order == AROMATIC:
            mol.GetBondBetweenAtoms(i, j).SetIsAromatic(True)
    return mol


def _rdkit_molecule(
    molecule: Molecule, *, normalise: bool = False, implicit: bool = False
) -> tuple[Chem.Mol, bool]:
    """Return the RDKit molecule and whether it is sanitised.

    Without ``normalise``, bonds and charges stay as they are; with it, RDKit first rewrites
    five-valent nitrogen and the like with charges (its SANITIZE_CLEANUP). With ``implicit``, atoms
    may take implicit hydrogens.
    """
    from rdkit import Chem, rdBase

    bonds = np.empty((0, 3), np.int64) if molecule.bonds is None else molecule.bonds
    mol = skeleton(molecule.atomic_numbers, bonds, molecule.formal_charges)
    for atom in mol.GetAtoms():
        atom.SetNoImplicit(not implicit)
    conformer = Chem.Conformer(len(molecule))
    conformer.Set3D(True)
    if len(molecule):
        conformer.SetPositions(np.ascontiguousarray(molecule.positions, dtype=np.float64))
    mol.AddConformer(conformer, assignId=True)
    mol.SetProp("_Name", molecule.title)
    for key, value in molecule.properties.items():
        _set_property(mol, key, value)
    with rdBase.BlockLogs():
        trial = Chem.Mol(mol)
        flags = Chem.SanitizeFlags
        steps = flags.SANITIZE_ALL & ~flags.SANITIZE_CLEANUP_ORGANOMETALLICS  # makes dative bonds
        if not normalise:
            steps &= ~flags.SANITIZE_CLEANUP
        if Chem.SanitizeMol(trial, steps, catchErrors=True) == flags.SANITIZE_NONE:
            return trial, True
        mol.UpdatePropertyCache(strict=False)
    return mol.GetMol(), False


def _set_property(mol: Chem.Mol, key: str, value: Property) -> None:
    if isinstance(value, bool | np.bool_):
        mol.SetProp(key, str(value))
    elif isinstance(value, int | np.integer) and -(2**31) <= value < 2**31:
        mol.SetIntProp(key, int(value))
    elif isinstance(value, float | np.floating):
        mol.SetDoubleProp(key, float(value))
    else:
        mol.SetProp(key, str(value))


def _without_dative(mol: Chem.Mol) -> Chem.Mol:
    """Return the molecule, or where it has dative bonds a copy with single bonds and charges."""
    from rdkit import Chem

    if all(bond.GetBondType() != Chem.BondType.DATIVE for bond in mol.GetBonds()):
        return mol
    mol = Chem.Mol(mol)
    for bond in mol.GetBonds():
        if bond.GetBondType() == Chem.BondType.DATIVE:
            bond.SetBondType(Chem.BondType.SINGLE)
            for atom, change in ((bond.GetBeginAtom(), 1), (bond.GetEndAtom(), -1)):
                atom.SetFormalCharge(atom.GetFormalCharge() + change)
    return mol


def _kekule_bonds(mol: Chem.Mol) -> NDArray[np.int64]:
    """Return the bonds [E, 3] of a kekulised copy, sorted."""
    from rdkit import Chem, rdBase

    if any(bond.GetIsAromatic() for bond in mol.GetBonds()):
        mol = Chem.Mol(mol)
        try:
            with rdBase.BlockLogs():
                mol.UpdatePropertyCache(strict=False)
                Chem.Kekulize(mol, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            raise UserError("the aromatic bonds have no Kekule structure") from None
    orders = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3}
    rows = []
    for bond in mol.GetBonds():
        i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        if bond.GetBondType() not in orders:
            raise UserError(
                f"the bond between atoms {i + 1} and {j + 1} is {bond.GetBondType().name.lower()}, "
                "not single, double or triple"
            )
        rows.append((i, j, orders[bond.GetBondType()]))
    return np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)


def _pyg_bonds(
    data: Data, numbers: NDArray[np.int64], charges: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    edge_index, attributes = data.get("edge_index"), data.get("edge_attr")
    if edge_index is None or attributes is None:
        return None
    pairs = edge_index.cpu().numpy().T.astype(np.int64).reshape(-1, 2)
    if not len(pairs):
        return np.empty((0, 3), dtype=np.int64)
    values = attributes.cpu().numpy().reshape(len(pairs), -1)
    if values.shape[1] == 4:
        orders = values.argmax(axis=1) + 1
    elif values.shape[1] == 1:
        orders = np.where(values == 1.5, AROMATIC, values).reshape(-1).astype(np.int64)
    else:
        raise UserError(f"edge_attr with {values.shape[1]} columns holds no bond orders")
    rows = np.concatenate([np.sort(pairs, axis=1), orders[:, None]], axis=1)
    return kekulise(numbers, np.unique(rows, axis=0), charges)

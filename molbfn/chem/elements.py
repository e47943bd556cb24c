"""Chemical elements: symbols and atomic numbers."""

from __future__ import annotations

from molbfn.errors import UserError, nearest

_TABLE = (
    "* H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge "
    "As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm "
    "Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U "
    "Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)

#: Symbols by atomic number; index 0 stands for "no element" (padding, dummy atoms).
SYMBOLS: tuple[str, ...] = tuple(_TABLE.split())

#: Largest atomic number known.
MAX_ATOMIC_NUMBER = len(SYMBOLS) - 1

_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}
_NUMBERS |= {"D": 1, "T": 1}  # hydrogen isotopes have their own symbols in many files


def symbol(atomic_number: int) -> str:
    """Return the symbol of an atomic number from 1 to 118.

    Raises:
        UserError: there is no such element.
    """
    if not 1 <= atomic_number <= MAX_ATOMIC_NUMBER:
        raise UserError(f"no element has atomic number {atomic_number} (known: 1 to 118)")
    return SYMBOLS[atomic_number]


def atomic_number(symbol: str) -> int:
    """Return the atomic number of a symbol, in any letter case ("Cl", "CL", "cl").

    ``D`` and ``T`` are hydrogen.

    Raises:
        UserError: unknown symbol; suggests the nearest.
    """
    number = _NUMBERS.get(symbol) or _NUMBERS.get(symbol.strip().capitalize())
    if number is None:
        raise UserError(
            f"unknown element '{symbol.strip()}';{nearest(symbol, _NUMBERS)}".rstrip(";")
        )
    return number

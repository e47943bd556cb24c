"""Seeds of numbered things: molecules of a generation, batches of a training."""

from __future__ import annotations

import operator

from molbfn.errors import UserError

_BITS = 0xFFFFFFFF
_NOT_ZERO = 0x9E3779B9  # _mix keeps 0, so seeds 1 and 2^32 would otherwise be told apart by nothing


def numbered_seed(seed: int, index: int) -> int:
    """Return the 32-bit seed of number ``index`` of a series.

    torch's CPU generator keeps 32 bits of a seed, so a hash of (seed, index) would repeat itself
    among 100,000 molecules.  This is a bijection of the index modulo 2^32 for any one seed: none
    repeats.

    Args:
        seed: any integer; its lowest 64 bits count.
        index: from 0.
    """
    seed, index = operator.index(seed), operator.index(index)  # numpy's have 64 bits at most
    high, low = (seed >> 32) & _BITS, seed & _BITS
    offset = _mix((_mix((high + _NOT_ZERO) & _BITS) + low) & _BITS)
    return _mix((offset + index) & _BITS)


def check_seed(seed: int) -> None:
    """Refuse what numpy's generators do not take.

    Raises:
        UserError: a negative number.
    """
    if seed < 0:
        raise UserError(f"--seed {seed}: must not be negative")


def _mix(x: int) -> int:
    """A bijection of 32-bit integers that scatters neighbours (MurmurHash3's finaliser)."""
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & _BITS
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & _BITS
    return x ^ (x >> 16)

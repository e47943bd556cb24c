"""The protocols by name, and what each needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from molbfn.errors import UserError, nearest
from molbfn.evaluation import (
    agreement,
    bonds,
    distributed,
    edm,
    physics,
    posebusters,
    revisited,
    similarity,
)
from molbfn.evaluation.protocols import Context, Findings, SlowProtocol
from molbfn.evaluation.verdicts import Protocol

if TYPE_CHECKING:
    from molbfn.evaluation.distributions import BondRoute
    from molbfn.evaluation.reference import Reference

#: Protocols, in the order of the tables.
PROTOCOLS = (
    edm.PROTOCOL,
    bonds.PROTOCOL,
    revisited.PROTOCOL,
    agreement.PROTOCOL,
    posebusters.PROTOCOL,
    physics.PROTOCOL,
    similarity.PROTOCOL,
    distributed.PROTOCOL,
)
#: Molecules that the slow protocols look at by default.
DEFAULT_SAMPLES: dict[str, int | None] = {
    agreement.PROTOCOL: agreement.DEFAULT_SAMPLE,
    posebusters.PROTOCOL: posebusters.DEFAULT_SAMPLE,
    physics.PROTOCOL: physics.DEFAULT_SAMPLE,
    similarity.PROTOCOL: similarity.DEFAULT_SAMPLE,
}
#: Protocols that look at each molecule in a process of its own, as the settings say.
IN_PROCESSES = (agreement.PROTOCOL, posebusters.PROTOCOL, physics.PROTOCOL)
_PACKAGES: dict[str, tuple[str, ...]] = {
    posebusters.PROTOCOL: posebusters.PACKAGES,
    physics.PROTOCOL: physics.PACKAGES,
}
_SAMPLED = {
    agreement.PROTOCOL: agreement.AgreementProtocol,
    posebusters.PROTOCOL: posebusters.PoseBustersProtocol,
    physics.PROTOCOL: physics.PhysicsProtocol,
    similarity.PROTOCOL: similarity.SimilarityProtocol,
}


def check_samples(samples: Iterable[str], names: Sequence[str]) -> None:
    """See that the samples asked for are of protocols that take one, and that run.

    Args:
        samples: protocols that a sample was asked for.
        names: protocols that run.

    Raises:
        UserError: one does not take one, or does not run.
    """
    for name in samples:
        if name not in DEFAULT_SAMPLES:
            raise UserError(
                f"unknown sampled protocol '{name}';{nearest(name, DEFAULT_SAMPLES)} "
                f"known: {', '.join(DEFAULT_SAMPLES)}"
            )
        if name not in names:
            raise UserError(
                f"--{name}-sample: the protocol {name} does not run; add it to --protocol"
            )


def chosen_protocols(
    names: Sequence[str], among: Sequence[str] = PROTOCOLS
) -> tuple[list[str], dict[str, str]]:
    """Return the protocols to run, and those of "all" that are skipped, with the reason.

    Args:
        among: what may be chosen, in this order.

    Raises:
        UserError: an unknown name, none at all, or one asked for by name whose packages are not
            installed.
    """
    if not names:
        raise UserError(f"no protocol given; known: {', '.join(among)}, all")
    for name in names:
        if name not in (*among, "all"):
            raise UserError(
                f"unknown protocol '{name}';{nearest(name, among)} known: {', '.join(among)}, all"
            )
    skipped: dict[str, str] = {}
    for name in among if "all" in names else names:
        missing = [p for p in _PACKAGES.get(name, ()) if importlib.util.find_spec(p) is None]
        if not missing:
            continue
        reason = f"needs {' and '.join(missing)}: pip install 'molbfn[eval]'"
        if name in names:
            raise UserError(f"the protocol {name} {reason}")
        skipped[name] = reason
    wanted = among if "all" in names else tuple(dict.fromkeys(names))
    return [name for name in wanted if name not in skipped], skipped


def open_protocol(
    name: str,
    samples: Mapping[str, int | None],
    reference: Reference | None,
    *,
    seed: int,
    bonds_of: BondRoute | None = None,
) -> Protocol | SlowProtocol:
    """Return an empty protocol.

    Args:
        samples: molecules that slow protocols look at, by name.
        reference: what distributions are compared with.
        seed: of the samples.
        bonds_of: whose bonds distributions count, see `DistributionsProtocol`.
    """
    if name in _SAMPLED:
        return _SAMPLED[name](samples[name], seed=seed)
    if name == distributed.PROTOCOL:
        return distributed.DistributionsProtocol(reference, bonds=bonds_of, seed=seed)
    if name == revisited.PROTOCOL:
        return revisited.RevisitedProtocol()
    return edm.edm_protocol() if name == edm.PROTOCOL else bonds.bonds_protocol()


def finish(protocol: Protocol | SlowProtocol, context: Context) -> Findings:
    """Return what a protocol found in all that it was given."""
    if isinstance(protocol, Protocol):
        return Findings(ratios=protocol.ratios(context.known))
    return protocol.finish(context)

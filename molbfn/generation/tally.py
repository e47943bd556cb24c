"""Running counts of a generation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from molbfn.chem.molecule import Molecule
from molbfn.chem.records import PROBLEM
from molbfn.evaluation import bonds
from molbfn.evaluation.edm import judge
from molbfn.generation.sampling import AGREEMENT, GENERATED


@dataclass(frozen=True)
class Judged:
    """What a `Tally` counts of one molecule; its fields are explained there."""

    index: int | None
    stable: bool
    valid: bool
    broken: bool
    route: str | None
    own_stable: bool = False
    own_valid: bool = False
    agreeing: bool = False
    charged: bool = False

    @classmethod
    def of(cls, molecule: Molecule) -> Judged:
        """Judge a molecule."""
        (verdict,) = judge([molecule])
        index, route = (molecule.properties.get(key) for key in ("index", "bond_route"))
        found = cls(
            index=None if index is None else int(index),
            stable=verdict.stable,
            valid=verdict.connected,
            broken=PROBLEM in molecule.properties,
            route=None if route is None else str(route),
            charged=molecule.charge != 0,
        )
        if route != GENERATED:
            return found
        (own,) = bonds.judge([molecule])
        return replace(
            found,
            own_stable=own.stable,
            own_valid=own.connected,
            agreeing=molecule.properties.get(AGREEMENT) in ("same", "other orders"),
        )


@dataclass
class Tally:
    """Running counts of a generation.

    Attributes:
        wanted: molecules asked for in all.
        calls: network calls a molecule.
        before: molecules that were in the file when this run began.
        called: network calls of this run, counted once for each molecule of the batch.
        made: molecules made and written by this run.
        stable: of these, molecules in which every atom is stable by EDM's distance rule.
        valid: of these, molecules that RDKit accepts with the bonds of that rule, in one piece.
        broken: of these, molecules whose coordinates were not finite numbers.
        routes: of these, molecules by the route their bonds came from.
        own_stable, own_valid: the same as stable and valid, by bonds that the model generated.
        agreeing: of these, molecules whose generated bonds are between the atoms that are bonded by
            the distance rule.
        charged: of these, molecules whose formal charges, generated or perceived, do not add up
            to 0.
        rejected: molecules made by this run that are not what was required; they are not written.
        last_index: of the last molecule written by this run.
        seconds: wall time of this run.
    """

    wanted: int
    calls: int
    before: int = 0
    called: int = 0
    made: int = 0
    stable: int = 0
    valid: int = 0
    broken: int = 0
    routes: Counter[str] = field(default_factory=Counter)
    own_stable: int = 0
    own_valid: int = 0
    agreeing: int = 0
    charged: int = 0
    rejected: int = 0
    last_index: int | None = None
    seconds: float = 0.0

    @property
    def written(self) -> int:
        """Molecules in the file."""
        return self.before + self.made

    @property
    def work(self) -> float:
        """Share of all network calls that is done: it moves before the first molecule is ready."""
        return min(1.0, (self.before + self._under_way) / self.wanted)

    @property
    def rate(self) -> float:
        """Molecules per second of this run, those under way counted by their share."""
        return self._under_way / self.seconds if self.seconds > 0 else 0.0

    @property
    def _under_way(self) -> float:
        """Molecules of this run, those not yet ready by their share, and less what will fail."""
        if not self.rejected:
            return self.called / self.calls
        tried = self.made + self.rejected
        share = (self.made + 1) / (tried + 1)  # guessed from few, but not zero
        missing = self.wanted - self.written
        return self.made + min((self.called / self.calls - tried) * share, 0.9 * missing)

    def add(self, judged: Judged) -> None:
        """Count a molecule that was written."""
        self.made += 1
        self.last_index = judged.index
        self.stable += judged.stable
        self.valid += judged.valid
        self.broken += judged.broken
        if judged.route is not None:
            self.routes[judged.route] += 1
        self.own_stable += judged.own_stable
        self.own_valid += judged.own_valid
        self.agreeing += judged.agreeing
        self.charged += judged.charged

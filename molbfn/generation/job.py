"""Generation to a file: streamed, resumable, with a record of how it was made beside it."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molbfn.chem.bonds import bond_orders, stable_atoms
from molbfn.chem.files import count_complete, open_writer
from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import BondPerceiver
from molbfn.chem.writers import check_writable
from molbfn.errors import UserError
from molbfn.generation.sampling import (
    GenerationOptions,
    SamplingPlan,
    check_count,
    generate_raw,
    plan_sampling,
    with_route,
)
from molbfn.model import MoleculeModel

_NEEDS_BONDS = (".sdf", ".sdf.gz", ".smi", ".csv")


@dataclass
class Tally:
    """Running counts of a generation.

    Attributes:
        wanted: molecules asked for in all.
        written: molecules in the file, including those found there when resuming.
        made: molecules made by this run.
        stable: of these, molecules in which every atom is stable by EDM's distance rule.
        routes: of these, molecules by the route their bonds came from.
        seconds: wall time of this run.
    """

    wanted: int
    written: int = 0
    made: int = 0
    stable: int = 0
    routes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Molecules per second of this run."""
        return self.made / self.seconds if self.seconds > 0 else 0.0


def check_request(n: int, output: str | Path) -> None:
    """Refuse an impossible request before a model is loaded.

    Raises:
        UserError: n below 1; unknown suffix; missing folder.
    """
    check_count(n)
    check_writable(Path(output))


def generate_file(
    model: MoleculeModel,
    n: int,
    output: str | Path,
    *,
    seed: int = 0,
    options: GenerationOptions | None = None,
    resume: bool = False,
    on_progress: Callable[[Tally], None] | None = None,
    on_call: Callable[[int], None] | None = None,
) -> Tally:
    """Generate ``n`` molecules into ``output``; the suffix says which kind of file.

    Molecules are written as they come and memory does not grow with n.  ``output`` appears when the
    file is complete; on Ctrl-C what is there becomes a valid file, and ``resume`` goes on with it.
    ``output.json`` beside it says how the molecules were made.

    Args:
        on_progress: called after each molecule.
        on_call: called after each network call with the number of molecules in the batch.

    Raises:
        UserError: unusable options or file; resuming with other settings than before.
    """
    output = Path(output)
    check_count(n)
    plan = plan_sampling(model, options or GenerationOptions())
    settings = _settings(model, plan, seed)
    tally = Tally(wanted=n)
    if resume:
        tally.written = _written_before(output, settings, n)
    started = time.perf_counter()
    bonds = output.name.lower().endswith(_NEEDS_BONDS)
    with open_writer(output, append=resume and tally.written > 0) as writer:
        record = _record_path(output, partial=True)
        _write_record(record, settings, {"complete": False, "wanted": n})
        try:
            indices = range(tally.written, n)
            molecules = generate_raw(model, plan, indices, seed=seed, on_call=on_call)
            with BondPerceiver() as perceiver:
                stream = map(with_route, perceiver.perceive_many(molecules)) if bonds else molecules
                for molecule in stream:
                    writer.write(molecule)
                    _count(tally, molecule, started)
                    if on_progress is not None:
                        on_progress(tally)
        finally:
            tally.seconds = time.perf_counter() - started
    _write_record(record, settings, _results(tally))
    os.replace(record, _record_path(output, partial=False))
    return tally


def _count(tally: Tally, molecule: Molecule, started: float) -> None:
    tally.written += 1
    tally.made += 1
    orders = bond_orders(molecule.atomic_numbers, molecule.positions)
    tally.stable += bool(stable_atoms(molecule.atomic_numbers, orders).all())
    if "bond_route" in molecule.properties:
        tally.routes[str(molecule.properties["bond_route"])] += 1
    tally.seconds = time.perf_counter() - started


def _settings(model: MoleculeModel, plan: SamplingPlan, seed: int) -> dict[str, Any]:
    """Return everything that the molecules depend on."""
    return {
        "model": model.name,
        "weights": model.fingerprint(),
        "seed": seed,
        "steps": plan.steps,
        "sampler": plan.sampler_name,
        "window": plan.sampler.window,
        "draw": plan.sampler.draw,
        "temperature": plan.sampler.temperature,
        "grid": [round(t, 6) for t in plan.grid.tolist()],
        "num_atoms": list(plan.sizes.sizes),
        "precision": plan.precision,
    }


def _record_path(output: Path, *, partial: bool) -> Path:
    return output.with_name(output.name + (".partial.json" if partial else ".json"))


def _write_record(path: Path, settings: dict[str, Any], results: dict[str, Any]) -> None:
    from importlib.metadata import version

    versions = {name: version(name) for name in ("molbfn", "torch", "rdkit")}
    record = {"settings": settings, "results": results, "versions": versions}
    try:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _results(tally: Tally) -> dict[str, Any]:
    return {
        "complete": tally.written >= tally.wanted,
        "wanted": tally.wanted,
        "written": tally.written,
        "made_by_this_run": tally.made,
        "stable_of_these": tally.stable,
        "bond_routes_of_these": dict(tally.routes),
        "seconds": round(tally.seconds, 3),
    }


def _written_before(output: Path, settings: dict[str, Any], n: int) -> int:
    """Return how many molecules are there already, or refuse a file made with other settings."""
    count = count_complete(output).records
    if count == 0:
        return 0
    for path in (_record_path(output, partial=True), _record_path(output, partial=False)):
        if path.is_file():
            break
    else:
        raise UserError(
            f"{output}: cannot be resumed, {path.name} that says how it was made is missing; "
            f"give another --output"
        )
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{path}: unreadable, so {output.name} cannot be resumed") from None
    for key, value in settings.items():
        if before.get(key) != value:
            raise UserError(
                f"{output}: was made with {key} = {before.get(key)!r}, now it is {value!r}; "
                f"resume with the same settings or give another --output"
            )
    if count > n:
        raise UserError(f"{output}: holds {count} molecules already, more than -n {n}")
    return count

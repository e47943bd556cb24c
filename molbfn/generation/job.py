"""Generation to a file: streamed, resumable, with a record of how it was made beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bfn_core.sampling import Grid
from molbfn.chem.files import count_complete, open_writer
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import ResumePoint, partial_path
from molbfn.chem.trajectory import Frame, trajectory_path, write_trajectories
from molbfn.chem.writers import Writer, check_writable
from molbfn.errors import UserError
from molbfn.generation.lock import check_nothing_unfinished, sole_writer
from molbfn.generation.molecules import with_bonds
from molbfn.generation.plan import GenerationOptions, SamplingPlan, check_count, plan_sampling
from molbfn.generation.processes import DevicePool
from molbfn.generation.record import (
    Record,
    check_resumable,
    find_record,
    new_record,
    record_path,
    write_record,
)
from molbfn.generation.sampling import Watch
from molbfn.generation.selection import Requirement, check_requirement, select
from molbfn.generation.tally import Judged, Tally
from molbfn.hardware import describe_device
from molbfn.model import MoleculeModel
from molbfn.signals import StopSignals

_NEEDS_BONDS = (".sdf", ".sdf.gz", ".smi", ".csv")
_FLUSH_SECONDS = 2.0  # so much of the work is lost to a kill


@dataclass(frozen=True)
class Part:
    """Which part of a job: number ``rank``, from 0, of ``count``."""

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"--num-nodes {self.count}: must be at least 1")
        if not 0 <= self.rank < self.count:
            raise UserError(
                f"--node-rank {self.rank}: must lie between 0 and {self.count - 1}, "
                f"one less than --num-nodes"
            )

    def of(self, n: int) -> range:
        """Return the indices of this part's molecules.

        Raises:
            UserError: there are fewer molecules than parts.
        """
        if n < self.count:
            raise UserError(f"-n {n}: fewer molecules than --num-nodes {self.count}")
        return range(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def name(self, output: Path) -> Path:
        """Return the part's own file: out.sdf.gz -> out.2-of-4.sdf.gz."""
        if self.count == 1:
            return output
        kind = output.suffix
        if kind == ".gz":
            kind = output.with_suffix("").suffix + kind
        stem = output.name.removesuffix(kind)
        return output.with_name(f"{stem}.{self.rank + 1}-of-{self.count}{kind}")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP during a generation.

    Attributes:
        tally: how far it came.
        placed: whether the molecules have the name asked for; not where they would have replaced an
            older file.
    """

    def __init__(self, tally: Tally, *, placed: bool) -> None:
        super().__init__()
        self.tally, self.placed = tally, placed


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
    devices: Sequence[str] = ("",),
    part: Part = Part(),
    trajectories: int = 0,
    require: Requirement | None = None,
    on_progress: Callable[[Tally], None] | None = None,
    **overrides: object,
) -> Tally:
    """Generate ``n`` molecules into ``output``; the suffix says which kind of file.

    Molecules are written as they come and memory does not grow with n.  ``output`` appears when the
    file is complete; on Ctrl-C (SIGTERM, SIGHUP) what is there becomes a valid file, beside an
    older one if there is one.  ``resume`` goes on with it, or with what a killed process left.
    ``output.json`` says how the molecules were made.  Bonds are perceived for formats that need
    them and models that make none.

    Args:
        options: how to sample; or give its fields as keywords (``steps=20``).
        devices: names of devices, a process each; one of them means the model's own, here.
        part: make this part of the ``n`` molecules only.
        trajectories: also write the frames of the first so many molecules that this run makes
            (`molbfn.chem.trajectory`); molecules do not depend on it. A resumed job keeps
            the trajectories that are there.
        require: write the first ``n`` molecules that are "valid" or "stable"
            (:data:`~molbfn.generation.selection.Requirement`), whatever it takes; their indices
            have gaps.
        on_progress: called after each network call and each molecule.

    Raises:
        UserError: unusable options or file; resuming with other settings than before; another run
            that writes the same file; without ``resume``, molecules that a killed run left; with
            ``require``, several parts, or hardly any molecule that passes.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; it is a KeyboardInterrupt.
    """
    n, seed, trajectories = map(operator.index, (n, seed, trajectories))
    output = Path(output)
    if isinstance(devices, str) or not devices:
        raise UserError(f"devices = {devices!r}: a list of names, such as ['cuda:0', 'cuda:1']")
    check_request(n, output)
    check_requirement(require)
    if require is not None and part.count > 1:
        raise UserError(
            f"--require {require}: goes with one machine only; give each its own --seed and "
            f"--output in place of --num-nodes"
        )
    plan = plan_sampling(model, GenerationOptions.of(options, overrides))
    indices = part.of(n)
    settings = {**_settings(model, plan, seed), "first_index": indices.start, "require": require}
    record = new_record(settings, wanted=len(indices))
    tally = Tally(wanted=len(indices), calls=plan.calls)
    report = on_progress or (lambda _: None)
    with StopSignals().as_ctrl_c(), sole_writer(output):
        start, in_place, growing_frames = indices.start, False, _growing_frames(output)
        if resume:
            earlier = _find_earlier(output, record, indices)
            tally.before, start, in_place = earlier.records, earlier.following, earlier.in_place
            followed = growing_frames.exists() or (in_place and trajectory_path(output).exists())
            trajectories = 0 if followed else trajectories
        else:
            check_nothing_unfinished(output)
            growing_frames.unlink(missing_ok=True)
        _Job(
            model=model,
            plan=plan,
            seed=seed,
            output=output,
            record=record,
            tally=tally,
            report=report,
            start=start,
            in_place=in_place,
            devices=tuple(devices),
            watched=range(start, start + min(trajectories, tally.wanted - tally.before)),
            require=require,
        ).run(append=resume)
    return tally


@dataclass
class _Job:
    model: MoleculeModel
    plan: SamplingPlan
    seed: int
    output: Path
    record: Record
    tally: Tally
    report: Callable[[Tally], None]
    start: int
    in_place: bool
    devices: tuple[str, ...]
    watched: range
    require: Requirement | None
    frames: list[Frame] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    begun: bool = False
    writer: Writer | None = None
    flushed: float = 0.0

    def run(self, *, append: bool) -> None:
        """Write the molecules that are missing, and the record whatever happens."""
        try:
            with (
                open_writer(self.output, append=append) as writer,
                contextlib.closing(DevicePool(self.model, self.plan, self.devices)) as pool,
                contextlib.closing(self._molecules(pool)) as molecules,
            ):
                write_record(record_path(self.output, partial=True), self._record())
                self.begun, self.writer, self.flushed = True, writer, time.monotonic()
                for molecule in molecules:
                    judged = Judged.of(molecule)
                    writer.write(molecule)
                    self.tally.add(judged)  # at once, so that Ctrl-C finds both or neither
                    self._keep()
                    self._show()
                    self._write_frames()
        except KeyboardInterrupt:
            placed = writer.placed if self.begun else not partial_path(self.output).exists()
            if self.begun:
                self._settle(placed=placed)
            raise Interrupted(self.tally, placed=placed) from None
        except BaseException as error:
            kept = self._settle(placed=False) if self.begun else 0
            if isinstance(error, UserError) and kept:
                raise UserError(f"{error} ({kept} molecules are kept: --resume)") from None
            raise
        self._settle(placed=True)

    def _molecules(self, pool: DevicePool) -> Iterator[Molecule]:
        missing = self.tally.wanted - self.tally.before
        if self.require is None:
            return self._made(pool, range(self.start, self.start + missing))
        return select(
            functools.partial(self._made, pool),
            self.require,
            wanted=missing,
            start=self.start,
            on_rejected=self._reject,
        )

    def _made(self, pool: DevicePool, indices: range) -> Iterator[Molecule]:
        molecules = pool.generate(
            indices,
            seed=self.seed,
            on_call=self._on_call,
            watch=Watch(self.watched, self.frames.append) if self.watched else None,
        )
        if self.model.makes_bonds or not self.output.name.lower().endswith(_NEEDS_BONDS):
            return molecules
        return with_bonds(molecules)

    def _reject(self) -> None:
        self.tally.rejected += 1
        self._write_frames()

    def _write_frames(self) -> None:
        if self.tally.made + self.tally.rejected == len(self.watched):
            write_trajectories(_growing_frames(self.output), self.frames)

    def _on_call(self, molecules: int) -> None:
        self.tally.called += molecules
        self._keep()  # the molecules of a batch come at once, and then the next one takes a while
        self._show()

    def _keep(self) -> None:
        """Now and then see that a kill would leave what there is so far."""
        now = time.monotonic()
        if self.writer is not None and now - self.flushed >= _FLUSH_SECONDS:
            self.writer.flush()
            self.flushed = now

    def _show(self) -> None:
        self.tally.seconds = time.perf_counter() - self.started
        self.report(self.tally)

    def _settle(self, *, placed: bool) -> int:
        """Leave the record beside the file that it speaks of; return the molecules kept there.

        Args:
            placed: the writer gave the file its final name.
        """
        self.tally.seconds = time.perf_counter() - self.started
        growing, kept = record_path(self.output, partial=True), self.tally.written
        if not placed:
            found = ResumePoint(0, None, None)
            with contextlib.suppress(UserError):
                found = count_complete(self.output)
            placed = found.path == self.output
            # without an earlier part to go on with, what has the final name is another file
            kept = 0 if placed and not self.tally.before else found.records
        frames = _growing_frames(self.output)
        if not kept:
            growing.unlink(missing_ok=True)
            frames.unlink(missing_ok=True)
            return 0
        with contextlib.suppress(UserError):  # where the disk is full, the first record stands
            write_record(growing, self._record(written=kept))
        if placed:
            os.replace(growing, record_path(self.output))
            if frames.exists():
                os.replace(frames, trajectory_path(self.output))
            elif not self.in_place:
                # Frames of an older file would be taken for those of these molecules.
                trajectory_path(self.output).unlink(missing_ok=True)
        return kept

    def _record(self, *, written: int | None = None) -> Record:
        """Return the record as it is now; without ``written``, as it was before this run."""
        tally, record = self.tally, dict(self.record)
        record["written"] = tally.before if written is None else written
        record["complete"] = written == tally.wanted
        if tally.made:
            run = {
                "made": tally.made,
                "stable": tally.stable,
                "valid": tally.valid,
                "not_finite": tally.broken,
                "rejected": tally.rejected,
                "bond_routes": dict(tally.routes),
                "own_stable": tally.own_stable,
                "own_valid": tally.own_valid,
                "bonds_agree_with_geometry": tally.agreeing,
                "charged": tally.charged,
                "seconds": round(tally.seconds, 3),
                "last_index": tally.last_index,
                "device": str(self.model.device),
                "hardware": describe_device(self.model.device),
            }
            record["runs"] = [*record["runs"], run]
        return record


@dataclass(frozen=True)
class _Earlier:
    """What a resumed job goes on with.

    Attributes:
        records: molecules that are there.
        following: index of the first that is not.
        in_place: they are in the output itself, not in what would become it.
    """

    records: int
    following: int
    in_place: bool


def _find_earlier(output: Path, record: Record, indices: range) -> _Earlier:
    """Return what is there; takes over the record of the runs that made it."""
    found = count_complete(output)
    if not found.records:
        return _Earlier(0, indices.start, in_place=False)
    earlier = find_record(output, found)
    record["runs"] = earlier["runs"]
    following = check_resumable(output, found, earlier, record["settings"], indices=indices)
    return _Earlier(found.records, following, in_place=found.path == output)


def _growing_frames(output: Path) -> Path:
    """Return where the frames of a file are while it grows."""
    return trajectory_path(partial_path(output))


def _plain_grid(grid: Grid) -> Any:
    if isinstance(grid, Mapping):
        return {name: _plain_grid(times) for name, times in grid.items()}
    return [round(t, 6) for t in grid.tolist()]


def _settings(model: MoleculeModel, plan: SamplingPlan, seed: int) -> dict[str, Any]:
    """Return everything that the molecules depend on."""
    return {
        "model": model.name,
        "weights": model.fingerprint(),
        "seed": seed,
        "steps": plan.steps,
        "sampler": plan.sampler_name,
        **dataclasses.asdict(plan.sampler),
        "grid": _plain_grid(plan.grid),
        "num_atoms": plan.sizes.asked,
        "precision": plan.precision,
        "compile": plan.compile,
    }

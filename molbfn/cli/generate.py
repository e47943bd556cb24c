"""`molbfn generate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.corners import Corners
    from molbfn.generation.job import Interrupted
    from molbfn.generation.tally import Tally

_FOLLOWED = 8  # molecules of --trajectory
_ROUTES = {
    "rdkit": "RDKit's bond perception",
    "table": "distance table",
    "single": "single bonds by radius",
}


def generate(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: .sdf .sdf.gz .xyz .smi .csv .npz"),
    ] = Path("molecules.sdf"),
    n: Annotated[int, typer.Option("-n", "--number", help="Molecules to generate.")] = 100,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name of a bundled model, or a model folder.")
    ] = "qm9",
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps [default: the model's own setting].")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="renoise, bayesian, window, ode, sde, or a published solver by its order: ode1, "
            "ode2, sde1, sde2 [default: the model's]."
        ),
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Steps replaced at a time, with --sampler window.")
    ] = None,
    churn: Annotated[
        float | None,
        typer.Option(help="Noise replaced, with --sampler sde: 0 none, 1 exact, more: re-noising."),
    ] = None,
    renoise_from: Annotated[
        float | None,
        typer.Option(help="Time in (0, 1] from which on --sampler ode or sde re-noises."),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Time grid: even, or corners SHARE:TIME+SHARE:TIME; 0.85:0.6 takes 85 % of the "
            "steps to t = 0.6 [default: the model's for its own sampler, else even]."
        ),
    ] = None,
    num_atoms: Annotated[
        str | None,
        typer.Option(help="Atoms per molecule: 18 or 15-20 [default: as in the training data]."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Multiplies the variance of the sampling noise [default: the model's for its own "
            "sampler, else 1]."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32 or bf16; auto is bf16 where the hardware has it.")
    ] = "auto",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the network first: takes up to a minute, pays from some thousand "
            "molecules on (in bf16 rounding turns some into others).",
        ),
    ] = False,
    batch_size: Annotated[
        str,
        typer.Option(
            help="Molecules per network call, or auto; in fp32 results do not depend on it (in "
            "bf16 rounding turns some molecules into others)."
        ),
    ] = "auto",
    devices: Annotated[
        int, typer.Option(help="GPUs, or processes on a CPU; results as with --batch-size.")
    ] = 1,
    num_nodes: Annotated[
        int, typer.Option(help="Machines that share the job; each writes OUTPUT.K-of-N.")
    ] = 1,
    node_rank: Annotated[int, typer.Option(help="This machine's number, from 0.")] = 0,
    trajectory: Annotated[
        bool,
        typer.Option(
            "--trajectory", help="Also write how molecules came about, to OUTPUT.traj.extxyz."
        ),
    ] = False,
    trajectory_molecules: Annotated[
        int | None,
        typer.Option(help="Molecules that --trajectory follows, the first of them [default: 8]."),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            help="Keep on until -n molecules are valid (RDKit accepts their bonds, in one piece) "
            "or stable (also every valence right, no net charge, bonds and distances agreeing); "
            "the others are not written."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted output file.")
    ] = False,
) -> None:
    """Generate molecules with a trained model and write them to a file."""
    from molbfn.allocator import keep_memory
    from molbfn.chem.trajectory import trajectory_path
    from molbfn.devices import choose_device, several_devices
    from molbfn.generation.job import Interrupted, Part, check_request, generate_file
    from molbfn.generation.plan import GenerationOptions
    from molbfn.generation.selection import check_requirement
    from molbfn.model import load_model

    options = GenerationOptions(
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]
        window=window,
        churn=churn,
        renoise_from=renoise_from,
        temperature=temperature,
        grid=_grid(grid),
        num_atoms=num_atoms,
        batch_size=_batch_size(batch_size),  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        compile=compile,
    )
    part = Part(node_rank, num_nodes)
    output = part.name(output)
    check_request(n, output)
    check_requirement(require)
    followed = _followed(trajectory, trajectory_molecules)
    chosen = choose_device(device)
    names = several_devices(chosen, devices)
    keep_memory()
    loaded = load_model(model, device=chosen)
    try:
        with ProgressBar("generating", total=1.0, plain=True) as bar:
            tally = generate_file(
                loaded,
                n,
                output,
                seed=seed,
                options=options,
                resume=resume,
                devices=names,
                part=part,
                trajectories=followed,
                require=require,  # type: ignore[arg-type]
                on_progress=lambda tally: bar.update(tally.work, _running(tally)),
            )
    except Interrupted as interrupted:
        print(_how_to_go_on(interrupted, output), file=sys.stderr)
        raise typer.Exit(130) from None
    print(_summary(tally, output, model=f"{loaded.name} on {loaded.device}"))
    if trajectory and trajectory_path(output).exists():
        print(f"  frames  {trajectory_path(output)}")


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--batch-size {text}: expected a whole number, or auto") from None


def _grid(text: str | None) -> Corners | None:
    from molbfn.corners import read_corners

    if text is None or text == "even":
        return None if text is None else ()
    try:
        return read_corners(text)
    except ValueError:
        raise UserError(
            f"--grid {text}: expected even, or share:time corners, both numbers rising strictly "
            f"between 0 and 1, such as 0.85:0.6 or 0.1:0.3+0.9:0.6"
        ) from None


def _followed(trajectory: bool, asked: int | None) -> int:
    """Return how many molecules leave their trajectories."""
    if asked is not None and not trajectory:
        raise UserError("--trajectory-molecules: goes with --trajectory")
    if asked is not None and asked < 1:
        raise UserError(f"--trajectory-molecules {asked}: must be at least 1")
    return (_FOLLOWED if asked is None else asked) if trajectory else 0


def _running(tally: Tally) -> str:
    text = f"{tally.written}/{tally.wanted}  {tally.rate:.1f}/s"
    if tally.made:
        generated = tally.routes.keys() == {"model"}
        valid, stable = (
            (tally.own_valid, tally.own_stable) if generated else (tally.valid, tally.stable)
        )
        text += f"  valid {valid / tally.made:.0%}  stable {stable / tally.made:.0%}"
    return text


def _how_to_go_on(interrupted: Interrupted, output: Path) -> str:
    from molbfn.chem.records import partial_path

    tally = interrupted.tally
    if tally.written == 0:
        return "molbfn: nothing was written: the first molecules were not finished yet"
    place = output if interrupted.placed else partial_path(output)
    older = "" if interrupted.placed else f"; {output} is the one of before"
    return (
        f"molbfn: {place} holds the first {tally.written} of {tally.wanted} molecules{older}; "
        f"the same command with --resume makes the others"
    )


def _summary(tally: Tally, output: Path, *, model: str) -> str:
    if tally.made == 0:
        return f"{output}: holds all {tally.written} molecules already"
    earlier = f", {tally.before} of them from before" if tally.before else ""
    counted = f"of {tally.made}"
    lines = [
        f"{output}: {tally.written} molecules{earlier}",
        f"  model   {model}",
        f"  time    {tally.seconds:.1f} s, {tally.made / tally.seconds:.1f} molecules/s, "
        f"{tally.calls} network calls a molecule",
        f"  valid   {tally.valid} {counted} (RDKit accepts the bonds of EDM's distance rule, "
        f"in one piece)",
        f"  stable  {tally.stable} {counted} (every atom has its valence by that rule)",
    ]
    if tally.routes.keys() == {"model"}:
        lines.append(
            f"  bonds   generated: {tally.own_valid} {counted} valid in one piece, "
            f"{tally.own_stable} with every valence right, {tally.agreeing} between the same "
            f"atoms as by distance"
        )
    elif tally.routes:
        parts = [f"{_ROUTES.get(key, key)} {count}" for key, count in tally.routes.most_common()]
        lines.append(f"  bonds   {', '.join(parts)}")
    if tally.charged:
        lines.append(
            f"  charge  {tally.charged} {counted} have formal charges that do not add up to 0 "
            f"(where the training data have no ions, a hydrogen is missing or too many)"
        )
    if tally.rejected:
        lines.insert(
            2,
            f"  kept    {tally.made} of {tally.made + tally.rejected} made; the figures below are "
            f"of those kept and say nothing about the model",
        )
    if tally.broken:
        lines.append(
            f"  broken  {tally.broken} {counted} had coordinates that are not finite numbers; "
            f"they are in the file with zeros and the property 'problem'"
        )
    lines.append(f"  record  {output}.json")
    return "\n".join(lines)

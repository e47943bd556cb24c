"""`molbfn generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.generation.job import Tally


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
        str | None, typer.Option(help="renoise, bayesian or window [default: the model's].")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Steps replaced at a time, with --sampler window.")
    ] = None,
    num_atoms: Annotated[
        str | None,
        typer.Option(help="Atoms per molecule: 18 or 15-20 [default: as in the training data]."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Multiplies the variance of the sampling noise [default: the model's]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32 or bf16; auto is bf16 where the hardware has it.")
    ] = "auto",
    batch_size: Annotated[
        str, typer.Option(help="Molecules per network call, or auto; results do not depend on it.")
    ] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted output file.")
    ] = False,
) -> None:
    """Generate molecules with a trained model and write them to a file."""
    from molbfn.devices import choose_device
    from molbfn.generation.job import check_request, generate_file
    from molbfn.generation.sampling import GenerationOptions
    from molbfn.model import load_model

    options = GenerationOptions(
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]
        window=window,
        temperature=temperature,
        num_atoms=num_atoms,
        batch_size=_batch_size(batch_size),
        precision=_precision(precision),  # type: ignore[arg-type]
    )
    check_request(n, output)
    loaded = load_model(model, device=choose_device(device))
    with _Progress(n) as progress:
        tally = generate_file(
            loaded,
            n,
            output,
            seed=seed,
            options=options,
            resume=resume,
            on_progress=progress.molecule,
            on_call=progress.call,
        )
    _print_summary(tally, output, loaded.name)


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--batch-size {text}: expected a whole number, or auto") from None


def _precision(text: str) -> str:
    if text not in {"auto", "fp32", "bf16"}:
        raise UserError(f"--precision {text}: use auto, fp32 or bf16")
    return text


class _Progress:
    """A bar on the terminal; a line now and then where there is none."""

    def __init__(self, wanted: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("generating"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=wanted)
        self._tenths = 0
        self._calls = 0

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def call(self, molecules: int) -> None:
        """Show that the network is at work before the first molecules are ready."""
        self._calls += 1
        if self._calls % 10 == 0 and not self._bar.finished:
            self._bar.refresh()

    def molecule(self, tally: Tally) -> None:
        """Show the running counts."""
        text = f"{tally.rate:.1f}/s  stable {tally.stable / tally.made:.0%}"
        if tally.routes:
            text += f"  bonds by RDKit {tally.routes['rdkit'] / tally.made:.0%}"
        self._bar.update(self._task, completed=tally.written, description=text)
        tenths = 10 * tally.written // tally.wanted
        if not self._console.is_terminal and tenths > self._tenths:
            self._tenths = tenths
            self._console.print(f"{tally.written}/{tally.wanted}  {text}", soft_wrap=True)


def _print_summary(tally: Tally, output: Path, model: str) -> None:
    if tally.made == 0:
        print(f"{output}: holds all {tally.written} molecules already")
        return
    print(f"{output}: {tally.written} molecules by {model}, {tally.made} of them made now")
    print(f"  {tally.seconds:.1f} s, {tally.rate:.1f} molecules/s")
    print(f"  stable by the EDM distance rule: {tally.stable} of {tally.made}")
    if tally.routes:
        names = {
            "rdkit": "RDKit from the coordinates",
            "table": "distance table",
            "single": "single bonds by radius",
        }
        parts = [f"{names.get(route, route)} {count}" for route, count in tally.routes.items()]
        print(f"  bonds: {', '.join(parts)}")

"""What is asked of a generation, and what that means for a given model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np

from bfn_core import (
    SolverSampler,
    bayesian_sampler,
    ode_solver,
    piecewise_grid,
    renoise_sampler,
    sde_solver,
    window_sampler,
)
from bfn_core.sampling import Grid, Sampler
from molbfn.config import SchemeConfig
from molbfn.corners import Corners
from molbfn.devices import Precision, choose_precision, compile_problem
from molbfn.errors import UserError, nearest
from molbfn.generation.sizes import SizeDistribution, choose_sizes
from molbfn.model import MoleculeModel

SamplerName = Literal["renoise", "bayesian", "window", "ode", "sde", "ode1", "ode2", "sde1", "sde2"]

_PUBLISHED = {
    "ode1": ode_solver(order=1),
    "ode2": ode_solver(order=2),
    "sde1": sde_solver(order=1),
    "sde2": sde_solver(order=2),
}
"""The solvers of Xue et al. 2024 by order, with nothing to adjust but the temperature."""


@dataclass(frozen=True)
class GenerationOptions:
    """How to sample; None means what is stored with the model.

    Attributes:
        steps: sampling steps; the network is called once more at the end.
        sampler: "renoise", "bayesian", "window", "ode" or "sde"; "ode1", "ode2", "sde1" or "sde2"
            for the published solvers of first and second order.
        window: steps replaced, for "window".
        churn: noise replaced, for "sde": 0 none (the ode), 1 the exact reverse process, more
            towards "renoise".
        renoise_from: time from which on "ode" and "sde" re-noise; 1 for never.
        temperature: multiplies the variance of the sender's noise; with another sampler than the
            stored one, None means 1.
        grid: (share of the steps, time) corners of the time grid, () for even steps; with another
            sampler than the stored one, None means even steps.
        num_atoms: None (training histogram), 18, "18" or "15-20".
        batch_size: molecules a network call, or "auto".
        precision: of network calls; "auto" is bf16 where the hardware has it.
        compile: the model's network first, which pays from some thousand molecules on; it stays
            compiled, and rounds a little differently.
    """

    steps: int | None = None
    sampler: SamplerName | None = None
    window: int | None = None
    churn: float | None = None
    renoise_from: float | None = None
    temperature: float | None = None
    grid: Corners | None = None
    num_atoms: str | int | None = None
    batch_size: int | Literal["auto"] = "auto"
    precision: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):  # numbers of numpy's are no numbers in JSON
            value = getattr(self, option.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, option.name, value.item())
        for names, kinds, what in (
            (("steps", "window"), int, "a whole number"),
            (("churn", "renoise_from", "temperature"), int | float, "a number"),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                    option_name = name.replace("_", "-")
                    raise UserError(f"--{option_name} {value!r}: must be {what}")

    @classmethod
    def of(cls, options: GenerationOptions | None, fields: Mapping[str, object]) -> Self:
        """Return the options that a caller gave, whole or by their fields.

        Raises:
            TypeError: both were given, or an unknown field.
            UserError: a value of the wrong type.
        """
        if options is not None and fields:
            raise TypeError("give either options or its fields, not both")
        return cls(**fields) if options is None else options  # type: ignore[arg-type,return-value]


@dataclass(frozen=True)
class SamplingPlan:
    """Options resolved against a model.

    Attributes:
        steps: sampling steps.
        sampler_name: as in :class:`GenerationOptions`, followed by "+renoise" where it re-noises
            from some time on.
        sampler: the sampler itself.
        grid: times [steps + 1], for all variables or one such tensor for each.
        sizes: distribution of the number of atoms.
        batch_size: molecules a call, or None to choose by the number of atoms.
        precision: of network calls.
        compile: the network first.
    """

    steps: int
    sampler_name: str
    sampler: Sampler
    grid: Grid
    sizes: SizeDistribution
    batch_size: int | None
    precision: Literal["fp32", "bf16"]
    compile: bool = False

    @property
    def calls(self) -> int:
        """Network calls a molecule."""
        return self.steps * self.sampler.calls_per_step + 1


def plan_sampling(model: MoleculeModel, options: GenerationOptions) -> SamplingPlan:
    """Resolve options against the model's stored settings.

    Raises:
        UserError: a value out of range (names the option).
    """
    steps = model.info.config.sampling.steps if options.steps is None else options.steps
    if steps < 1:
        raise UserError(f"--steps {steps}: must be at least 1")
    stored = model.info.config.sampling.scheme(steps)
    name = options.sampler or stored.sampler
    if name not in get_args(SamplerName):
        known = get_args(SamplerName)
        raise UserError(
            f"--sampler {name}: unknown;{nearest(name, known)} use {', '.join(known[:-1])} "
            f"or {known[-1]}"
        )
    sampler = _sampler(name, options, stored)
    if options.compile and (problem := compile_problem(model.device)) is not None:
        raise UserError(f"--compile: torch.compile does not work here ({problem}); leave it out")
    divided = isinstance(sampler, SolverSampler) and sampler.renoise_from is not None
    return SamplingPlan(
        steps=steps,
        sampler_name=f"{name}+renoise" if divided else name,
        sampler=sampler,
        grid=_grid(model, steps, _grid_scheme(name, options, stored)),
        sizes=choose_sizes(options.num_atoms, model.info.sizes),
        batch_size=_batch_size(options.batch_size),
        precision=choose_precision(options.precision, model.device),
        compile=options.compile,
    )


def check_count(n: int) -> None:
    """Refuse a number of molecules that is not positive."""
    if n < 1:
        raise UserError(f"-n {n}: the number of molecules must be at least 1")


def _sampler(name: str, options: GenerationOptions, stored: SchemeConfig) -> Sampler:
    own = name == stored.sampler  # what is stored with the model is meant for the stored sampler
    window = None
    if name == "window":
        window = stored.window if own and options.window is None else options.window
        if window is None or window < 1:
            raise UserError("--sampler window needs --window, a number of steps of at least 1")
    scheme = stored if own else SchemeConfig(sampler=name, window=window)  # type: ignore[arg-type]
    temperature = scheme.temperature if options.temperature is None else options.temperature
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UserError(f"--temperature {temperature}: must be a number of at least 0")
    for option, value, goes_with in (
        ("window", options.window, ("window",)),
        ("churn", options.churn, ("sde",)),
        ("renoise-from", options.renoise_from, ("ode", "sde")),
    ):
        if value is not None and name not in goes_with:
            names = " or ".join(goes_with)
            raise UserError(f"--{option} {value}: goes with --sampler {names} only, not {name}")
    match name:
        case "renoise":
            return renoise_sampler(draw=scheme.draw, temperature=temperature)
        case "bayesian":
            return bayesian_sampler(temperature=temperature)
        case "window":
            assert window is not None
            return window_sampler(window, temperature=temperature)
        case "ode1" | "ode2" | "sde1" | "sde2":
            return dataclasses.replace(_PUBLISHED[name], temperature=temperature)
    churn = 0.0 if name == "ode" else scheme.churn if options.churn is None else options.churn
    if not (math.isfinite(churn) and churn >= 0):
        raise UserError(
            f"--churn {churn}: must be a number of at least 0 (without limit: --sampler renoise)"
        )
    corner = scheme.renoise_from if options.renoise_from is None else options.renoise_from
    if corner is not None and not 0 < corner <= 1:
        raise UserError(f"--renoise-from {corner}: must be a time above 0 and at most 1 (never)")
    return SolverSampler(
        churn=churn,
        extrapolation=scheme.extrapolation,
        draw=scheme.draw,
        temperature=temperature,
        renoise_from=None if corner == 1 else corner,
        spread={"positions": scheme.spread} if scheme.spread else {},
    )


def _grid_scheme(name: str, options: GenerationOptions, stored: SchemeConfig) -> SchemeConfig:
    """Return the scheme whose grid is taken: one made for another sampler would be a poor one."""
    if options.grid is None:
        return stored if name == stored.sampler else SchemeConfig(knots=())
    try:
        return SchemeConfig(knots=options.grid)
    except ValueError:
        corners = "+".join(f"{share:g}:{time:g}" for share, time in options.grid)
        raise UserError(
            f"--grid {corners}: both numbers must rise strictly between 0 and 1, as 0.85:0.6"
        ) from None


def _grid(model: MoleculeModel, steps: int, scheme: SchemeConfig) -> Grid:
    positions = piecewise_grid(steps, scheme.knots)
    if scheme.class_knots is None:
        return positions
    classes = piecewise_grid(steps, scheme.class_knots)
    return {name: positions if name == "positions" else classes for name in model.flows}


def _batch_size(size: int | str) -> int | None:
    if size == "auto":
        return None
    if not isinstance(size, int) or size < 1:
        raise UserError(f"--batch-size {size}: expected a whole number of at least 1, or auto")
    return size

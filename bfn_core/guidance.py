"""Guidance: predictors made from predictors, for any sampler, solver or bound.

What a network says is changed before the sampler sees it; samplers know nothing of it.  Everything
rests on one identity.  A latent is ``a s + b eps`` with s the signal of the data
(:class:`~bfn_core.flows.base.LatentScales`), so by Tweedie's formula

    E[s | z, c] = E[s | z] + (b^2 / a) grad_z ln p(c | z)

and evidence c moves the estimate by its score: ``(1 - gamma) grad`` for Gaussian inputs, ``grad``
for the expected one-hot code of classes (:meth:`~bfn_core.flows.base.Flow.given_evidence`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bfn_core.flows.base import (
    CategoricalOutput,
    Flow,
    Output,
    PointOutput,
    State,
)
from bfn_core.flows.joint import JointFlow, Masks, Predictor, Times
from bfn_core.tensors import apply_mask, check_classes, check_mask, expand_right, one_hot

LogLikelihood = Callable[[Mapping[str, State], Mapping[str, Output], Mapping[str, Tensor]], Tensor]
"""(states, output distributions, times per variable) -> ln p(c | states), nats a sample [B]."""


def classifier_free_guidance(
    flows: JointFlow, predict: Predictor, reference: Predictor, *, weight: float
) -> Predictor:
    """Move outputs away from a reference: ``reference + weight (predict - reference)``.

    With the conditional and the unconditional network it is classifier-free guidance (Ho and
    Salimans 2022, arXiv 2207.12598, eq. 6, weight = 1 + w); with a network and a worse one,
    autoguidance (Karras et al. 2024, arXiv 2406.02507, eq. 3).  Points are mixed as they are (and
    clipped to the flow's limit), categorical outputs in their log-probabilities.  One element with
    exact networks is then sampled from ``p^weight q^(1 - weight)``, normalised, if it is a class or
    a bin, or if p and q are Gaussians of the same variance; in general that product is no law of
    the guided process.

    Args:
        flows: of both networks.
        predict, reference: network calls; both are made at every state.
        weight: 0 the reference, 1 ``predict``, more extrapolates.

    Raises:
        TypeError: outputs of a variable that are not both points or both categorical.
    """

    def guided(states: Mapping[str, State], times: Mapping[str, Tensor]) -> Mapping[str, Output]:
        outputs, references = predict(states, times), reference(states, times)
        return {
            name: _mix(flow, outputs[name], references[name], weight)
            for name, flow in flows.flows.items()
        }

    return guided


def gradient_guidance(
    flows: JointFlow,
    predict: Predictor,
    log_likelihood: LogLikelihood,
    *,
    scale: float = 1.0,
    through_network: bool = False,
    mask: Masks = None,
) -> Predictor:
    """Condition on evidence by the gradient of its log-likelihood.

    Dhariwal and Nichol 2021 (arXiv 2105.05233, eq. 14), on BFN latents as in MolJO (Qiu et al.
    2024, arXiv 2411.13280), here with the gradient at the latent itself, which is exact for
    scale 1 and a likelihood of the noisy state.

    Args:
        flows, predict: the flows and a network bound to them.
        log_likelihood: differentiable in the states: means of Gaussian inputs, logits of
            categorical ones.  An energy E of what is wanted enters as -E.
        scale: multiplies the gradient.
        through_network: let the outputs depend on the states in ``log_likelihood`` too (a
            likelihood of the estimate, "reconstruction guidance"): a backward pass of the network
            at every state.  Otherwise outputs are constants there.
        mask: as everywhere.

    Raises:
        ValueError: log_likelihood does not return one number a sample, or does not depend on the
            states.
    """

    def guided(states: Mapping[str, State], t: Times) -> Mapping[str, Output]:
        times = flows.times(t)
        # Where the caller differentiates by the states, the guided outputs depend on them too.
        recorded = torch.is_grad_enabled() and any(
            flows[name].latent(states[name]).requires_grad for name in flows
        )
        # What was made in inference mode can never be differentiated; copies can.
        with torch.inference_mode(False), torch.enable_grad():
            clocks = {name: t.clone() for name, t in times.items()}
            leaves = {name: _leaf(flows[name], states[name]) for name in flows}
            own = {
                name: flows[name].from_latent(leaf, clocks[name].to(leaf.dtype))
                for name, leaf in leaves.items()
            }
            # Outputs that are constants to the likelihood hang on the caller's states all the same.
            with torch.set_grad_enabled(through_network or recorded):
                outputs = predict(own if through_network or not recorded else states, clocks)
            value = log_likelihood(own, outputs, clocks)
            if value.shape != next(iter(clocks.values())).shape:
                raise ValueError(
                    f"log_likelihood must return one number a sample, got {tuple(value.shape)}"
                )
            if not value.requires_grad:
                raise ValueError(
                    "log_likelihood does not depend on the states; through_network=True lets a "
                    "likelihood of the outputs do so"
                )
            scores = torch.autograd.grad(
                value.sum(),
                list(leaves.values()),
                allow_unused=True,
                materialize_grads=True,
                create_graph=recorded,
            )
        with torch.set_grad_enabled(recorded):
            return {
                name: flows[name].given_evidence(
                    outputs[name], scale * score, times[name], mask=flows.mask_of(name, mask)
                )
                for name, score in zip(leaves, scores, strict=True)
            }

    return guided


def inpainting(
    flows: JointFlow,
    predict: Predictor,
    data: Mapping[str, Tensor],
    known: Mapping[str, Tensor],
    *,
    mask: Masks = None,
) -> Predictor:
    """Fix the elements that are known; the sampler completes the others.

    Known elements are sent as they are, so their states follow the flow distribution of the data
    and the sample has exactly their values.  The others see them through the noise of the time
    only: with one time for all variables that approximates the conditional law.  It is exact where
    what is known comes to t = 1 first (a time grid for each variable, and a network trained at
    such times).

    A solver's ``spread`` stands for what nothing is known of, but its first step adds it to known
    elements all the same: their states are then noisier than the flow distribution, for good in an
    ODE.  The sample's values stay exact; a spread of 0 for the variable keeps the law.

    What else changes outputs goes inside, ``inpainting(flows, gradient_guidance(...), ...)``:
    around it, it would move what is known.

    Centred flows have no place for a frame: the known points of a sample are moved, all by the same
    vector, to where the network expects their mean.  The sample has them up to that translation.

    Args:
        flows, predict: the flows and a network bound to them.
        data: variable -> [B, ...], anything where not known (classes must be valid).
        known: variable -> bool, the shape of its data or of its leading axes (centred flows: whole
            points, [B, N]); a variable that is missing is not known at all.
        mask: as everywhere; padding is never known.

    Raises:
        ValueError: a known variable that has no data or no flow, a ``known`` or mask that is not
            bool or does not fit its data, or coordinates of a centred flow that are known without
            the others of their point; when called, data that are not of the sample's shape.
        TypeError: when called, an output of a known variable that is no point and not categorical.
    """
    given: dict[str, Tensor] = {}
    for name, where in known.items():
        if name not in flows.flows:
            raise ValueError(f"no variable {name}; there are {', '.join(flows)}")
        if name not in data:
            raise ValueError(f"no data given for {name}")
        own, shape = flows.mask_of(name, mask), data[name].shape
        check_mask(where, shape)
        check_mask(own, shape)
        if flows[name].centred and where.shape != shape[:2]:
            raise ValueError(
                f"{name} is centred: known must be {tuple(shape[:2])}, whole points, "
                f"not {tuple(where.shape)}"
            )
        given[name] = _both(where, own)

    def fixed(name: str, output: Output) -> Output:
        if data[name].shape != output.shape:
            raise ValueError(
                f"data of {name} have shape {tuple(data[name].shape)}, but samples have "
                f"{tuple(output.shape)}; expand them"
            )
        return _fixed(flows[name], output, data[name], given[name])

    def completed(states: Mapping[str, State], times: Mapping[str, Tensor]) -> Mapping[str, Output]:
        return {
            name: fixed(name, output) if name in given else output
            for name, output in predict(states, times).items()
        }

    return completed


def _both(known: Tensor, mask: Tensor | None) -> Tensor:
    """Return where both are True, with the axes of the one that has more of them."""
    if mask is None:
        return known
    return expand_right(known, mask) & expand_right(mask, known)


def _mix(flow: Flow, output: Output, reference: Output, weight: float) -> Output:
    if isinstance(output, PointOutput) and isinstance(reference, PointOutput):
        return flow.point(_between(reference.mean, output.mean, weight))
    if not (isinstance(output, CategoricalOutput) and isinstance(reference, CategoricalOutput)):
        kinds = f"{_kind(output)} and {_kind(reference)}"
        raise TypeError(f"outputs must both be points or both categorical to mix, not {kinds}")
    # Neither network may rule out a class for good: -inf minus -inf is no number.
    floor = torch.finfo(output.log_probs.dtype).min / 4 / max(1.0, abs(weight))
    ours, theirs = output.log_probs.clamp_min(floor), reference.log_probs.clamp_min(floor)
    return CategoricalOutput(torch.log_softmax(_between(theirs, ours, weight), -1))


def _kind(output: Output) -> str:
    return type(output).__name__


def _between(theirs: Tensor, ours: Tensor, weight: float) -> Tensor:
    """Return ``theirs + weight (ours - theirs)``, exact at weights 0 and 1 whatever the size."""
    dtype = torch.promote_types(theirs.dtype, ours.dtype)
    return torch.lerp(theirs.to(dtype), ours.to(dtype), weight)


def _fixed(flow: Flow, output: Output, data: Tensor, known: Tensor) -> Output:
    if isinstance(output, PointOutput):
        points = data.to(output.mean.dtype)
        if flow.centred:
            gap = apply_mask(output.mean - points, known).sum(1, keepdim=True)
            points = points + gap / known.sum(1).clamp_min(1)[:, None, None]
        return PointOutput(torch.where(expand_right(known, points), points, output.mean))
    if not isinstance(output, CategoricalOutput):
        raise TypeError(f"only points and categorical outputs can be fixed, not {_kind(output)}")
    log_probs = output.log_probs
    check_classes(data, log_probs.shape[-1])
    certain = one_hot(data, log_probs.shape[-1], log_probs.dtype).log()
    known = expand_right(known, log_probs)
    return CategoricalOutput(torch.where(known, certain, log_probs))


def _leaf(flow: Flow, state: State) -> Tensor:
    """Return a copy of the latent, in the caller's graph if that is in one, else a leaf."""
    latent = flow.latent(state)
    return latent.clone() if latent.requires_grad else latent.detach().clone().requires_grad_()

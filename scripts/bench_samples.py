"""Whole samples, as bench_networks.py times them: the bundled model's and GeoBFN's form's."""

from __future__ import annotations

import time

from molbfn.benchmarks.edge_list import EdgeListEGNN, EdgeListNetwork
from molbfn.config_file import load_config
from molbfn.generation import GenerationOptions, generate
from molbfn.model import ModelInfo, MoleculeModel, load_model

# Steps of GeoBFN's form that are run, and the calls of its usual setting.
SHORT_STEPS, PUBLISHED_CALLS = 4, 1001
MEAN_ATOMS = 18  # of QM9


class SamplingLoops:
    """Times whole samples of the bundled ``qm9`` and of GeoBFN's form, uncompiled.

    All of ``MEAN_ATOMS`` atoms, so that either makes one batch of a few molecules.

    Attributes:
        seconds: name -> seconds a molecule, by round.
    """

    def __init__(self, batch: int, device: str) -> None:
        ours = load_model("qm9", device=device)
        info = ModelInfo(
            config=load_config("qm9_geobfn").model(),
            buckets=(max(ours.info.sizes),),
            sizes=ours.info.sizes,
            provenance={},
        )
        published = MoleculeModel(info)
        published.network = EdgeListNetwork(EdgeListEGNN())
        self._runs = {
            "published": (published.to(device).eval(), SHORT_STEPS, "fp32"),
            "ours": (ours, ours.info.config.sampling.steps, "auto"),
        }
        self._batch = batch
        self.seconds: dict[str, list[float]] = {name: [] for name in self._runs}
        for name in self._runs:
            self._sample(name, steps=1)

    def measure(self, *, backwards: bool) -> None:
        """Take one round; the published form's time is scaled to all of its calls."""
        for name in reversed(self._runs) if backwards else self._runs:
            steps = self._runs[name][1]
            taken = self._sample(name, steps=steps)
            scale = PUBLISHED_CALLS / (SHORT_STEPS + 1) if name == "published" else 1.0
            self.seconds[name].append(scale * taken)

    def _sample(self, name: str, *, steps: int) -> float:
        model, _, precision = self._runs[name]
        options = GenerationOptions(
            steps=steps, precision=precision, batch_size=self._batch, num_atoms=MEAN_ATOMS
        )
        start = time.perf_counter()
        made = list(generate(model, self._batch, seed=0, bonds=False, options=options))
        return (time.perf_counter() - start) / len(made)

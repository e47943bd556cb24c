"""What the ODE about Gaussian data takes their centre for; its solutions are in test_solvers.py."""

from __future__ import annotations

import torch

from bfn_core import ContinuousFlow
from bfn_core.sampling.gaussian_ode import GaussianFrame, centre_of

SIGMA_1 = 0.05


def test_the_centre_of_gaussian_data_is_found_and_held_back_late():
    flow, spread = ContinuousFlow(sigma_1=SIGMA_1), 0.5
    latent = torch.tensor([[0.2], [-0.4]], dtype=torch.float64)
    for t, held in ((0.1, False), (0.9, True)):
        frame = GaussianFrame.at(flow, torch.full((2,), t, dtype=torch.float64), spread, latent)
        beta = SIGMA_1 ** (-2 * t) - 1
        sure = beta * spread**2 / (1 + beta * spread**2)  # how much of y - m the data are
        y = latent / (1 - SIGMA_1 ** (2 * t))
        signal = 0.3 + sure * (y - 0.3)  # of N(0.3, spread^2)
        found = centre_of(frame, latent, signal, spread=spread)
        assert (1 - sure < 0.1) is held
        expected = 0.3 * ((1 - sure) / 0.1 if held else 1.0)
        torch.testing.assert_close(found, torch.full((2, 1), expected, dtype=torch.float64))

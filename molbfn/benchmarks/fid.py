"""FID (Heusel et al. 2017) through torchmetrics, where its Inception weights are at hand."""

from __future__ import annotations

import numpy as np
import torch

from molbfn.errors import UserError

_BATCH = 50


def fid(samples: np.ndarray, reference: np.ndarray) -> float:
    """Return the FID between two sets of colour images uint8 [N, H, W, 3].

    Published figures are of 50,000 samples; fewer give a larger one.

    Raises:
        UserError: torch-fidelity or its weights are missing, or torchvision does not load; says
            what to do.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(feature=2048)
    except ModuleNotFoundError:
        raise UserError(
            "FID needs torch-fidelity: pip install 'molbfn[fid]', or leave out --fid"
        ) from None
    except RuntimeError as error:  # as torchvision's own where it is of another build than torch
        raise UserError(
            f"FID needs torchvision, which does not load beside torch {torch.__version__} "
            f"({error}); install both from one index, for the same accelerator, or leave out --fid"
        ) from None
    except OSError as error:
        raise UserError(
            f"FID needs the Inception weights, which torch-fidelity could not download ({error}); "
            f"put weights-inception-2015-12-05-6726825d.pth into torch.hub's checkpoints folder "
            f"({torch.hub.get_dir()}/checkpoints), or leave out --fid"
        ) from None
    for images, real in ((reference, True), (samples, False)):
        for start in range(0, len(images), _BATCH):
            part = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2)
            metric.update(part, real=real)
    return float(metric.compute())

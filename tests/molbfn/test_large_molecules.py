"""The largest molecules of GEOM-Drugs (181 atoms): training and sampling in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys

LIMIT_GIB = 2.0

# In a process of its own, for peak memory is that of a whole process.
CHILD = """
import json, resource, torch
from molbfn.config import Config
from molbfn.data.batching import MoleculeBatch
from molbfn.model import ModelInfo, MoleculeModel
from molbfn.training.module import TrainingModule

torch.set_num_threads(1)
config = Config(name="large", charges={}, bonds={}, training={"precision": "bf16"})
info = ModelInfo(config=config.model(), buckets=(181,), sizes={181: 1}, provenance={})
model = MoleculeModel(info)
generator = torch.Generator().manual_seed(0)
x = 4 * torch.randn(2, 181, 3, generator=generator)
batch = MoleculeBatch(
    positions=x - x.mean(1, keepdim=True),
    elements=torch.randint(4, (2, 181), generator=generator),
    mask=torch.ones(2, 181, dtype=torch.bool),
    charges=torch.zeros(2, 181, dtype=torch.int64),
    bonds=torch.zeros(2, 181, 181, dtype=torch.int64),
)
module = TrainingModule(model, config)
optimiser = module.configure_optimizers()["optimizer"]
with torch.autocast("cpu", torch.bfloat16):
    loss = module.loss(batch, generator)["loss"]
loss.backward()
optimiser.step()
(molecule,) = model.generate(1, steps=2)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"loss": float(loss), "atoms": len(molecule), "peak": peak}))
"""


def test_a_batch_of_181_atoms_fits():
    child = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=False, timeout=300
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["atoms"] == 181
    assert 0 < found["loss"] < 1000
    assert found["peak"] < LIMIT_GIB * 2**30, f"{found['peak'] / 2**30:.2f} GiB"

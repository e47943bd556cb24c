"""Who started the processes of a run, and whether they are as many as it was told to have.

Lightning believes ``--devices`` and ``--nodes`` as they are: too few of them, and each process
that a launcher started trains on its own; too many, and it waits for some that never come.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from molbfn.errors import UserError

_LSF = ("LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE")
_MPI = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", ""),
)


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes:
        launcher: what started it, for messages.
        first: this is the first process of its run.
        processes: on all machines, None where nothing says.
        per_node: on each machine, None where nothing says.
    """

    launcher: str
    first: bool
    processes: int | None = None
    per_node: int | None = None

    def check(self, *, devices: int, nodes: int) -> None:
        """Refuse a run of another number of processes than were started.

        Raises:
            UserError: names the right ``--devices`` and ``--nodes``.
        """
        if self.processes is None:
            return
        if self.launcher == "srun" and self.processes > 1 and self.per_node is None:
            raise UserError(
                f"srun: SLURM_NTASKS is {self.processes}, and nothing says how many run on each "
                f"machine; give it --ntasks-per-node in place of --ntasks"
            )
        per_node = self.per_node or devices
        if devices * nodes == self.processes and devices == per_node:
            return
        several = "es" if self.processes > 1 else ""
        right = (
            f"--devices {per_node} --nodes {self.processes // per_node}"
            if self.processes % per_node == 0
            else f"--devices times --nodes = {self.processes}"
        )
        hint = "" if self.launcher != "srun" else (
            f", or srun --ntasks-per-node={devices} --nodes={nodes}"
        )  # fmt: skip
        raise UserError(
            f"--devices {devices} --nodes {nodes}: {self.launcher} started "
            f"{self.processes} process{several}; say {right}{hint}"
        )


def find_launch(environment: Mapping[str, str]) -> Launch:
    """Read from environment variables how this process was started, in Lightning's order.

    Variables of a launcher that Lightning does not heed (Slurm's in a shell of one's own, MPI's
    without mpi4py) do not count: such a process is alone.
    """

    def number(name: str) -> int | None:
        value = environment.get(name, "")
        return int(value) if value.isdigit() and int(value) else None

    def zero(*names: str) -> bool:
        return all(environment.get(name, "0") == "0" for name in names)

    if "TORCHELASTIC_RUN_ID" in environment:
        return Launch("torchrun", zero("RANK"), number("WORLD_SIZE"), number("LOCAL_WORLD_SIZE"))
    own_shell = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in environment and not own_shell:
        processes, per_node = number("SLURM_NTASKS"), number("SLURM_NTASKS_PER_NODE")
        # One process is one on its machine.
        return Launch("srun", zero("SLURM_PROCID"), processes, 1 if processes == 1 else per_node)
    if all(name in environment for name in _LSF):
        return Launch("jsrun", zero("JSM_NAMESPACE_RANK"), number("JSM_NAMESPACE_SIZE"))
    for rank, size, local in _MPI:
        if rank in environment and importlib.util.find_spec("mpi4py") is not None:
            return Launch("mpirun", zero(rank), number(size), number(local))
    # Lightning starts processes itself unless it finds their numbers set, as in those it started.
    node = "NODE_RANK" if "NODE_RANK" in environment else "GROUP_RANK"
    started = number("WORLD_SIZE") if "LOCAL_RANK" in environment else None
    return Launch("the environment (WORLD_SIZE)", zero(node, "LOCAL_RANK"), started)

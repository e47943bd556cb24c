"""How many processes a launcher started, and which of them this one is."""

from __future__ import annotations

import importlib.util

import pytest

from molbfn.errors import UserError
from molbfn.training.launchers import Launch, find_launch

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "train"}
JSRUN = {
    "LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "f", "JSM_NAMESPACE_LOCAL_RANK": "0",
    "JSM_NAMESPACE_SIZE": "3",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"GROUP_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "4"}, True),
        ({**TORCHRUN, "RANK": "2", "WORLD_SIZE": "4"}, False),  # second machine
        ({**SRUN, "SLURM_PROCID": "3"}, False),
        ({**SRUN, "SLURM_PROCID": "3", "SLURM_JOB_NAME": "bash"}, True),
        ({"SLURM_PROCID": "3"}, True),
        ({**JSRUN, "JSM_NAMESPACE_RANK": "2"}, False),
    ],
)
def test_the_first_process_of_a_run(environment, first):
    assert find_launch(environment).first is first


@pytest.mark.parametrize(
    ("environment", "processes", "per_node"),
    [
        ({}, None, None),
        ({"WORLD_SIZE": "2"}, None, None),  # Lightning heeds it beside LOCAL_RANK only
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1", "NODE_RANK": "0"}, 2, None),  # its own processes
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "4"}, 4, 2),
        ({**TORCHRUN, **SRUN, "RANK": "0", "WORLD_SIZE": "2"}, 2, 2),  # torchrun under srun
        (SRUN, 4, 2),
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, None, None),
        ({"SLURM_NTASKS": "2"}, 2, None),
        ({"SLURM_NTASKS": "1"}, 1, 1),
        (JSRUN, 3, None),
    ],
)
def test_the_number_of_processes(environment, processes, per_node):
    launch = find_launch(environment)
    assert (launch.processes, launch.per_node) == (processes, per_node)


@pytest.mark.parametrize("installed", [True, False])
def test_mpi_counts_where_lightning_can_ask_it(monkeypatch, installed):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    launch = find_launch({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"})
    assert (launch.processes, launch.first) == ((3, False) if installed else (None, True))


@pytest.mark.parametrize(
    ("launch", "devices", "nodes"),
    [
        (Launch("Lightning", True), 5, 7),
        (Launch("torchrun", True, 4, 2), 2, 2),
        (Launch("jsrun", True, 4), 1, 4),
        (Launch("srun", True, 1, 1), 1, 1),
    ],
)
def test_a_run_of_as_many_processes_as_were_started(launch, devices, nodes):
    launch.check(devices=devices, nodes=nodes)


@pytest.mark.parametrize(
    ("launch", "devices", "nodes", "message"),
    [
        (Launch("torchrun", True, 2, 2), 1, 1,
         "--devices 1 --nodes 1: torchrun started 2 processes; say --devices 2 --nodes 1"),
        (Launch("torchrun", True, 2, 2), 3, 1,
         "--devices 3 --nodes 1: torchrun started 2 processes; say --devices 2 --nodes 1"),
        (Launch("torchrun", True, 3, 2), 1, 1,
         "--devices 1 --nodes 1: torchrun started 3 processes; say --devices times --nodes = 3"),
        (Launch("srun", True, 2, 1), 2, 1,
         "--devices 2 --nodes 1: srun started 2 processes; say --devices 1 --nodes 2, or srun "
         "--ntasks-per-node=2 --nodes=1"),
        (Launch("srun", True, 1, 1), 2, 1,
         "--devices 2 --nodes 1: srun started 1 process; say --devices 1 --nodes 1, or srun "
         "--ntasks-per-node=2 --nodes=1"),
        (Launch("srun", True, 2), 2, 1,
         "srun: SLURM_NTASKS is 2, and nothing says how many run on each machine; give it "
         "--ntasks-per-node in place of --ntasks"),
    ],
)  # fmt: skip
def test_a_run_of_another_number_of_processes(launch, devices, nodes, message):
    with pytest.raises(UserError) as caught:
        launch.check(devices=devices, nodes=nodes)
    assert str(caught.value) == message

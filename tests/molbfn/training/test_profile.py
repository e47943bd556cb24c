"""Profiles of training steps: what they count, what they leave, and that they change nothing."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import profile

from molbfn.errors import UserError
from molbfn.training import profile as module
from molbfn.training.job import train
from molbfn.training.profile import (
    StepProfile,
    StepTimes,
    covered,
    is_product,
    kernel_times,
    step_times,
)


def test_kernels_side_by_side_count_once():
    assert covered([]) == 0
    assert covered([(3.0, 5.0), (0.0, 1.0)]) == 3
    assert covered([(0.0, 4.0), (1.0, 2.0), (3.0, 6.0), (6.0, 7.0), (9.0, 9.0)]) == 7


@pytest.mark.parametrize(
    "name",
    [
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "mkldnn::_linear_pointwise",
        "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_nn",
        "nvjet_tst_128x192_64x4_1x2_h_bz_coopA_TNN",
        "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128_32x3_nn_align4>",
    ],
)
def test_what_multiplies_matrices(name):
    assert is_product(name)


@pytest.mark.parametrize("name", ["aten::mul", "aten::add", "aten::_softmax", "triton_poi_fused_0"])
def test_what_does_not(name):
    assert not is_product(name)


def test_a_product_takes_nearly_all_of_the_time_where_there_is_nothing_else():
    a = torch.randn(300, 300)
    with profile() as seen:
        for _ in range(20):
            a @ a
    times = step_times(seen, steps=20, seconds=10.0, device="cpu")
    assert 0.8 * times.busy < times.products <= times.busy < 10.0


def test_the_shares_in_words():
    said = StepTimes(steps=4, seconds=2.0, busy=1.5, products=0.5).in_words("cuda").splitlines()
    assert said[0].startswith("profile: 4 steps of 0.5000 s; kernels run 75% of the time")
    assert said[1] == "profile: 33% of the kernels' time is matrix products"
    on_cpu = StepTimes(steps=4, seconds=2.0, busy=1.5, products=0.5).in_words("cpu").splitlines()
    assert "operators run 75% of the time" in on_cpu[0]
    assert on_cpu[1] == "profile: 25% of the time is matrix products"
    assert "0% of the kernels' time" in StepTimes(1, 1.0, 0.0, 0.0).in_words("cuda")


def event(name: str, start: float, end: float, *, cpu: bool = False, mark: bool = False):
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        device_type=DeviceType.CPU if cpu else DeviceType.CUDA,
        is_user_annotation=mark,
    )


def test_a_mark_over_kernels_is_not_a_kernel():
    events = [
        event("ProfilerStep#20", 0, 100, mark=True),
        event("Optimizer.step#AdamW.step", 60, 90, mark=True),
        event("aten::mm", 0, 50, cpu=True),
        event("sgemm_128x64_nn", 10, 20),
        event("elementwise_kernel", 15, 30),
        event("nvjet_tst_128x192", 80, 85),
    ]
    assert kernel_times(events) == (25, 15)


def test_devices_whose_kernels_are_not_seen_are_refused(tmp_path):
    callback = StepProfile(tmp_path, 3, tell=print)
    with pytest.raises(UserError, match=r"--profile 3: kernels of mps .*--device cpu or cuda"):
        callback.on_train_start(
            SimpleNamespace(max_steps=100, global_step=0),
            SimpleNamespace(device=torch.device("mps")),
        )


def test_a_run_that_is_profiled_leaves_a_trace_a_table_and_the_same_weights(
    make_config, store, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(module, "WARM_UP", 4)
    config = make_config(training={"accumulate": 2})
    for name, steps in (("plain", None), ("profiled", 3)):
        train(config, tmp_path / name, accelerator="cpu", profile=steps)
    weights = [
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("plain", "profiled")
    ]
    assert weights[0] == weights[1]
    folder = tmp_path / "profiled" / "profile"
    assert not (tmp_path / "plain" / "profile").exists()
    text = (folder / "operators.txt").read_text()
    assert text.startswith("profile: 3 steps of ")
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["aten::mm"])
    assert int(row[-1]) >= 3 * 2  # calls: of three steps with two batches each
    with gzip.open(folder / "trace.json.gz") as stream:
        marks = {e["name"] for e in json.load(stream)["traceEvents"] if "name" in e}
    assert {name for name in marks if name.startswith("ProfilerStep")} == {
        f"ProfilerStep#{k}" for k in (4, 5, 6)
    }
    said = capfd.readouterr().err
    assert "molbfn: profile: 3 steps of " in said
    assert "operators.txt and trace.json.gz beside it" in said


def test_more_steps_than_there_are_cannot_be_profiled(make_config, store, tmp_path):
    with pytest.raises(UserError, match=r"--profile 3: needs 20 steps before and has 10 in all"):
        train(make_config(), tmp_path / "run", accelerator="cpu", profile=3)


def test_a_run_that_ends_before_says_so(make_config, store, tmp_path, capfd):
    config = make_config(training={"steps": 40, "minutes": 1e-9})
    assert train(config, tmp_path / "run", accelerator="cpu", profile=3).out_of_time
    assert "--profile 3: the run ended before so many steps were taken" in capfd.readouterr().err
    assert not (tmp_path / "run" / "profile").exists()

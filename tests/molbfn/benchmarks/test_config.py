import pytest

from molbfn.benchmarks.config import BenchConfig
from molbfn.config_file import bundled_configs, parse_config
from molbfn.errors import UserError

CIFAR = {"data": {"kind": "cifar10"}, "flow": {"kind": "continuous"}}
TEXT = {"data": {"kind": "text8"}, "network": {"kind": "text_unet"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flow": {"kind": "continuous"}}, "flow.kind: mnist takes a discrete flow"),
        ({**CIFAR, "flow": {"kind": "discrete"}}, "takes a discretised or continuous flow"),
        (
            {**CIFAR, "flow": {"kind": "discretised", "std_limits": [1.0, 0.5]}},
            "the limits must be positive, the second above the first",
        ),
        ({"network": {"kind": "text_unet"}}, "network.kind: text_unet is not for mnist"),
        ({**TEXT, "network": {"kind": "patch_unet"}}, "patch_unet is not for text8"),
        ({"network": {"kind": "deep_unet"}}, "for mnist (patch_unet or binary_unet)"),
        ({**TEXT, "data": {"kind": "text8", "length": 30}}, "30 is no multiple of network.group"),
        ({**TEXT, "network": {"kind": "text_unet", "heads": 3}}, "heads (3) must divide"),
        (
            {
                "data": {"kind": "text8"},
                "flow": {"kind": "discrete", "residual": True},
                "network": {"kind": "text_unet", "prior": {"states": 100}},
            },
            "flow.residual: network.prior brings what is known of each character",
        ),
        ({"training": {"time_knots": [[0.5, 0.5], [0.4, 0.6]]}}, "must rise strictly"),
        ({"network": {"kind": "unet"}}, "unknown 'unet'"),
        ({"data": {"kind": "mnist", "bins": 3}}, "unknown key 'data.bins'"),
        ({"name": "../up"}, "'name'"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(UserError) as error:
        parse_config(BenchConfig, values, where="x.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("x.yaml: ")


def test_what_fits():
    assert parse_config(BenchConfig, CIFAR, where="x").flow.limit == 1.0
    assert parse_config(BenchConfig, TEXT, where="x").network.group == 4
    config = parse_config(BenchConfig, {}, where="x")
    assert set(config.model().model_dump()) < set(config.model_dump())


def test_benchmarks_are_not_experiments_on_molecules():
    assert "mnist_small" in bundled_configs("bench")
    assert "mnist_small" not in bundled_configs()

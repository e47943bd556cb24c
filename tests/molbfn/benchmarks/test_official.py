import hashlib
import os

import pytest
import torch

from molbfn.benchmarks.config import BenchConfig
from molbfn.benchmarks.model import build_network, load_bench_model
from molbfn.benchmarks.official import import_checkpoint
from molbfn.config_file import bundled_configs, read_config
from molbfn.errors import UserError

SHORT = {"text8": ["data.length=16"]}


@pytest.fixture
def published(tiny_config, tiny_model, tmp_path):
    """Return a config and a file of weights under the published names, with their buffers."""

    def make(name: str, **changes):
        config = tiny_config(name, *SHORT.get(name, []))
        network = tiny_model(name, *SHORT.get(name, [])).network
        weights = {f"net.{key}": value for key, value in network.state_dict().items()}
        if name == "text8":
            weights["net.input_adapter.pos_embedding"] = network.input_adapter.pos_embedding
        else:
            weights["net.input_adapter.pos_feats"] = torch.zeros(3)
        weights.update(changes)
        path = tmp_path / f"{name}_ema.pt"
        torch.save({k: w for k, w in weights.items() if w is not None}, path)
        return config, path, network

    return make


@pytest.mark.parametrize("name", ["mnist", "cifar10_256", "cifar10_continuous", "text8"])
def test_weights_find_their_places(published, name, tmp_path):
    config, path, network = published(name)
    model = import_checkpoint(config, path)
    for key, value in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)
    model.save(tmp_path / "m")
    provenance = load_bench_model(tmp_path / "m").info.provenance
    assert provenance["imported"] == path.name
    assert provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net.out.0.weight": None}, r"has no weight 'net\.out\.0\.weight'; is it for mnist\?"),
        ({"net.more": torch.zeros(1)}, r"'net\.more' has no place"),
        ({"out.0.bias": torch.zeros(32)}, r"both 'net\.out\.0\.bias' and 'out\.0\.bias'"),
        ({"net.out.0.bias": torch.zeros(5)}, r"has shape \(5,\), mnist needs \(32,\)"),
        ({"net.more": 3}, "not a state dict"),
        ({"net.more": torch.zeros(1).to_sparse()}, "not a state dict"),
        ({"net.more": torch.zeros(1, device="meta")}, "not a state dict"),
        (
            {"net.out.0.bias": torch.zeros(32).int()},
            r"'net\.out\.0\.bias' holds int32, expected re",
        ),
        ({"net.out.0.bias": torch.full((32,), torch.nan)}, r"'net\.out\.0\.bias' .*not finite"),
        ({"net.out.0.bias": torch.full((32,), -torch.inf)}, r"'net\.out\.0\.bias' .*not finite"),
        ({"net.out.0.bias": torch.full((32,), 1e300, dtype=torch.float64)}, r"not finite"),
    ],
)
def test_what_does_not_fit_is_named(published, changes, message):
    config, path, _ = published("mnist", **changes)
    with pytest.raises(UserError, match=message):
        import_checkpoint(config, path)


def test_names_are_text(published):
    config, path, _ = published("mnist")
    torch.save({7: torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not a state dict"):
        import_checkpoint(config, path)


def test_other_positions_are_seen(published):
    wrong = {"net.input_adapter.pos_embedding": torch.zeros(16, 16)}
    config, path, _ = published("text8", **wrong)
    with pytest.raises(UserError, match="pos_embedding' is not that"):
        import_checkpoint(config, path)


def test_files_that_only_their_names_tell_apart(published, tmp_path):
    config, path, _ = published("cifar10_256")
    other = path.rename(tmp_path / "cifar10_16d_ema.pt")
    with pytest.raises(UserError, match="this name is for cifar10_16, not cifar10_256; import it"):
        import_checkpoint(config, other)
    own = config.model_copy(update={"name": "mine"})
    assert import_checkpoint(own, other).info.config.name == "mine"


def test_a_flipped_bit_is_seen(published):
    config, path, network = published("mnist")
    content = bytearray(path.read_bytes())
    place = content.find(network.state_dict()["out.2.weight"].numpy().tobytes())
    content[place + 100] ^= 1
    path.write_bytes(content)
    assert place > 0
    assert isinstance(torch.load(path, weights_only=True), dict)  # torch does not see it
    with pytest.raises(UserError, match=r"damaged at mnist_ema/data/\d+; download it again"):
        import_checkpoint(config, path)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_file_never_runs_code(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"net.x": Harmful()}, tmp_path / "bad.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK")
    for name in ("bad.pt", "cut.pt"):
        with pytest.raises(UserError, match="not a file of weights"):
            import_checkpoint(tiny_config("mnist"), tmp_path / name)
    assert not (tmp_path / "harm").exists()
    with pytest.raises(UserError, match="no such file"):
        import_checkpoint(tiny_config("mnist"), tmp_path / "none.pt")


# SHA-256 (16 digits) of the sorted lines "name shape" of the published files, without buffers.
PUBLISHED = {
    "mnist": "e0da8432369332cb",
    "cifar10_256": "864932c3cb14dc1a",
    "text8": "16890454c20a435b",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_and_shape(name):
    config = read_config(BenchConfig, name, bundled=bundled_configs("bench"))
    with torch.device("meta"):
        own = build_network(config).state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in own.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == PUBLISHED[name]

from collections import Counter

import numpy as np
import pytest
import torch

from molbfn import load_model
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
from molbfn.generation import GenerationOptions, generate
from molbfn.generation import sampling as module
from molbfn.generation.plan import plan_sampling


def sample(model, n, *, seed=0, start=0, on_call=None, **options):
    options = GenerationOptions(**{"precision": "fp32", **options})
    molecules = generate(
        model, n, seed=seed, start=start, bonds=False, options=options, on_call=on_call
    )
    return list(molecules)


def assert_same_molecules(first, second):
    assert [m.properties["index"] for m in first] == [m.properties["index"] for m in second]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.atomic_numbers, b.atomic_numbers)
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-4)


@pytest.mark.parametrize(
    "sampler", [{}, {"sampler": "bayesian"}, {"sampler": "window", "window": 2}]
)
def test_the_batch_size_changes_nothing(tiny_model, sampler):
    automatic = sample(tiny_model, 20, **sampler)
    assert_same_molecules(automatic, sample(tiny_model, 20, batch_size=1, **sampler))
    assert_same_molecules(automatic, sample(tiny_model, 20, batch_size=7, **sampler))


def test_the_batch_size_changes_nothing_for_geobfns_network_and_charges(make_tiny_model):
    model = make_tiny_model(
        network={"kind": "egnn", "hidden": 8, "layers": 2, "charge_features": 4},
        elements={"kind": "discretised"},
    )
    assert_same_molecules(sample(model, 12), sample(model, 12, batch_size=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [None, {"kind": "egnn", "hidden": 8, "layers": 2}], ids=["transformer", "egnn"]
)
def test_compiling_changes_nothing(make_tiny_model, network):
    model = make_tiny_model(**({"network": network} if network else {}))
    plain = sample(model, 20)
    assert_same_molecules(plain, sample(model, 20, compile=True))
    with torch.compiler.set_stance("fail_on_recompile"):
        again = sample(model, 15, start=5, compile=True)
    assert_same_molecules(plain[5:], again)


def test_the_network_is_compiled_where_that_is_asked_for_and_once(make_tiny_model, monkeypatch):
    model, compiled = make_tiny_model(), []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda block, **options: compiled.append((block, options))
    )
    sample(model, 2)
    assert compiled == []
    sample(model, 2, compile=True)
    sample(model, 2, compile=True)
    options = {"dynamic": True, "mode": "default"}
    assert compiled == [(block, options) for block in model.network.blocks]


def test_how_many_are_asked_for_changes_nothing(tiny_model):
    many = sample(tiny_model, 20)
    assert_same_molecules(many[:5], sample(tiny_model, 5))
    assert_same_molecules(many[13:16], sample(tiny_model, 3, start=13))


def test_how_many_are_grouped_ahead_changes_nothing(tiny_model, monkeypatch):
    many = sample(tiny_model, 20)
    monkeypatch.setitem(module._AHEAD, "cpu", 3)
    assert_same_molecules(many, sample(tiny_model, 20))


@pytest.mark.parametrize("batch_size", ["auto", 1, 3])
def test_a_molecule_comes_as_soon_as_it_and_all_before_it_are_made(
    tiny_model, monkeypatch, batch_size
):
    made, yielded = [], []
    sample_batch = module._sample_batch

    def watched(model, plan, batch, *rest):
        ready = next(k for k in range(len(made) + 1) if k not in made)
        assert yielded == list(range(ready))
        made.extend(batch.indices)
        return sample_batch(model, plan, batch, *rest)

    monkeypatch.setattr(module, "_sample_batch", watched)
    options = GenerationOptions(steps=1, precision="fp32", batch_size=batch_size)
    for molecule in generate(tiny_model, 24, bonds=False, options=options):
        yielded.append(molecule.properties["index"])
    assert yielded == sorted(made) == list(range(24))
    if batch_size == 1:
        assert made == yielded


def test_stretches_are_of_some_batches(tiny_model, monkeypatch):
    def length(batch_size="auto"):
        plan = plan_sampling(tiny_model, GenerationOptions(steps=1, batch_size=batch_size))
        return module.stretch_length(tiny_model, plan)

    assert [length(size) for size in ("auto", 1, 5, 100)] == [256, 8, 40, 400]
    # where a batch of the median size holds three molecules
    middle = tiny_model.padded_size(plan_sampling(tiny_model, GenerationOptions()).sizes.at(0.5))
    monkeypatch.setitem(module._PAIRS, "cpu", 4 * middle**2 - 1)
    assert length() == 24
    monkeypatch.setitem(module._PAIRS, "cpu", 1)
    assert length() == 8


def test_seed_and_index_change_the_molecule(tiny_model):
    made = sample(tiny_model, 6, num_atoms=6) + sample(tiny_model, 6, seed=1, num_atoms=6)
    for k, first in enumerate(made):
        for second in made[:k]:
            assert np.abs(first.positions - second.positions).max() > 0.01


def test_no_noise_no_difference(tiny_model):
    first, second = sample(tiny_model, 2, temperature=0.0, num_atoms=6)
    np.testing.assert_allclose(first.positions, second.positions, atol=1e-5)


def test_sizes_follow_the_training_histogram(tiny_model):
    made = Counter(len(m) for m in sample(tiny_model, 600, steps=1))
    trained = tiny_model.info.sizes
    assert made.keys() == trained.keys()
    expected = {size: 600 * count / sum(trained.values()) for size, count in trained.items()}
    chi2 = sum((made[size] - expected[size]) ** 2 / expected[size] for size in trained)
    assert chi2 < 16.3  # 3 degrees of freedom, p = 0.001


def test_fixed_sizes_and_ranges(tiny_model):
    assert {len(m) for m in sample(tiny_model, 10, num_atoms=9)} == {9}
    assert {len(m) for m in sample(tiny_model, 60, num_atoms="6-10", steps=1)} == {6, 9}


def test_molecules_are_centred_in_angstrom_and_of_known_elements(tiny_model):
    for molecule in sample(tiny_model, 10):
        assert molecule.positions.dtype == np.float32
        np.testing.assert_allclose(molecule.positions.mean(0), 0, atol=1e-4)
        assert set(molecule.atomic_numbers.tolist()) <= {1, 6, 7, 8}


def test_the_network_works_in_its_own_units(make_tiny_model):
    """The same weights with another scale give the same molecule in other units."""
    small, large = (
        make_tiny_model(positions={"scale": scale}).generate(1, bonds=False, precision="fp32")[0]
        for scale in (1.0, 3.0)
    )
    np.testing.assert_allclose(3 * small.positions, large.positions, rtol=1e-4, atol=1e-5)


def test_properties_say_how_a_molecule_was_made(tiny_model):
    molecule = sample(tiny_model, 1, seed=5, start=7, steps=3)[0]
    assert molecule.title == "tiny-5-7"
    assert molecule.properties == {
        "model": "tiny", "seed": 5, "index": 7, "steps": 3, "network_calls": 4,
        "sampler": "renoise",
    }  # fmt: skip


@pytest.fixture(scope="module")
def bond_model(make_tiny_model):
    """Random weights that are large enough for all kinds of bonds and charges."""
    model = make_tiny_model(charges={}, bonds={})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.ndim == 2:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def test_generated_bonds_and_charges_are_the_molecules_own(bond_model):
    molecules = sample(bond_model, 20)
    orders, charges = Counter(), Counter()
    for molecule in molecules:
        assert molecule.properties["bond_route"] == "model"
        orders.update(molecule.bonds[:, 2].tolist())
        charges.update(molecule.formal_charges.tolist())
        mol = molecule.to_rdkit()
        assert mol.GetNumBonds() == len(molecule.bonds)
        assert [a.GetFormalCharge() for a in mol.GetAtoms()] == molecule.formal_charges.tolist()
    assert len(orders) > 1
    assert len(charges) > 1
    # perceived bonds would be others: nothing looks at the geometry
    for one, two in zip(molecules, generate(bond_model, 20, precision="fp32"), strict=True):
        np.testing.assert_array_equal(one.bonds, two.bonds)


def test_the_batch_size_changes_no_bonds(bond_model):
    for sampler in ("renoise", "bayesian"):
        automatic = sample(bond_model, 12, sampler=sampler)
        alone = sample(bond_model, 12, sampler=sampler, batch_size=1)
        assert_same_molecules(automatic, alone)
        for one, two in zip(automatic, alone, strict=True):
            np.testing.assert_array_equal(one.bonds, two.bonds)
            np.testing.assert_array_equal(one.formal_charges, two.formal_charges)


@pytest.mark.parametrize(
    ("numbers", "length", "order", "expected"),
    [
        ([6, 8], 1.20, 2, "same"),
        ([6, 8], 1.20, 1, "other orders"),
        ([6, 8], 2.50, 1, "different"),
        ([1, 17], 1.27, 1, "same"),
        ([5, 6], 1.57, 1, "different"),
        ([1, 11], 1.89, 1, "unknown"),
    ],
)
def test_the_record_says_whether_bonds_and_geometry_agree(numbers, length, order, expected):
    molecule = Molecule(
        np.array(numbers), np.array([[0, 0, 0], [0, 0, length]]), bonds=np.array([[0, 1, order]])
    )
    assert module.agreement(molecule) == expected


def test_calls_are_reported_with_the_size_of_their_batch(tiny_model):
    calls = []
    sample(tiny_model, 10, num_atoms=6, steps=3, batch_size=4, on_call=calls.append)
    assert calls == [3] * 4 + [3] * 4 + [4] * 4


def test_from_a_saved_model_to_rdkit(tiny_model_folder):
    molecules = load_model(tiny_model_folder).generate(3, seed=0)
    assert [m.properties["index"] for m in molecules] == [0, 1, 2]
    for molecule in molecules:
        assert molecule.properties["bond_route"] in {"rdkit", "table", "single"}
        mol = molecule.to_rdkit()
        assert mol.GetNumAtoms() == len(molecule)
        assert not any(atom.GetTotalNumHs() for atom in mol.GetAtoms())  # all are explicit
        assert mol.GetNumBonds() == len(molecule.bonds)
        assert mol.GetConformer().Is3D()


def test_coordinates_that_are_not_finite_are_kept_as_a_problem(make_tiny_model):
    model = make_tiny_model()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.fill_(float("nan"))
    molecules = sample(model, 2)
    assert [m.properties["problem"] for m in molecules] == ["coordinates not finite"] * 2
    assert all((m.positions == 0).all() for m in molecules)


def test_lack_of_memory_names_the_batch_size(make_tiny_model, monkeypatch):
    model = make_tiny_model()

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.network, "forward", full)
    with pytest.raises(UserError, match=r"--batch-size: 8 molecules of 6 atoms .* such as 2"):
        sample(model, 8, num_atoms=6)


def test_other_errors_of_torch_are_not_hidden(make_tiny_model, monkeypatch):
    model = make_tiny_model()

    def broken(*_, **__):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(model.network, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        sample(model, 1)


def test_options_are_checked_before_anything_is_made(tiny_model):
    with pytest.raises(UserError, match="-n 0"):
        generate(tiny_model, 0)
    with pytest.raises(UserError, match="--steps 0"):
        generate(tiny_model, 1, steps=0)
    with pytest.raises(UserError, match="start -1"):
        generate(tiny_model, 1, start=-1)
    with pytest.raises(TypeError, match="not both"):
        generate(tiny_model, 1, steps=2, options=GenerationOptions())


@pytest.mark.parametrize(("count", "limit"), [(1, 5), (5, 5), (6, 5), (48, 47), (100, 7)])
def test_parts_are_even_and_few(count, limit):
    parts = list(module._even_parts(range(count), limit))
    assert [item for part in parts for item in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= limit
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-count // limit)

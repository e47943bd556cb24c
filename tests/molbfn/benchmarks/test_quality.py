import math

import numpy as np
import pytest
import torch

from molbfn.benchmarks.model import load_data
from molbfn.benchmarks.quality import DATA, as_table, build_measure, calls_of, measure_quality


def test_rows_for_the_data_and_each_way_to_sample(tiny_model, here):
    model = tiny_model()
    data = load_data(model.info.config)
    measure = build_measure(model.info.config, data)
    shown = []
    found = measure_quality(
        model,
        data,
        measure,
        calls=[2, 3],
        samplers=["original", "ode1"],
        count=6,
        batch_size=4,
        progress=lambda *a: shown.append(a),
    )
    rows = list(found)
    assert [(row["sampler"], row["calls"]) for row in rows] == [
        (DATA, 0), ("original", 2), ("original", 3), ("ode1", 2), ("ode1", 3),
    ]  # fmt: skip
    assert all(row["frechet"] > 0 and row["samples"] == 6 for row in rows)
    assert all(row["errors"]["frechet"] > 0 for row in rows)
    # Both the data and the test part are noise here; a random network's samples are something else.
    assert shown[-1][:2] == (20, 20)
    assert [done for done, *_ in shown] == sorted(done for done, *_ in shown)


def test_text_is_judged_by_its_words(tiny_model, here):
    config = tiny_model("mnist_small").info.config.model_copy(
        update={"data": _text_config(), "flow": tiny_model().info.config.flow}
    )
    measure = build_measure(config, None)
    pytest.importorskip("spylls")
    text = torch.tensor([[0, 20, 8, 5, 0, 26, 26, 17, 0]])  # " the zzq "
    alone = measure(text)
    assert alone.figures["spelling"] == 0.5
    assert alone.figures["word_entropy"] == 1
    counts = np.array([3, 1, 1, 1, 2, 1]) / 9
    assert alone.figures["symbol_entropy"] == pytest.approx(-(counts * np.log2(counts)).sum())
    assert alone.errors == {}  # of one text there is none to be known
    alike = measure(text.expand(3, -1))
    assert alike.figures["spelling"] == 0.5
    assert alike.errors["spelling"] == 0


def _text_config():
    from molbfn.benchmarks.config import TextConfig

    return TextConfig(length=9)


def test_as_a_table():
    rows = [
        {"sampler": DATA, "calls": 0, "x": 9.0},
        {"sampler": "b", "calls": 20, "x": 1.0},
        {"sampler": "a", "calls": 10, "x": 2.0},
        {"sampler": "b", "calls": 10, "x": 3.0, "errors": {"x": 0.25}},
    ]
    table = as_table(rows, "x")
    assert calls_of(rows) == table.calls == [10, 20]
    assert table.names == ["b", "a"]
    assert table.figures[0].tolist() == [3.0, 1.0]
    assert table.figures[1, 0] == 2.0
    assert math.isnan(table.figures[1, 1])
    assert table.errors[0, 0] == 0.25
    assert np.isnan(table.errors).sum() == 3

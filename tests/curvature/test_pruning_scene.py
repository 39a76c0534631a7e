"""The network of the pruning scene has the gradients it says, and the scene's table is true."""

import numpy as np
import pytest

from ntsolve import demo

pytest.importorskip("sklearn")
from ntsolve.demo import _network, pruning


def loss(network, w, pixels, labels):
    """Cross-entropy of each example, written out."""
    a = pixels
    layers = list(network.layers(w))
    for number, (W, c) in enumerate(layers):
        a = a @ W + c
        if number < len(layers) - 1:
            a = np.where(a > 0, a, 0)
    return np.log(np.exp(a).sum(1)) - a[np.arange(len(labels)), labels]


def test_the_gradients_are_those_of_the_loss(rng):
    network = _network.Network((64, 5, 4, 10))
    data = _network.digits()
    pixels, labels = data.pixels[:7], data.labels[:7]
    w = network.start(rng) + 0.01 * rng.standard_normal(network.d)
    G = network.gradients(w, pixels, labels)
    assert G.shape == (7, network.d)
    assert G.dtype == np.float32
    np.testing.assert_allclose(G.mean(0), network.gradient(w, pixels, labels), atol=1e-6)
    for direction in rng.standard_normal((5, network.d)):
        step = 1e-6 * direction
        slope = (loss(network, w + step, pixels, labels) - loss(network, w - step, pixels, labels)) / 2e-6
        np.testing.assert_allclose(G @ direction, slope, rtol=1e-4, atol=1e-4)


def test_the_data_are_cut_in_two():
    data = _network.digits(3)
    assert len(data.labels) + len(data.held_out_labels) == 1797
    assert data.pixels.min() == 0
    assert data.pixels.max() == 1
    other = _network.digits(4)
    assert (data.held_out_labels != other.held_out_labels).any()


def test_the_table_is_true_and_the_picture_is_one(tmp_path):
    pytest.importorskip("matplotlib")
    said, picture = [], tmp_path / "pruning.png"
    table = pruning.run(demo.Options(quick=True, plot=picture, say=said.append))
    with pruning.one_blas_thread():  # bitwise the same only so
        task = pruning.task()
        methods = [method for method in pruning.METHODS if method.name in table.shares]
        answers = {method.name: [method.run(task, s) for s in table.sparsities] for method in methods}
    assert len(answers) == len(table.shares) == 2
    for name, found in answers.items():
        for sparsity, share, w in zip(table.sparsities, table.shares[name], found, strict=True):
            assert (w == 0).sum() >= round(sparsity * w.size)
            losses = np.stack([loss(task.network, w, task.held_out_pixels, np.full(600, digit)) for digit in range(10)])
            assert share == np.mean(losses.argmin(0) == task.held_out_labels)
            assert f"{100 * share:.1f}" in str(table)
    assert any("training" in line for line in said)
    assert picture.read_bytes().startswith(b"\x89PNG")

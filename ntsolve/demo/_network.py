"""A small classifier of handwritten digits in NumPy, on a flat array of weights: training, accuracy, and the gradient
of each example, which is what curvature is made of.

A perceptron with layers a_l = max(0, a_(l-1) W_l + c_l), the last one without the max, and cross-entropy on top.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from . import need


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1797 digits of 8 x 8 pixels in [0, 1], cut in two at random."""

    pixels: np.ndarray
    labels: np.ndarray
    held_out_pixels: np.ndarray
    held_out_labels: np.ndarray


def digits(seed=0, held_out=600):
    """The data; which of them are held out depends on the seed."""
    (datasets,) = need("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    pixels = pixels / 16
    order = np.random.default_rng(seed).permutation(labels.size)
    test, train = order[:held_out], order[held_out:]
    return Digits(pixels[train], labels[train], pixels[test], labels[test])


class Network:
    """Layers of the sizes given; `d` weights, the matrix and then the offsets of each layer in turn."""

    def __init__(self, sizes=(64, 32, 32, 10)):
        self.sizes = tuple(sizes)
        self.shapes = list(itertools.pairwise(self.sizes))
        self.d = sum((rows + 1) * columns for rows, columns in self.shapes)

    def start(self, rng):
        """Random weights, of a size that keeps the layers' outputs at that of the input."""
        parts = []
        for rows, columns in self.shapes:
            parts += [rng.standard_normal(rows * columns) * np.sqrt(2 / rows), np.zeros(columns)]
        return np.concatenate(parts)

    def layers(self, w):
        """(W, c) of each layer, as views of w."""
        at = 0
        for rows, columns in self.shapes:
            middle, end = at + rows * columns, at + (rows + 1) * columns
            yield w[at:middle].reshape(rows, columns), w[middle:end]
            at = end

    def forward(self, w, pixels):
        """What goes into each layer, and the logits."""
        inputs: list[np.ndarray] = []
        a = pixels
        for W, c in self.layers(w):
            a = np.maximum(a, 0) if inputs else a
            inputs.append(a)
            a = a @ W + c
        return inputs, a

    def accuracy(self, w, pixels, labels):
        """Share of examples whose largest logit is that of their label."""
        return float(np.mean(self.forward(w, pixels)[1].argmax(1) == labels))

    def backward(self, w, pixels, labels):
        """For each layer: what goes in (n, rows), and the loss's derivatives by what comes out (n, columns)."""
        inputs, logits = self.forward(w, pixels)
        delta = probabilities(logits)
        delta[np.arange(len(labels)), labels] -= 1
        found = []
        for (W, _), a in zip(reversed(list(self.layers(w))), reversed(inputs), strict=True):
            found.append((a, delta))
            delta = (delta @ W.T) * (a > 0)
        return found[::-1]

    def gradient(self, w, pixels, labels):
        """Of the mean loss; (d,)."""
        parts = []
        for a, delta in self.backward(w, pixels, labels):
            parts += [(a.T @ delta).ravel(), delta.sum(0)]
        return np.concatenate(parts) / len(labels)

    def gradients(self, w, pixels, labels):
        """Of the loss of each example; (n, d) in float32."""
        n = len(labels)
        G = np.empty((n, self.d), np.float32)
        at = 0
        for (a, delta), (rows, columns) in zip(self.backward(w, pixels, labels), self.shapes, strict=True):
            middle, end = at + rows * columns, at + (rows + 1) * columns
            G[:, at:middle] = np.einsum("ni,nj->nij", a, delta).reshape(n, -1)
            G[:, middle:end] = delta
            at = end
        return G

    def gauss_newton(self, w, pixels):
        """The product with the mean loss's Gauss-Newton matrix, mean_i J_i' (diag p_i - p_i p_i') J_i, as a function.

        J_i are the derivatives of the logits of example i by the weights, p_i its probabilities.
        """
        inputs, logits = self.forward(w, pixels)
        p, layers = probabilities(logits), [W.copy() for W, _ in self.layers(w)]

        def product(u):
            change = np.zeros_like(inputs[0])
            for W, a, (dW, dc) in zip(layers, inputs, self.layers(u), strict=True):
                change = (change * (a > 0)) @ W + a @ dW + dc  # of what comes out of the layer, for weights w + u
            delta = p * change
            delta -= p * delta.sum(1, keepdims=True)
            parts = []
            for W, a in zip(reversed(layers), reversed(inputs), strict=True):
                parts += [delta.sum(0), (a.T @ delta).ravel()]
                delta = (delta @ W.T) * (a > 0)
            return np.concatenate(parts[::-1]) / len(pixels)

        return product

    def train(self, pixels, labels, rng, *, epochs=60, batch=32, rate=2e-3):
        """Weights after some epochs of Adam, the rate falling to zero along a cosine."""
        w = self.start(rng)
        mean, square = np.zeros_like(w), np.zeros_like(w)
        n = len(labels)
        steps = epochs * (n // batch)
        for step in range(steps):
            at = step % (n // batch)
            if at == 0:
                order = rng.permutation(n)
            chosen = order[at * batch : (at + 1) * batch]
            g = self.gradient(w, pixels[chosen], labels[chosen])
            mean += 0.1 * (g - mean)
            square += 0.01 * (g * g - square)
            size = np.sqrt(square / (1 - 0.99 ** (step + 1))) + 1e-8
            w -= rate * 0.5 * (1 + np.cos(np.pi * step / steps)) * mean / (1 - 0.9 ** (step + 1)) / size
        return w


def probabilities(logits):
    """Softmax of each row."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)

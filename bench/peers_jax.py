"""The network in JAX: one compiled function for a step, with its update, and one for an answer.

python bench/peers_jax.py FOLDER PRECISION       reads orders, see peers_worker.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from peers_worker import BETA1, BETA2, EPSILON, RATE, UNSEEN, Engine, given, serve


def network(weights: list[Any], x: Any, kind: Any) -> Any:
    """From (n, rows, columns, 9) to (n, rows, columns) logits."""

    def convolve(x: Any, number: int) -> Any:
        kernel, bias = (array.astype(kind) for array in weights[2 * number : 2 * number + 2])
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias

    def pair(x: Any, number: int) -> Any:
        for each in (number, number + 1):
            x = jnp.maximum(convolve(x, each), 0)
        return x

    x, skips = x.astype(kind), []
    for number in (0, 2, 4):
        x = pair(x, number)
        skips.append(x)
        n, rows, columns, depth = x.shape
        x = x.reshape(n, rows // 2, 2, columns // 2, 2, depth).max((2, 4))
    x = pair(x, 6)
    for number in (8, 10, 12):
        doubled = x.repeat(2, 1).repeat(2, 2)
        x = pair(jnp.concatenate([doubled, skips.pop()], -1), number)
    return convolve(x, 14)[..., 0].astype(jnp.float32)


def main() -> None:
    folder, precision = Path(sys.argv[1]), sys.argv[2]
    data = given(folder)
    kind = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    fixed = [jnp.asarray(array) for array in data.weights]
    state: Any = ([jnp.array(array) for array in data.weights], *([jnp.zeros_like(a) for a in fixed] for _ in range(2)), 0)
    answer = jax.jit(lambda images: jax.nn.sigmoid(network(fixed, images, kind)))

    def loss(weights: list[Any], images: Any, classes: Any) -> Any:
        logits = network(weights, images, kind)
        seen, cloud = classes != UNSEEN, (classes == 1).astype(jnp.float32)
        entropy = jnp.maximum(logits, 0) - logits * cloud + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        return jnp.where(seen, entropy, 0).sum() / seen.sum()

    @jax.jit
    def advance(state: Any, images: Any, classes: Any) -> Any:
        """One step of Adam as Keras writes it."""
        weights, means, squares, done = state
        value, gradients = jax.value_and_grad(loss)(weights, images, classes)
        rate = RATE * jnp.sqrt(1 - BETA2 ** (done + 1.0)) / (1 - BETA1 ** (done + 1.0))
        means = [m + (g - m) * (1 - BETA1) for m, g in zip(means, gradients, strict=True)]
        squares = [s + (g * g - s) * (1 - BETA2) for s, g in zip(squares, gradients, strict=True)]
        weights = [w - rate * m / (jnp.sqrt(s) + EPSILON) for w, m, s in zip(weights, means, squares, strict=True)]
        return (weights, means, squares, done + 1), value

    def step(images: Any, classes: Any) -> float:
        nonlocal state
        state, value = advance(state, images, classes)
        return float(value)

    def product(size: int) -> Any:
        one, other = (jax.random.normal(jax.random.key(seed), (size, size)).astype(kind) for seed in range(2))
        multiply = jax.jit(jnp.matmul)
        return lambda: multiply(one, other).block_until_ready()

    predict = lambda images: np.asarray(answer(images))  # noqa: E731
    serve(folder, Engine(f"JAX {jax.__version__}", predict, step, product))


if __name__ == "__main__":
    main()

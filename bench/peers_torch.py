"""The network in PyTorch, as its users are told to write it for processors: channels last, compiled, fused Adam.

python bench/peers_torch.py FOLDER PRECISION       reads orders, see peers_worker.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers_worker import BETA1, BETA2, EPSILON, RATE, UNSEEN, Engine, given, layers, serve
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, max_pool2d, relu


class UNet(nn.Module):
    """From (n, 9, rows, columns) to (n, rows, columns) logits, with copied weights."""

    def __init__(self, weights: list[Any]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        for kernel, bias in layers(weights):
            rows, _, into, out = kernel.shape
            convolution = nn.Conv2d(into, out, rows, padding=rows // 2)
            convolution.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            convolution.bias.data = torch.from_numpy(bias.copy())
            self.convolutions.append(convolution)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *convolutions, last = self.convolutions
        pairs = list(zip(convolutions[::2], convolutions[1::2], strict=True))
        skips = []
        for one, two in pairs[:3]:
            x = relu(two(relu(one(x))))
            skips.append(x)
            x = max_pool2d(x, 2)
        one, two = pairs[3]
        x = relu(two(relu(one(x))))
        for one, two in pairs[4:]:
            x = torch.cat([interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], 1)
            x = relu(two(relu(one(x))))
        return last(x)[:, 0].float()


def main() -> None:
    folder, precision = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(1)
    data = given(folder)
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    trained = UNet(data.weights).to(memory_format=torch.channels_last)
    fixed = UNet(data.weights).to(memory_format=torch.channels_last).eval()
    compiled = torch.compile(trained)
    # What a user who only infers sets: weights become constants, laid out for the processor once. It acts when a shape is
    # first seen, and has no effect on what is trained.
    answering = torch.compile(fixed, dynamic=False)
    optimizer = torch.optim.Adam(trained.parameters(), RATE, (BETA1, BETA2), fused=True)
    done = 0

    def tensor(images: Any) -> torch.Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2)  # its memory is channels last already

    def predict(images: Any) -> Any:
        torch._inductor.config.freezing = True
        with torch.no_grad(), half:
            chance = torch.sigmoid(answering(tensor(images))).numpy()
        torch._inductor.config.freezing = False
        return chance

    def step(images: Any, classes: Any) -> float:
        nonlocal done
        done += 1
        # Keras adds its epsilon before the second moment is corrected for its start at zero, and PyTorch behind.
        optimizer.param_groups[0]["eps"] = EPSILON / (1 - BETA2**done) ** 0.5
        optimizer.zero_grad()
        known = torch.from_numpy(classes)
        seen, cloud = (known != UNSEEN).float(), (known == 1).float()
        with half:
            logits = compiled(tensor(images))
        loss = binary_cross_entropy_with_logits(logits, cloud, seen, reduction="sum") / seen.sum()
        loss.backward()
        optimizer.step()
        return float(loss)

    def product(size: int) -> Any:
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        one, other = (torch.randn(size, size).to(kind) for _ in range(2))
        answer = torch.empty(size, size, dtype=kind)
        return lambda: torch.matmul(one, other, out=answer)

    capability = torch.backends.cpu.get_cpu_capability()
    serve(folder, Engine(f"PyTorch {torch.__version__} ({capability})", predict, step, product))


if __name__ == "__main__":
    np.seterr(all="raise")
    main()

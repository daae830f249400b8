"""The bench against other engines: what it refuses to measure, how it counts arithmetic, and that make starts it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from network import by_hand, reference_weights


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_peers", ROOT / "bench/peers.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Counted:
    """A kernel whose products with a field count their operations: a product and a sum for each of its numbers."""

    __array_ufunc__ = None  # NumPy leaves the product to it
    operations = 0

    def __init__(self, values: Any) -> None:
        self.values, self.shape = values, values.shape

    def __getitem__(self, key: Any) -> Counted:
        return Counted(self.values[key])

    def astype(self, kind: Any) -> Counted:
        return self

    def __rmatmul__(self, field: Any) -> Any:
        Counted.operations += 2 * field[..., 0].size * self.values.size
        return field @ self.values


def test_operations_are_those_that_the_network_by_hand_takes(peers: ModuleType) -> None:
    weights: list[Any] = reference_weights(1)
    weights[::2] = map(Counted, weights[::2])
    Counted.operations = 0
    by_hand(weights, np.ones((16, 24, 9)))
    assert peers.flops(16, 24) == Counted.operations


def test_operations_of_training_are_three_times_as_many_but_for_the_first_input(peers: ModuleType) -> None:
    # 8 x 8 pixels; by level, those times the products of a tap, 9 taps of 2 operations, and the last layer.
    forward = 18 * (64 * (1312 + 4096) + 16 * (6144 + 16384) + 4 * (24576 + 65536) + 98304) + 2 * 32 * 64
    assert peers.flops(8, 8) == forward == 20_979_712
    assert peers.flops(8, 8, training=True) == 3 * forward - 2 * 9 * 9 * 32 * 64


def test_operations_of_the_kits_form_are_a_fifth_fewer(peers: ModuleType) -> None:
    # Of the 9 taps of the three convolutions that read a doubled field, 5 are saved: pixels times channels into and out of.
    saved = 2 * 5 * (32 * 256 * 128 + 128 * 128 * 64 + 512 * 64 * 32)
    assert peers.flops(16, 32) - peers.flops(16, 32, fused=True) == saved
    assert peers.flops(256, 256, fused=True) / peers.flops(256, 256) == pytest.approx(0.8126, abs=1e-4)


def answers(weights: list[Any]) -> dict[str, Any]:
    field = np.random.default_rng(1).normal(0, 0.3, (16, 16, 9))
    return {"patches": by_hand(weights, field)[None], "losses": np.array([0.7, 0.6])}


def test_equal_answers_are_taken(peers: ModuleType) -> None:
    expected = answers(reference_weights(1))
    noisy = {name: value * (1 + 2e-5) for name, value in expected.items()}
    apart = peers.agreement("X", "float32", expected, noisy)
    assert set(apart) == {"patches", "losses"}
    assert 0 < max(apart.values()) < 1e-4
    assert set(peers.agreement("X", "float32", expected, {"patches": noisy["patches"]})) == {"patches"}  # infers only


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_engine_with_another_network_is_refused(peers: ModuleType, precision: str) -> None:
    """Other weights; the same with the channels of the decoder joined in the other order; other losses; no numbers."""
    expected = answers(reference_weights(1))
    swapped = reference_weights(1)
    swapped[16] = np.roll(swapped[16], 128, axis=2)  # the skip before the upsampled field
    wrong = [
        answers(reference_weights(2)),
        answers(swapped),
        expected | {"losses": expected["losses"] * [1, 1.1]},
        expected | {"patches": expected["patches"] * np.nan},
        expected | {"patches": expected["patches"][:, :8]},
        {},
    ]
    for found in wrong:
        with pytest.raises(SystemExit, match=f"X in {precision} does not answer as the kit does"):
            peers.agreement("X", precision, expected, found)


def test_what_bfloat16_may_differ_by_is_too_much_in_single_precision(peers: ModuleType) -> None:
    expected = answers(reference_weights(1))
    rough = expected | {"patches": expected["patches"] + 0.01}
    peers.agreement("X", "bfloat16", expected, rough)
    with pytest.raises(SystemExit, match=r"patches by 0\.01"):
        peers.agreement("X", "float32", expected, rough)


def test_rates_and_shares_follow_from_seconds(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "STEPS", 2)
    monkeypatch.setattr(peers, "BATCH", 4)
    facts = {name: {"version": name, "apart": {}} for name in ("kit", "Other")}
    slow, fast = {"infer patches": (4.0, 8.0), "train": (16.0, 30.0)}, {"infer patches": (2.0, 4.0)}
    found = peers.summary([{"kit": slow, "Other": fast}] * 3, facts, peak=4.0 * peers.flops(256, 256))
    assert set(found["Other"]) == {"version", "apart", "infer patches"}
    infer = found["Other"]["infer patches"]
    assert (infer["patches_per_second"], infer["processor_seconds_per_patch"], infer["kit_against_it"]) == (4.0, 0.5, 0.5)
    assert infer["kit_against_it_processor"] == 0.5
    assert infer["share"] == infer["share_executed"] == pytest.approx(2.0 / 4.0)
    operations = [peers.flops(256, 256, True, fused) / peers.flops(256, 256) for fused in (False, True)]
    kit = found["kit"]["train"]
    assert [kit["share"], kit["share_executed"]] == pytest.approx([8 / 30 * each / 4.0 for each in operations])


@pytest.mark.parametrize(("words", "script"), [((), "cloudmask"), (("PEERS=1",), "peers")])
def test_make_starts_the_bench_that_was_asked_for(words: tuple[str, ...], script: str) -> None:
    command = ["make", "--no-print-directory", "--dry-run", "bench/cloudmask", *words]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-1] == f".venv/bin/python bench/{script}.py"


def test_a_worker_answers_orders_and_keeps_what_libraries_print_out(tmp_path: Path) -> None:
    images = np.zeros((1, 8, 8, 9), np.float32)
    np.savez(tmp_path / "given.npz", images=images, classes=images[..., 0].astype(np.uint8), scene=images)
    np.savez(tmp_path / "weights.npz", *reference_weights(1))
    script = """
import sys
from pathlib import Path
from peers_worker import Engine, serve

def predict(images):
    print("a library says hello")
    return images[..., 0]

serve(Path(sys.argv[1]), Engine("none", predict, lambda images, classes: 0.5))
"""
    orders = [{"do": "facts"}, {"do": "answers", "to": str(tmp_path / "a.npz")}, {"do": "infer", "times": 2}]
    command = [sys.executable, "-c", script, str(tmp_path)]
    lines = "".join(json.dumps(order) + "\n" for order in orders)
    environment = {"PYTHONPATH": str(ROOT / "bench")}
    ran = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True, check=True)
    facts, done, seconds = map(json.loads, ran.stdout.splitlines())
    assert facts == {"version": "none", "trains": True, "multiplies": False}
    assert done == {}
    assert len(seconds) == 2
    with np.load(tmp_path / "a.npz") as file:
        assert file["losses"].tolist() == [0.5] * 4
        assert file["patches"].shape == (1, 8, 8)

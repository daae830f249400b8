"""What the jobs that RELION composes are given, and the memory that real ones ask of a node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import kit

from kit.benchmark import load_benchmark
from kit.benchmarks.relion import phantom
from kit.benchmarks.relion.resources import memory
from kit.benchmarks.relion.workflow import compose
from kit.images.render import load_image
from kit.placement import Placement
from kit.runtimes import RUNTIMES

ONE_NODE = Placement(nodes=1, ranks=3, ranks_per_node=3, threads=1, cores=2)


def test_the_script_says_what_jobs_are_given(tmp_path: Path) -> None:
    """A site with GPUs and disks in its nodes, and too little memory for boxes of 512 pixels."""
    text = Path("kit/sites/example-slurm.toml").read_text()
    text = text.replace("memory_gb = 256", 'memory_gb = 48\ngpus = 4\nscratch = "/local"')
    (tmp_path / "gpu.toml").write_text(text)
    words = ["run", "relion", "--size", "aldolase", "--site", str(tmp_path / "gpu.toml"), "--dry-run", "--ranks", "17"]
    script = kit(*words).stdout
    assert "--gpus-per-node" not in script  # the image computes on CPUs
    assert "# WARNING: the 4 GPUs of a node are not used" in script
    assert "--bind /local" in script
    assert "--scratch_dir /local/kit-RUN " in script
    # A box of 512, padded twice: 0.54 thousand million coefficients of 80 bytes for each of 5 ranks.
    assert "# WARNING: stage refine3d_full: about 215 GB of memory a node are needed, and it has 48" in script
    assert "# 17 ranks x 4 threads, about 215.2 GB of memory a node in its last iteration, particles copied" in script
    fewer = kit(*words[:-1], "3", "--nodes", "1", "--threads", "8").stdout
    assert "# 3 ranks x 8 threads, about 129.1 GB" in fewer
    assert "# 1 node x 3 ranks x 8 threads = 24 of 64 cores" in fewer


def test_too_few_ranks_are_refused() -> None:
    said = kit("run", "relion", "--dry-run", "--ranks", "2", code=1).stderr
    assert "job refine3d: 2 ranks are given, but its halves need two and a third to lead them (--ranks)" in said
    assert (
        "--ranks 0 needs a benchmark with a leading rank"
        in kit("run", "cloudmask", "--dry-run", "--ranks", "0", code=1).stderr
    )


def test_the_box_is_known_through_the_whole_chain(tmp_path: Path) -> None:
    """What Polish writes has the box of what it was given; its first input, micrographs, has none."""
    numbers = {**load_benchmark("relion").sizes["tiny"].parameters, "acceleration": "", "random_seed": 1}
    image = load_image("relion-basic")
    stages = {s.name: s.memory_gb for s in compose("generated", tmp_path, image, "apptainer", ONE_NODE, numbers)}
    assert stages["refine3d_polished"] == stages["refine3d"] > 0.2
    assert memory("class3d", {}, 0, 1, ONE_NODE) == 0  # unknown is not nothing
    assert stages["import"] == 0


def test_memory_is_that_of_real_runs(tmp_path: Path) -> None:
    """The largest resident size of real RELION with images that are used up to their Nyquist frequency."""
    (tmp_path / "data").mkdir()
    box = 96
    phantom.generate(tmp_path / "data", phantom.Settings(particles=6, box=box, pixel_size=340 / box, ssnr_one=8.0))
    container = RUNTIMES["apptainer"].command(load_image("relion-basic"), [str(tmp_path)], {}, [], str(tmp_path))
    job = "--ref data/truth_80S.mrc --iter 1 --K 3 --tau2_fudge 1000 --healpix_order 0 --offset_range 1 --offset_step 1 "
    job += "--ctf --particle_diameter 310 --zero_mask --oversampling 0 --norm --scale --ini_high 0 --pad 2 --random_seed 1"
    (tmp_path / "out").mkdir()
    words = [*container, "relion_refine", "--i", "data/particles.star", "--o", "out/run", *job.split()]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        log = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
    assert status == 0, log
    expected = memory("class3d", {"nr_classes": "3"}, box, 1, ONE_NODE)
    assert used.ru_maxrss * 1024 / 1e9 == pytest.approx(expected, rel=0.4)
    assert used.ru_maxrss * 1024 / 1e9 < 1.1 * expected
    assert memory("class3d", {"nr_classes": "3", "do_pad1": "Yes"}, box, 1, ONE_NODE) < 0.3 * expected
    assert memory("extract", {}, box, 1, ONE_NODE) == 0

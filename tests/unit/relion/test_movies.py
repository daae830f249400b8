"""Generated movies hold what their truth says, and results are matched to it."""

from __future__ import annotations

import time
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from synthetic import MOVIES

from kit.benchmarks.relion import accuracy, movies, phantom
from kit.core.checksums import manifest


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        movies.generate(tmp_path / name, movies.Settings(micrographs=1, size=400, particles=2, frames=3))
        time.sleep(1)  # what writes a map puts the time into its header, in seconds
    assert manifest(tmp_path / "one") == manifest(tmp_path / "two")


def test_dose_is_what_the_settings_say(session: Path) -> None:
    """Electrons per square angstrom in each frame, after the gain; particles scatter none away."""
    gain = mrcfile.open(session / "gain.mrc").data
    for number in range(MOVIES.micrographs):
        movie = mrcfile.open(session / f"movies/micrograph{number + 1:02d}.mrcs").data
        dose = (movie * gain).mean(axis=(1, 2)) / MOVIES.pixel_size**2
        assert dose == pytest.approx(np.full(MOVIES.frames, MOVIES.dose), rel=0.02)


def test_particles_are_where_the_truth_says(session: Path) -> None:
    """Protein is dark: around the truth, less arrives than in the whole frame."""
    gain = mrcfile.open(session / "gain.mrc").data
    truth = accuracy.Truth.read(session)
    drift, places = truth.drift("micrograph01"), truth.positions("micrograph01")
    movie = mrcfile.open(session / "movies/micrograph01.mrcs").data * gain
    half = 30
    around = []
    for x, y in places:
        path = drift.at(x / MOVIES.size - 0.5, y / MOVIES.size - 0.5) / MOVIES.pixel_size
        for frame, (dx, dy) in zip(movie, path, strict=True):
            i, j = round(y + dy), round(x + dx)
            around.append(frame[max(i - half, 0) : i + half, max(j - half, 0) : j + half].mean())
    assert np.mean(around) < movie.mean() * 0.99


def test_particles_keep_their_distance(session: Path) -> None:
    places = accuracy.Truth.read(session).positions("micrograph01")
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(places))
    assert distance.min() * MOVIES.pixel_size >= MOVIES.spacing


def test_too_many_particles_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"50 particles 310 angstrom apart do not fit into 400 pixels"):
        movies.generate(tmp_path, movies.Settings(size=400, particles=50))


def test_damage_fades_high_frequencies_first() -> None:
    k = np.array([0.0, 0.02, 0.1])
    left = movies.damage(k, 20.0)
    assert left[0] == 1
    assert left[0] > left[1] > left[2]
    # Grant & Grigorieff: at 1/10 angstrom the amplitude falls to 1/e after twice the critical exposure.
    assert movies.damage(np.array([0.1]), 2 * (0.245 * 0.1**-1.665 + 2.81))[0] == pytest.approx(np.exp(-1))


def test_astigmatism_is_the_same_whichever_axis_is_first() -> None:
    one, two = accuracy.Astigmatism.of(15000, 14000, 30), accuracy.Astigmatism.of(14000, 15000, 120)
    assert accuracy.defocus_error(one, two) == pytest.approx((0, 0), abs=1e-9)
    assert accuracy.defocus_error(one, accuracy.Astigmatism.of(15000, 14000, 120))[1] == pytest.approx(1000)


def test_particles_are_matched_to_the_truth(session: Path, tmp_path: Path) -> None:
    """By the place they were cut out at, less their origin; what is no particle is left out."""
    truth = accuracy.Truth.read(session)
    rows = truth.particles.head(10)[::-1].drop(columns="stem").reset_index(drop=True)
    shift = 5.0  # pixels
    rows["rlnCoordinateX"] += shift
    rows["rlnOriginXAngst"], rows["rlnOriginYAngst"] = shift * truth.pixel_size, 0.0
    rows.loc[0, "rlnCoordinateY"] -= 10 * truth.radius
    phantom.write_star(tmp_path / "data.star", {"particles": rows})
    matched = truth.match(tmp_path / "data.star")
    assert len(matched) == 9
    assert (matched["rlnClassNumber"] == matched["rlnClassNumberTrue"]).all()
    assert matched["rlnAngleRot"].to_numpy() == pytest.approx(matched["rlnAngleRotTrue"].to_numpy())
    assert accuracy.particle_defocus(matched) == 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_poses_are_compared_up_to_rotation_and_hand(mirrored: bool) -> None:
    """Poses in the frame of a map that is turned, and of the other hand, with 3 degrees of error and a third all wrong."""
    rng = np.random.default_rng(3)
    true, wrong = Rotation.random(90, rng=rng), Rotation.random(30, rng=rng)
    noise = Rotation.from_rotvec(np.deg2rad(3) * directions(rng, 90))
    frame = Rotation.from_euler("ZYZ", [40, 70, 20], degrees=True)
    found = Rotation.concatenate([(noise * true)[:60] * frame, wrong])
    if mirrored:
        found = Rotation.from_euler("z", 180, degrees=True) * found
    table = {}
    for end, poses in (("", found), ("True", true)):
        # The inverse of phantom.euler_matrices.
        for name, angle in zip(("Rot", "Tilt", "Psi"), poses.inv().as_euler("ZYZ", degrees=True).T, strict=True):
            table[f"rlnAngle{name}{end}"] = angle
    result = accuracy.pose_error(pd.DataFrame(table))
    assert result["error"] == pytest.approx(3, abs=0.5)
    assert result["mirrored"] == mirrored


def directions(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1)[:, None])


def test_picks_are_matched_one_to_one() -> None:
    true = np.array([[10.0, 10.0], [100.0, 100.0], [200.0, 50.0]])
    found = np.array([[11.0, 10.0], [10.0, 11.0], [103.0, 100.0], [300.0, 300.0]])
    picks = accuracy.match_picks(found, true, radius=5)
    assert (picks.found, picks.true, picks.matched) == (4, 3, 2)
    assert (picks.precision, picks.recall) == (0.5, pytest.approx(2 / 3))
    nothing = accuracy.match_picks(np.empty((0, 2)), true, radius=5)
    assert (nothing.precision, nothing.recall, nothing.f1) == (0, 0, 0)

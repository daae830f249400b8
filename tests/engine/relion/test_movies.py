"""Generated movies, and what real RELION and CTFFIND make of them: each stage is held against its own truth."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from conftest import in_docker
from scipy.spatial.transform import Rotation

from kit.benchmarks.relion import accuracy, movies, phantom
from kit.benchmarks.relion.movies import Drift
from kit.core.errors import KitError

SETTINGS = movies.Settings(micrographs=2)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    movies.generate(folder, SETTINGS)
    return folder


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        movies.generate(tmp_path / name, movies.Settings(micrographs=1, size=400, particles=2, frames=3))
    for path in ("truth.star", "truth.json"):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    stacks = [mrcfile.open(tmp_path / name / "movies/micrograph01.mrcs").data for name in ("one", "two")]
    assert np.array_equal(*stacks)


def test_dose_is_what_the_settings_say(session: Path) -> None:
    """Electrons per square angstrom in each frame, after the gain; particles scatter none away."""
    gain = mrcfile.open(session / "gain.mrc").data
    for number in range(SETTINGS.micrographs):
        movie = mrcfile.open(session / f"movies/micrograph{number + 1:02d}.mrcs").data
        dose = (movie * gain).mean(axis=(1, 2)) / SETTINGS.pixel_size**2
        assert dose == pytest.approx(np.full(SETTINGS.frames, SETTINGS.dose), rel=0.02)


def test_particles_are_where_the_truth_says(session: Path) -> None:
    """Protein is dark: around the truth, less arrives than in the whole frame."""
    gain = mrcfile.open(session / "gain.mrc").data
    truth = accuracy.Truth.read(session)
    drift, places = truth.drift("micrograph01"), truth.positions("micrograph01")
    movie = mrcfile.open(session / "movies/micrograph01.mrcs").data * gain
    half = 30
    around = []
    for x, y in places:
        path = drift.at(x / SETTINGS.size - 0.5, y / SETTINGS.size - 0.5) / SETTINGS.pixel_size
        for frame, (dx, dy) in zip(movie, path, strict=True):
            i, j = round(y + dy), round(x + dx)
            around.append(frame[max(i - half, 0) : i + half, max(j - half, 0) : j + half].mean())
    assert np.mean(around) < movie.mean() * 0.99


def test_particles_keep_their_distance(session: Path) -> None:
    places = accuracy.Truth.read(session).positions("micrograph01")
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(places))
    assert distance.min() * SETTINGS.pixel_size >= SETTINGS.spacing


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


@pytest.fixture(scope="module")
def processed(session: Path) -> Path:
    """The session after Import, MotionCorr, CtfFind and AutoPick of real RELION."""
    script = f"""set -e
mkdir -p Import/job001 MotionCorr/job002 CtfFind/job003 AutoPick/job004
relion_import --do_movies --optics_group_name opticsGroup1 --angpix {SETTINGS.pixel_size} --kV {SETTINGS.voltage} \\
    --Cs {SETTINGS.cs} --Q0 {SETTINGS.amplitude_contrast} --beamtilt_x 0 --beamtilt_y 0 --i "movies/*.mrcs" \\
    --odir Import/job001/ --ofile movies.star
relion_run_motioncorr --i Import/job001/movies.star --o MotionCorr/job002/ --use_own --j 2 --bin_factor 1 --bfactor 150 \\
    --first_frame_sum 1 --last_frame_sum -1 --dose_per_frame {SETTINGS.dose} --preexposure 0 --patch_x 1 --patch_y 1 \\
    --gainref gain.mrc --gain_rot 0 --gain_flip 0 --dose_weighting --save_noDW
relion_run_ctffind --i MotionCorr/job002/corrected_micrographs.star --o CtfFind/job003/ --use_noDW --is_ctffind4 \\
    --ctffind_exe /usr/local/bin/ctffind --ctfWin -1 --fast_search --Box 256 --ResMin 50 --ResMax 8 --dFMin 5000 \\
    --dFMax 40000 --FStep 250 --dAst 400
relion_autopick --i CtfFind/job003/micrographs_ctf.star --odir AutoPick/job004/ --pickname autopick --LoG \\
    --LoG_diam_min 200 --LoG_diam_max 300 --LoG_adjust_threshold 0 --shrink 0 --lowpass 20
"""
    in_docker("relion-basic", script, session)
    return session


def test_motioncorr_finds_the_drift(processed: Path) -> None:
    truth = accuracy.Truth.read(processed)
    found = accuracy.drifts(processed, "MotionCorr/job002/", truth)
    assert found["error"] < 0.5
    for stem in truth.micrographs:
        drift = truth.drift(stem)
        still = Drift(drift.coefficients * 0, drift.course)
        star = processed / f"MotionCorr/job002/movies/{stem}.star"
        assert accuracy.drift_error(star, still, SETTINGS.pixel_size) > 0.5


def test_ctffind_finds_the_defocus(processed: Path) -> None:
    found = accuracy.defocus(processed, "CtfFind/job003/", accuracy.Truth.read(processed))
    assert found["micrographs"] == SETTINGS.micrographs
    assert found["error"] < 200
    assert found["astigmatism_error"] < 200


def test_astigmatism_is_the_same_whichever_axis_is_first() -> None:
    one, two = accuracy.Astigmatism.of(15000, 14000, 30), accuracy.Astigmatism.of(14000, 15000, 120)
    assert accuracy.defocus_error(one, two) == pytest.approx((0, 0), abs=1e-9)
    assert accuracy.defocus_error(one, accuracy.Astigmatism.of(15000, 14000, 120))[1] == pytest.approx(1000)


def test_autopick_finds_the_particles(processed: Path) -> None:
    found = accuracy.picks(processed, "AutoPick/job004/", accuracy.Truth.read(processed))
    assert found["f1"] > 0.9
    assert found["centre_error"] < 15


def test_a_micrograph_that_was_left_out_is_said(processed: Path) -> None:
    with pytest.raises(KitError, match=r"AutoPick/job005: no micrograph01_autopick.star; the job wrote nothing for this"):
        accuracy.picks(processed, "AutoPick/job005/", accuracy.Truth.read(processed))


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

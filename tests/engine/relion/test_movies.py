"""What real RELION and CTFFIND make of generated movies: each stage is held against its own truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import in_docker
from synthetic import MOVIES

from kit.benchmarks.relion import accuracy
from kit.benchmarks.relion.movies import Drift
from kit.core.errors import KitError


@pytest.fixture(scope="module")
def processed(session: Path) -> Path:
    """The session after Import, MotionCorr, CtfFind and AutoPick of real RELION."""
    script = f"""set -e
mkdir -p Import/job001 MotionCorr/job002 CtfFind/job003 AutoPick/job004
relion_import --do_movies --optics_group_name opticsGroup1 --angpix {MOVIES.pixel_size} --kV {MOVIES.voltage} \\
    --Cs {MOVIES.cs} --Q0 {MOVIES.amplitude_contrast} --beamtilt_x 0 --beamtilt_y 0 --i "movies/*.mrcs" \\
    --odir Import/job001/ --ofile movies.star
relion_run_motioncorr --i Import/job001/movies.star --o MotionCorr/job002/ --use_own --j 2 --bin_factor 1 --bfactor 150 \\
    --first_frame_sum 1 --last_frame_sum -1 --dose_per_frame {MOVIES.dose} --preexposure 0 --patch_x 1 --patch_y 1 \\
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
        assert accuracy.drift_error(star, still, MOVIES.pixel_size) > 0.5


def test_ctffind_finds_the_defocus(processed: Path) -> None:
    found = accuracy.defocus(processed, "CtfFind/job003/", accuracy.Truth.read(processed))
    assert found["micrographs"] == MOVIES.micrographs
    assert found["error"] < 200
    assert found["astigmatism_error"] < 200


def test_autopick_finds_the_particles(processed: Path) -> None:
    found = accuracy.picks(processed, "AutoPick/job004/", accuracy.Truth.read(processed))
    assert found["f1"] > 0.9
    assert found["centre_error"] < 15


def test_a_micrograph_that_was_left_out_is_said(processed: Path) -> None:
    with pytest.raises(KitError, match=r"AutoPick/job005: no micrograph01_autopick.star; the job wrote nothing for this"):
        accuracy.picks(processed, "AutoPick/job005/", accuracy.Truth.read(processed))

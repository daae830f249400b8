"""Synthetic Sentinel-3 SLSTR scenes with a known cloud mask, written as products (`writing.py`).

Beside the products stand truth.h5 with what no product has, the optical thickness of the cloud and the true mask, and
matchups.csv, sea-surface temperatures of buoys and of the satellite whose true difference is known.

Physics, simple but of the right kind:

* Cloud: four layers (fog, broken low cloud, middle cloud, cirrus) of log-normal optical thickness with power-law spectra.
  The true mask is total optical thickness above `CLOUD_TAU`.
* Reflectance over a surface albedo `Rs`: `R = A + T^2 Rs / (1 - A Rs)`, `A = (1-g) tau / (2 + (1-g) tau)`, `T = 1 - A`,
  g = 0.85 (two-stream, conservative scattering). Ice absorbs at 1.6 and 2.25 um. S4 (1.375 um) sees only high cloud.
* Surface: sea with sun glint, land, and snow or ice, which is bright and cold as cloud is, but dark at 1.6 um.
* Radiance: `L = R E0 cos(SZA) / pi`, divided by the vicarious gain where the product's baseline lacks it.
* Brightness temperature: Planck radiances of surface and cloud tops mixed with emissivity `1 - exp(-tau / 2)`.
* The Bayesian mask of the product is not the truth: pixels of thin cloud and of cloud edges are wrong at a given rate,
  so that no mask can agree with it better than that.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.benchmarks.cloudmask import writing
from kit.stages.cloudmask import products
from kit.stages.cloudmask.matchups import COLUMNS, RETRIEVALS
from kit.stages.cloudmask.products import IRRADIANCE, SOLAR, THERMAL, WAVELENGTH

Array = NDArray[np.floating]

CLOUD_TAU = 0.3  # optical thickness above which a pixel is cloud
THICKEST = 150.0
EDGE = 0.5  # standard deviations of the field over which cloud grows from CLOUD_TAU to its typical thickness
ASYMMETRY = 0.85
ALBEDO = {  # typical spectral albedos of S1..S6
    "sea": (0.05, 0.04, 0.03, 0.0, 0.02, 0.02),
    "land": (0.09, 0.10, 0.32, 0.0, 0.26, 0.16),
    "ice": (0.85, 0.83, 0.75, 0.0, 0.12, 0.08),
}
ICE_ABSORPTION = {5: 0.45, 6: 0.35}  # reflectance of ice cloud relative to water cloud
NOISE = {"reflectance": 0.004, 7: 0.08, 8: 0.05, 9: 0.05}  # 1; K (NEdT)
LAPSE = 6.5  # K km-1, standard atmosphere
C1, C2 = 1.191042e8, 1.4387752e4  # Planck: W m-2 sr-1 um-1 (um^5), um K


class Layer(NamedTuple):
    """A kind of cloud: ranges that a scene draws from, evenly."""

    slope: float  # of the power spectrum of log optical thickness
    fraction: tuple[float, float]  # share of the pixels that it covers
    thickness: tuple[float, float]  # its typical optical thickness, `EDGE` inside its edge
    height: tuple[float, float]  # of its top, km
    ice: bool = False


LAYERS = (
    Layer(3.2, (0.0, 0.08), (2, 8), (0.1, 0.5)),  # fog: as warm as the ground
    Layer(2.2, (0.10, 0.35), (4, 20), (1.2, 2.5)),  # broken low cloud
    Layer(2.6, (0.0, 0.20), (3, 15), (3.0, 6.0)),
    Layer(2.9, (0.05, 0.30), (1, 5), (8.0, 12.5), ice=True),  # cirrus, much of it thin
)
# What a satellite finds too cold: it sees the skin of the sea, 0.17 K cooler than the water below (Donlon et al. 2002).
SST_BIAS = -0.17
CORRECTED_TAU = 0.15  # optical thickness up to which cloud does no harm to a temperature
BUOY_NOISE, RETRIEVAL_NOISE = 0.20, 0.25  # K


def fractal(rng: np.random.Generator, rows: int, columns: int, slope: float) -> Array:
    """A random field (rows, columns) of mean 0 and standard deviation 1 whose power falls as k^-slope."""
    from scipy import fft

    ky = fft.fftfreq(rows).astype(np.float32)[:, None]
    kx = fft.rfftfreq(columns).astype(np.float32)[None, :]
    power = ky**2 + kx**2
    power[0, 0] = np.inf
    white = fft.rfft2(rng.standard_normal((rows, columns), dtype=np.float32))
    field = fft.irfft2(white * power ** np.float32(-slope / 4), s=(rows, columns))
    return (field - field.mean()) / field.std()


def planck(wavelength: float, temperature: Array) -> Array:
    """Spectral radiance of a black body, W m-2 sr-1 um-1."""
    return C1 / wavelength**5 / np.expm1(C2 / (wavelength * temperature))


def brightness_temperature(wavelength: float, radiance: Array) -> Array:
    """Inverse of `planck`, K."""
    return C2 / (wavelength * np.log1p(C1 / (wavelength**5 * radiance)))


def optical_thickness(field: Array, fraction: float, typical: float) -> Array:
    """Log-normal optical thickness whose part above CLOUD_TAU is `fraction` of the pixels, 0 where there is no cloud."""
    edge = np.quantile(field, 1 - fraction)
    tau = CLOUD_TAU * np.exp((field - edge) / EDGE * np.log(typical / CLOUD_TAU))
    return np.where(field > edge - 0.4 * EDGE, np.minimum(tau, THICKEST), 0.0)


def doubled(field: NDArray[Any]) -> NDArray[Any]:
    """The 1 km grid on the 500 m grid."""
    return np.repeat(np.repeat(field, 2, 0), 2, 1)


def coarse(field: NDArray[Any]) -> Array:
    """The 500 m grid on the 1 km grid, by the mean."""
    rows, columns = field.shape[0] // 2, field.shape[1] // 2
    return field.reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def scene(rng: np.random.Generator, rows: int, columns: int, day: bool, label_error: float, baseline: int) -> dict[str, Any]:
    """The fields of one scene: `rows` x `columns` on the 1 km grid, twice that on the 500 m grid.

    `label_error` is the share of pixels whose Bayesian class is not the true one; `baseline` decides whether radiances
    are written with the vicarious gain or without.
    """
    fine, shape = (2 * rows, 2 * columns), (rows, columns)

    def some(limits: tuple[float, float]) -> float:
        return float(rng.uniform(*limits))

    polar = rng.random() < 0.15
    land = fractal(rng, *fine, 3.0) > some((-0.3, 1.2))
    ice = (fractal(rng, *fine, 2.8) > some((-0.5, 1.0))) & polar
    taus = [optical_thickness(fractal(rng, *fine, kind.slope), some(kind.fraction), some(kind.thickness)) for kind in LAYERS]

    sun = some((20, 65)) if day else some((100, 130))
    zenith = sun + np.linspace(-3, 3, rows)[:, None] + np.linspace(-4, 4, columns)[None, :]
    cosine = np.maximum(doubled(np.cos(np.deg2rad(zenith))), 0)
    # Sun glint is a lobe along the track, brighter where the sun is high.
    place = (np.arange(columns) - some((0, columns))) / (0.12 * columns)
    glint = np.broadcast_to(day * some((0.0, 0.3)) * np.exp(-(place**2)), shape) * (coarse(land) < 0.5)
    texture = 1 + 0.1 * fractal(rng, *fine, 2.0)
    gain = products.gains(baseline)
    radiance = {}
    lit, glitter, water = cosine > 0, doubled(glint), sum(taus[:-1])

    @functools.cache  # channels are alike in it
    def clouds(ice: float, low: bool) -> tuple[Array, Array]:
        """Reflectance of the cloud, and what light is left after both ways through it."""
        scatter = (1 - ASYMMETRY) * (water + taus[-1] * ice if low else taus[-1] * ice)
        cloud = scatter / (2 + scatter)
        return cloud, (1 - cloud) ** 2

    for band in SOLAR:
        sea = ALBEDO["sea"][band - 1] + glitter * (band != 4)
        surface = np.where(land, ALBEDO["land"][band - 1] * texture, sea)
        surface = np.where(ice, ALBEDO["ice"][band - 1], surface)
        # Water vapour hides everything low at 1.375 um.
        cloud, left = clouds(ICE_ABSORPTION.get(band, 1.0), band != 4)
        reflectance = cloud + left * surface / (1 - cloud * surface)
        reflectance += NOISE["reflectance"] * rng.standard_normal(fine, dtype=np.float32)
        light = reflectance * (IRRADIANCE[band] / np.pi / gain[band]) * cosine
        radiance[band] = np.where(lit, light, np.nan).astype(np.float32)

    land_1km, ice_1km = coarse(land) > 0.5, coarse(ice) > 0.5
    taus = [coarse(tau) for tau in taus]
    sea_temperature = some((272, 282) if polar else (278, 301)) + 0.7 * fractal(rng, *shape, 3.0)
    warmer = some((2, 14)) if day else some((-8, -1))
    skin = np.where(land_1km, sea_temperature + warmer, sea_temperature)
    skin = np.where(ice_1km, some((240, 268)) + 2 * fractal(rng, *shape, 3.0), skin)
    tops = [
        skin.mean() - LAPSE * (some(kind.height) + 0.15 * fractal(rng, *shape, 2.5))
        if kind.height[0] > 0.5
        else skin - some((0, 4))
        for kind in LAYERS
    ]
    vapour = {7: 0.5, 8: 1.2, 9: 2.2}  # K that water vapour takes from the surface
    temperature = {}
    for band in THERMAL:
        absorption = {7: 0.8, 8: 1.0, 9: 1.1}[band]  # cloud is a little darker at longer wavelengths
        light = planck(WAVELENGTH[band], skin - vapour[band])
        for tau, top in zip(taus, tops, strict=True):
            emissivity = 1 - np.exp(-0.5 * absorption * tau)
            light = (1 - emissivity) * light + emissivity * planck(WAVELENGTH[band], top)
        if band == 7 and day:  # sunlight reflected by cloud and glint adds to the 3.7 um channel
            scatter = (1 - ASYMMETRY) * (np.sum(taus[:-1], axis=0) + 0.1 * taus[-1])
            albedo = 0.15 * scatter / (2 + scatter) + 0.1 * glint * np.exp(-np.sum(taus, axis=0))
            light = light + albedo * np.maximum(np.cos(np.deg2rad(zenith)), 0) * 3.0
        noise = NOISE[band] * rng.standard_normal(shape, dtype=np.float32)
        temperature[band] = brightness_temperature(WAVELENGTH[band], light) + noise

    tau = np.sum(taus, axis=0)
    truth = tau > CLOUD_TAU
    # The swath ends in a curve, pixels beyond it were never seen; now and then a scan line is lost.
    edge = (4 + 6 * (np.linspace(-1, 1, rows) ** 2)).astype(int)
    seen = np.arange(columns)[None, :] < columns - edge[:, None]
    if rng.random() < 0.3:
        seen[rng.integers(rows)] = False
    # Errors sit where cloud is hard: the rate falls with the distance from the threshold, and is `label_error` overall.
    hard = np.exp(-np.abs(np.log((tau + 0.02) / CLOUD_TAU)))
    wrong = rng.random(shape) < np.minimum(hard * label_error / hard.mean(), 0.5)
    bayes = truth ^ wrong
    chance = rng.random(shape)
    # The threshold tests of old: cold, or bright.
    bright = coarse(np.nan_to_num(radiance[2])) * gain[2] * np.pi / IRRADIANCE[2] > 0.35 * np.cos(np.deg2rad(zenith))
    summary = (temperature[8] < 268) | (bright & (zenith < 90))
    for band in temperature:
        temperature[band] = np.where(seen, temperature[band], np.nan)
    seen_500m = doubled(seen)
    radiance = {band: np.where(seen_500m, field, np.float32(np.nan)) for band, field in radiance.items()}
    north = some((68, 80)) if polar else some((-50, 50))
    return {
        "radiance": radiance,
        "temperature": temperature,
        "zenith": zenith,
        "land": land_1km,
        "ice": ice_1km,
        "glint": glint,
        "sea_temperature": sea_temperature,
        "skin": skin,
        "top": tops[-1],
        "bayes": bayes & seen,
        "probability": np.where(bayes, 0.9 + 0.1 * chance, 0.9 * chance**2),
        "summary": summary & seen,
        "truth": truth,
        "tau": tau,
        "seen": seen,
        "day": day,
        "latitude": np.broadcast_to(north - np.arange(rows)[:, None] / 111, shape),
        "longitude": np.broadcast_to(-20 + np.arange(columns)[None, :] / (111 * np.cos(np.deg2rad(north))), shape),
    }


def match_ups(rng: np.random.Generator, name: str, fields: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Buoys in the open sea of a scene, and what the satellite says there: `SST_BIAS` off, colder below cloud.

    A sixth of them fail one of the quality filters each, and are far off: whoever forgets a filter finds out.
    """
    rows, columns = np.nonzero(~fields["land"] & ~fields["ice"] & fields["seen"] & (fields["sea_temperature"] > 274))
    if not len(rows):
        return []
    found = []
    for pick in rng.choice(len(rows), min(number, len(rows)), replace=False):
        at = rows[pick], columns[pick]
        insitu = fields["sea_temperature"][at] + BUOY_NOISE * rng.standard_normal()
        satellite = fields["sea_temperature"][at] + SST_BIAS + RETRIEVAL_NOISE * rng.standard_normal()
        # Cloud is colder than the sea, and the retrieval takes it for sea; what is hardly there its two views correct.
        if fields["tau"][at] > CORRECTED_TAU:
            satellite -= (1 - np.exp(-0.5 * fields["tau"][at])) * rng.uniform(2, 20)
        latitude, longitude = float(fields["latitude"][at]), float(fields["longitude"][at])
        entry = dict(
            zip(
                COLUMNS,
                (
                    *(name, int(at[0]), int(at[1]), latitude, longitude),
                    *(latitude + rng.uniform(-0.004, 0.004), longitude + rng.uniform(-0.008, 0.008)),
                    *(insitu, satellite, rng.uniform(5, 54), rng.uniform(50, 55), 5, RETRIEVALS["D2"]),
                    *(fields["probability"][at], fields["probability"][at]),
                ),
                strict=True,
            )
        )
        spoilt = {
            "buoy_latitude": latitude + 0.05,
            "buoy_longitude": longitude + 0.05,
            "satellite_zenith_nadir": 58.0,
            "satellite_zenith_oblique": 57.0,
            "sst_satellite": 272.0,
            "sst_insitu": 272.5,
            "quality_level": 3,
            "algorithm_type": RETRIEVALS["N2"],
        }
        if rng.random() < 1 / 6:
            key = str(rng.choice(list(spoilt)))
            entry |= {"sst_satellite": satellite + 3.0, key: spoilt[key]}
        found.append(entry)
    return found


def product_name(index: int) -> str:
    """A name of the SL_1_RBT pattern. Three granules make an orbit, every other orbit is of the other satellite, and
    baselines without and with the vicarious gain take turns; the cycle, 000, is that of no real scene."""
    orbit, granule = divmod(index, 3)
    minutes = orbit * 50 + granule * 3
    hour, minute = divmod(minutes % 1440, 60)
    stamp = f"202101{1 + minutes // 1440:02d}T{hour:02d}{minute:02d}"
    return (
        f"S3{'AB'[orbit % 2]}_SL_1_RBT____{stamp}00_{stamp}59_20210201T000000_0179_000_{orbit + 1:03d}_{180 * granule:04d}_"
        f"KIT_O_NT_00{4 + orbit % 2}.SEN3"
    )


def make(job: tuple[Path, np.random.SeedSequence, dict[str, Any], int]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Writes one product; returns what only the truth knows of it, and its match-ups."""
    folder, seed, parameters, index = job
    rng = np.random.default_rng(seed)
    fields = scene(
        rng,
        int(parameters["rows"]),
        int(parameters["columns"]),
        day=index % 4 != 3,
        label_error=float(parameters["label_error"]),
        baseline=products.parse_name(folder.name).baseline,
    )
    writing.write(folder, fields)
    found = match_ups(rng, folder.name, fields, int(parameters["matchups_per_scene"]))
    return {key: fields[key] for key in ("truth", "tau", "seen", "day")}, found


def generate(folder: Path, parameters: dict[str, Any], processes: int | None = None) -> None:
    """Writes `training/` and `inference/` products, truth.h5 with a group a scene and, of the scenes for inference,
    matchups.csv. `folder` must exist.

    Parameters: rows, columns (1 km grid), training_scenes (a multiple of 3, the granules of an orbit), inference_scenes,
    label_error (share of pixels), matchups_per_scene, data_seed. The same parameters give the same bytes, by any number of
    `processes` (not given: one for each core that this process may use).
    """
    import os
    from concurrent.futures import ProcessPoolExecutor

    import h5py

    training, inference = int(parameters["training_scenes"]), int(parameters["inference_scenes"])
    if training % 3:
        raise ValueError(
            f"training_scenes is {training}, not a multiple of 3: an orbit would lie on both sides of the split"
        )
    seeds = np.random.SeedSequence(int(parameters["data_seed"])).spawn(training + inference)
    jobs = []
    for index, seed in enumerate(seeds):
        split = "training" if index < training else "inference"
        (folder / split).mkdir(exist_ok=True)
        jobs.append((folder / split / product_name(index), seed, parameters, index))
    with (
        ProcessPoolExecutor(processes or len(os.sched_getaffinity(0))) as pool,
        h5py.File(folder / "truth.h5", "w") as truth,
        (folder / "matchups.csv").open("w", newline="") as table,
    ):
        rows = csv.DictWriter(table, COLUMNS)
        rows.writeheader()
        for job, (known, found) in zip(jobs, pool.map(make, jobs), strict=True):
            group = truth.create_group(job[0].name)
            for key in ("truth", "seen"):
                group.create_dataset(key, data=known[key], compression="gzip", compression_opts=1)
            group.create_dataset("tau", data=known["tau"].astype(np.float16), compression="gzip", compression_opts=1)
            group.attrs["day"] = known["day"]
            if job[0].parent.name == "inference":
                rows.writerows(found)

"""Synthetic Sentinel-3 SLSTR scenes with a known cloud mask, written in the product's own form.

A scene is a `.SEN3` folder of NetCDF files: radiances S1-S6 on the 500 m grid, brightness temperatures S7-S9 and flags
on the 1 km grid, solar zenith angles on the tie-point grid, solar irradiance in the quality files. Names, dimensions,
packing and attributes are those of the SL_1_RBT product (Sentinel-3 SLSTR product notice and the readers of satpy),
on smaller grids. Beside the products stands truth.h5 with what no product has: the optical thickness of the cloud and
the true mask.

Physics, simple but of the right kind:

* Cloud: two layers (low water cloud, high ice cloud) of log-normal optical thickness with a power-law spectrum.
  The true mask is total optical thickness above `CLOUD_TAU`.
* Reflectance over a surface albedo `Rs`: `R = A + T^2 Rs / (1 - A Rs)`, `A = (1-g) tau / (2 + (1-g) tau)`, `T = 1 - A`,
  g = 0.85 (two-stream, conservative scattering). Ice absorbs at 1.6 and 2.25 um. S4 (1.375 um) sees only high cloud.
* Radiance: `L = R E0 cos(SZA) / pi`.
* Brightness temperature: Planck radiances of surface and cloud top mixed with emissivity `1 - exp(-tau / 2)`.
* The Bayesian mask of the product is not the truth: pixels of thin cloud and of cloud edges are wrong at a given rate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

CLOUD_TAU = 0.3  # optical thickness above which a pixel is cloud
ASYMMETRY = 0.85
# Band solar irradiance E0 at one astronomical unit, mW m-2 nm-1.
IRRADIANCE = {1: 1837.4, 2: 1525.9, 3: 956.2, 4: 365.9, 5: 248.3, 6: 78.3}
# Central wavelength, micrometre (Sentinel-3 SLSTR user guide).
WAVELENGTH = {1: 0.555, 2: 0.659, 3: 0.865, 4: 1.375, 5: 1.61, 6: 2.25, 7: 3.74, 8: 10.85, 9: 12.0}
ALBEDO = {  # typical spectral albedos of S1..S6
    "sea": (0.05, 0.04, 0.03, 0.0, 0.02, 0.02),
    "land": (0.09, 0.10, 0.32, 0.0, 0.26, 0.16),
}
ICE_ABSORPTION = {5: 0.45, 6: 0.35}  # reflectance of ice cloud relative to water cloud
NOISE = {"reflectance": 0.004, 7: 0.08, 8: 0.05, 9: 0.05}  # 1; K (NEdT)
C1, C2 = 1.191042e8, 1.4387752e4  # Planck: W m-2 sr-1 um-1 (um^5), um K
CLOUD_MEANINGS = (
    "visible 1.37_threshold 1.6_small_histogram 1.6_large_histogram 2.25_small_histogram 2.25_large_histogram "
    "11_spatial_coherence gross_cloud thin_cirrus medium_high fog_low_stratus 11_12_view_difference "
    "3.7_11_view_difference thermal_histogram spare spare"
)
CONFIDENCE = {"coastline": 1, "ocean": 2, "tidal": 4, "land": 8, "day": 1024, "twilight": 2048, "summary_cloud": 16384}
BAYES = {"single_low": 1, "single_moderate": 2, "dual_low": 4, "dual_moderate": 8}


def fractal(rng: np.random.Generator, rows: int, columns: int, slope: float) -> Array:
    """A random field (rows, columns) of mean 0 and standard deviation 1 whose power falls as k^-slope."""
    ky, kx = np.meshgrid(np.fft.fftfreq(rows), np.fft.rfftfreq(columns), indexing="ij")
    k = np.hypot(ky, kx)
    k[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((rows, columns)))
    field = np.fft.irfft2(white * k ** (-slope / 2), s=(rows, columns))
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
    return np.where(field > edge - 0.4, CLOUD_TAU * np.exp((field - edge) * np.log(typical / CLOUD_TAU)), 0.0)


def scene(rng: np.random.Generator, rows: int, columns: int, day: bool, label_error: float) -> dict[str, Any]:
    """The fields of one scene: `rows` x `columns` on the 1 km grid, twice that on the 500 m grid."""
    fine = (2 * rows, 2 * columns)
    land = fractal(rng, *fine, 3.0) > rng.uniform(-0.3, 1.2)
    low = optical_thickness(fractal(rng, *fine, 2.4), rng.uniform(0.15, 0.5), rng.uniform(6, 20))
    high = optical_thickness(fractal(rng, *fine, 2.9), rng.uniform(0.05, 0.3), rng.uniform(1, 4))

    def coarse(field: NDArray[Any]) -> Array:
        return field.reshape(rows, 2, columns, 2).mean(axis=(1, 3))

    sun = rng.uniform(20, 65) if day else rng.uniform(100, 130)
    zenith = sun + np.linspace(-3, 3, rows)[:, None] + np.linspace(-4, 4, columns)[None, :]
    cosine = np.repeat(np.repeat(np.cos(np.deg2rad(zenith)), 2, 0), 2, 1)
    radiance = {}
    texture = 1 + 0.1 * fractal(rng, *fine, 2.0)
    for band in range(1, 7):
        surface = np.where(land, ALBEDO["land"][band - 1] * texture, ALBEDO["sea"][band - 1])
        water = low * (band != 4)  # water vapour hides everything low at 1.375 um
        ice = high * ICE_ABSORPTION.get(band, 1.0)
        scatter = (1 - ASYMMETRY) * (water + ice)
        cloud = scatter / (2 + scatter)
        reflectance = cloud + (1 - cloud) ** 2 * surface / (1 - cloud * surface)
        reflectance += rng.normal(0, NOISE["reflectance"], fine)
        radiance[band] = np.where(cosine > 0, reflectance * IRRADIANCE[band] * np.maximum(cosine, 0) / np.pi, np.nan)

    land_1km, low_1km, high_1km = coarse(land) > 0.5, coarse(low), coarse(high)
    sea_temperature = rng.uniform(276, 300)
    warm = rng.uniform(2, 14) if day else rng.uniform(-12, -2)
    skin = np.where(land_1km, sea_temperature + warm, sea_temperature) + 0.7 * fractal(rng, rows, columns, 3.0)
    low_top = skin - rng.uniform(4, 16) - 1.5 * np.abs(fractal(rng, rows, columns, 2.5))
    high_top = rng.uniform(218, 245) + 3 * fractal(rng, rows, columns, 2.5)
    vapour = {7: 0.5, 8: 1.2, 9: 2.2}  # K that water vapour takes from the surface
    temperature = {}
    for band in (7, 8, 9):
        thickness = {7: 0.8, 8: 1.0, 9: 1.1}[band]  # cloud is a little darker at longer wavelengths
        light = planck(WAVELENGTH[band], skin - vapour[band])
        for tau, top in ((low_1km, low_top), (high_1km, high_top)):
            emissivity = 1 - np.exp(-0.5 * thickness * tau)
            light = (1 - emissivity) * light + emissivity * planck(WAVELENGTH[band], top)
        if band == 7 and day:  # sunlight reflected by cloud adds to the 3.7 um channel
            scatter = (1 - ASYMMETRY) * (low_1km + 0.1 * high_1km)
            light = light + 0.15 * scatter / (2 + scatter) * np.maximum(np.cos(np.deg2rad(zenith)), 0) * 3.0
        temperature[band] = brightness_temperature(WAVELENGTH[band], light) + rng.normal(0, NOISE[band], (rows, columns))

    tau = low_1km + high_1km
    truth = tau > CLOUD_TAU
    # Errors sit where cloud is hard: the rate falls with the distance from the threshold, and is `label_error` overall.
    hard = np.exp(-np.abs(np.log((tau + 0.02) / CLOUD_TAU)))
    wrong = rng.random(truth.shape) < np.minimum(hard * label_error / hard.mean(), 0.5)
    bayes = truth ^ wrong
    # The swath ends in a curve: pixels beyond it were never seen.
    edge = (4 + 6 * (np.linspace(-1, 1, rows) ** 2)).astype(int)
    seen = np.arange(columns)[None, :] < columns - edge[:, None]
    for band in temperature:
        temperature[band] = np.where(seen, temperature[band], np.nan)
    fine_seen = np.repeat(np.repeat(seen, 2, 0), 2, 1)
    radiance = {band: np.where(fine_seen, field, np.nan) for band, field in radiance.items()}
    return {
        "radiance": radiance,
        "temperature": temperature,
        "zenith": zenith,
        "land": land_1km,
        "bayes": bayes & seen,
        "truth": truth,
        "tau": tau,
        "seen": seen,
        "day": day,
    }


TIE_STEP = 16  # 1 km pixels between tie points


def write_product(folder: Path, fields: dict[str, Any], rng: np.random.Generator) -> None:
    """Writes one scene as a `.SEN3` folder."""
    import xarray as xr

    folder.mkdir()
    rows, columns = fields["truth"].shape

    def save(name: str, variables: dict[str, Any], attributes: dict[str, Any], encoding: dict[str, Any]) -> None:
        xr.Dataset(variables, attrs={"product_name": folder.name, **attributes}).to_netcdf(
            folder / name, engine="h5netcdf", encoding=encoding
        )

    def packed(scale: float, offset: float = 0.0) -> dict[str, Any]:
        return {"dtype": "i2", "scale_factor": scale, "add_offset": offset, "_FillValue": np.int16(-32768), "zlib": True}

    offset_500m = {"track_offset": 2 * (columns // 2), "start_offset": 0, "resolution": "[ 500 500 ]"}
    offset_1km = {"track_offset": columns // 2, "start_offset": 0, "resolution": "[ 1000 1000 ]"}
    for band, field in fields["radiance"].items():
        name = f"S{band}_radiance_an"
        save(
            f"{name}.nc",
            {
                name: (
                    ("rows", "columns"),
                    field,
                    {"units": "mW.m-2.sr-1.nm-1", "standard_name": "toa_upwelling_spectral_radiance"},
                )
            },
            offset_500m,
            {name: packed(IRRADIANCE[band] / 30000 / np.pi * 1.5)},
        )
        irradiance = f"S{band}_solar_irradiance_an"
        save(
            f"S{band}_quality_an.nc",
            {irradiance: (("detectors",), np.full(4, IRRADIANCE[band], "f4"), {"units": "mW.m-2.nm-1"})},
            offset_500m,
            {},
        )
    for band, field in fields["temperature"].items():
        name = f"S{band}_BT_in"
        save(
            f"{name}.nc",
            {name: (("rows", "columns"), field, {"units": "K", "standard_name": "toa_brightness_temperature"})},
            offset_1km,
            {name: packed(0.01, 283.73)},
        )

    def flags(values: Any, kind: str, masks: list[int], meanings: str) -> tuple[Any, ...]:
        return (("rows", "columns"), values.astype(kind), {"flag_masks": np.array(masks, kind), "flag_meanings": meanings})

    # The operational threshold tests, in brief: cold or bright pixels.
    cold = np.nan_to_num(fields["temperature"][8], nan=0.0) < 268
    surface = np.where(fields["land"], CONFIDENCE["land"], CONFIDENCE["ocean"]) + CONFIDENCE["day"] * fields["day"]
    save(
        "flags_in.nc",
        {
            "bayes_in": flags(fields["bayes"] * BAYES["single_moderate"], "u1", list(BAYES.values()), " ".join(BAYES)),
            "cloud_in": flags(cold * 128, "u2", [1 << bit for bit in range(16)], CLOUD_MEANINGS),
            "confidence_in": flags(
                surface + CONFIDENCE["summary_cloud"] * cold, "u2", list(CONFIDENCE.values()), " ".join(CONFIDENCE)
            ),
        },
        offset_1km,
        {name: {"zlib": True} for name in ("bayes_in", "cloud_in", "confidence_in")},
    )
    # Tie points every 16 km, one beyond each end, with their own origin.
    tie_rows = np.arange(rows)
    tie_columns = np.arange(-TIE_STEP, columns + TIE_STEP, TIE_STEP)
    middle = np.interp(tie_columns, np.arange(columns), fields["zenith"][0])
    slope = fields["zenith"][0, 1] - fields["zenith"][0, 0]
    middle = fields["zenith"][0, 0] + slope * tie_columns
    zenith = middle[None, :] + (fields["zenith"][:, :1] - fields["zenith"][0, 0])[tie_rows]
    save(
        "geometry_tn.nc",
        {"solar_zenith_tn": (("rows", "columns"), zenith, {"units": "degrees"})},
        {"track_offset": (columns // 2) // TIE_STEP + 1, "start_offset": 0, "resolution": "[ 1000 16000 ]"},
        {"solar_zenith_tn": {"zlib": True}},
    )
    latitude = np.broadcast_to(np.linspace(50, 50 - rows / 111, rows)[:, None], (rows, columns))
    longitude = np.broadcast_to(np.linspace(-20, -20 + columns / 72, columns)[None, :], (rows, columns))
    save(
        "geodetic_in.nc",
        {
            "latitude_in": (("rows", "columns"), latitude, {"units": "degrees_north"}),
            "longitude_in": (("rows", "columns"), longitude, {"units": "degrees_east"}),
        },
        offset_1km,
        {name: {"zlib": True} for name in ("latitude_in", "longitude_in")},
    )


def product_name(index: int) -> str:
    """A name of the SL_1_RBT pattern; the orbit is that of no real scene (cycle 000)."""
    start = f"20210101T{index // 20:02d}{index * 3 % 60:02d}00"
    end = f"20210101T{index // 20:02d}{index * 3 % 60 + 2:02d}59"
    return f"S3A_SL_1_RBT____{start}_{end}_20210102T000000_0179_000_{index:03d}_0000_KIT_O_NT_004.SEN3"


def generate(folder: Path, parameters: dict[str, Any]) -> None:
    """Writes `training/` and `inference/` products, and truth.h5 with a group a scene. `folder` must exist.

    Parameters: rows, columns (1 km grid), training_scenes, inference_scenes, label_error (share of pixels), seed.
    """
    import h5py

    scenes = int(parameters["training_scenes"]) + int(parameters["inference_scenes"])
    seeds = np.random.SeedSequence(int(parameters["seed"])).spawn(scenes)
    listing: dict[str, list[str]] = {"training": [], "inference": []}
    with h5py.File(folder / "truth.h5", "w") as truth:
        for index, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            split = "training" if index < int(parameters["training_scenes"]) else "inference"
            (folder / split).mkdir(exist_ok=True)
            fields = scene(
                rng,
                int(parameters["rows"]),
                int(parameters["columns"]),
                day=index % 4 != 3,
                label_error=float(parameters["label_error"]),
            )
            name = product_name(index)
            write_product(folder / split / name, fields, rng)
            listing[split].append(name)
            group = truth.create_group(name)
            for key in ("truth", "tau", "seen"):
                group.create_dataset(key, data=fields[key], compression="gzip")
            group.attrs["day"] = fields["day"]
    (folder / "split.json").write_text(json.dumps(listing, indent=2) + "\n")

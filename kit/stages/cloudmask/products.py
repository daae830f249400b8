"""The form of a Sentinel-3 SLSTR level 1 product (SL_1_RBT): its name, its files, its flags.

A product is a folder `*.SEN3` of NetCDF files, of which the nadir view is used: radiances S1-S6 on the 500 m grid (stripe
A), brightness temperatures S7-S9 and flags on the 1 km grid, solar zenith angles at tie points, solar irradiances by
detector in the quality files, and the detector that saw each pixel in indices_an.nc.

Fill is no value: what a variable marks so comes as NaN, or as not known.

Sources: Sentinel-3 SLSTR product data format specification and land user guide; readers of satpy (slstr_l1b.yaml).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.stages.cloudmask.hdf import of_the_system, read_netcdf, steadily

Array = NDArray[np.floating]

# Band solar irradiance E0 at one astronomical unit, mW m-2 nm-1, as the quality files of real products give it.
IRRADIANCE = {1: 1837.4, 2: 1525.9, 3: 956.2, 4: 365.9, 5: 248.3, 6: 78.3}
# Central wavelength, micrometre (Sentinel-3 SLSTR user guide).
WAVELENGTH = {1: 0.555, 2: 0.659, 3: 0.865, 4: 1.375, 5: 1.61, 6: 2.25, 7: 3.74, 8: 10.85, 9: 12.0}
SOLAR, THERMAL = (1, 2, 3, 4, 5, 6), (7, 8, 9)
# Vicarious adjustment of the nadir radiances S1-S6 for products before baseline 005, which has it (S3 SLSTR product
# notice; the factors are those of satpy's slstr_l1b). Applied twice it would be an error of up to 13 percent.
GAINS = {1: 0.97, 2: 0.98, 3: 0.98, 4: 1.0, 5: 1.11, 6: 1.13}
CORRECTED_FROM = 5
BASELINES = range(1, 7)  # those that the agency has published
# The bits of the variables of flags_in.nc, lowest first.
FLAGS = {
    "cloud_in": "visible 1.37_threshold 1.6_small_histogram 1.6_large_histogram 2.25_small_histogram "
    "2.25_large_histogram 11_spatial_coherence gross_cloud thin_cirrus medium_high fog_low_stratus 11_12_view_difference "
    "3.7_11_view_difference thermal_histogram spare spare",
    "confidence_in": "coastline ocean tidal land inland_water unfilled spare spare cosmetic duplicate day twilight "
    "sun_glint snow summary_cloud summary_pointing",
    "bayes_in": "single_low single_moderate dual_low dual_moderate spare spare spare spare",
}
SPARE = "spare"  # the name of bits that mean nothing; a pixel that has no other set says nothing
TIE_STEP = 16  # 1 km pixels between tie points


class ProductError(Exception):
    """A product that cannot be read; names the file and what is wrong with it."""


class NoVariable(ProductError):
    """A file of a product that does not have a variable, which not all baselines have."""


class Name(NamedTuple):
    """What the name of a product says."""

    platform: str  # S3A, S3B, S3C or S3D
    start: str  # of sensing, YYYYMMDDTHHMMSS
    orbit: str  # platform, cycle and relative orbit: granules of one orbit lie side by side
    baseline: int


NAME = re.compile(
    r"(?P<platform>S3[A-D])_SL_1_RBT____(?P<start>\d{8}T\d{6})_(?P<end>\d{8}T\d{6})_(?P<creation>\d{8}T\d{6})_"
    r"(?P<duration>\d{4})_(?P<cycle>\d{3})_(?P<relative>\d{3})_(?P<frame>[\d_]{4})_(?P<centre>\w{3})_"
    r"(?P<mode>\w)_(?P<timeliness>\w{2})_(?P<baseline>\d{3})"
    # A product, an archive of one, or a converted scene; nothing else may follow: x.SEN3.tmp is no product yet.
    r"(\.SEN3)?(\.zip|\.hdf)?"
)


def parse_name(name: str) -> Name:
    """ProductError for a name that is not of the SL_1_RBT pattern, or of a baseline that nobody has published."""
    match = NAME.fullmatch(name)
    if not match:
        raise ProductError(
            f"{name}: not the name of an SLSTR level 1 product (S3A_SL_1_RBT____START_END_..._BASELINE.SEN3, S3A to S3D)"
        )
    baseline = int(match["baseline"])
    if baseline not in BASELINES:
        raise ProductError(
            f"{name}: unknown processing baseline {match['baseline']}; known: "
            f"{', '.join(f'{known:03d}' for known in BASELINES)}. Whether its radiances are corrected is not known"
        )
    return Name(match["platform"], match["start"], f"{match['platform']}_{match['cycle']}_{match['relative']}", baseline)


def gains(baseline: int) -> dict[int, float]:
    """The factor of the radiances of each solar channel: the vicarious gain where the product lacks it, or 1."""
    return dict.fromkeys(SOLAR, 1.0) if baseline >= CORRECTED_FROM else dict(GAINS)


def read(
    product: Path, file: str, variable: str, decoded: bool = True
) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
    """A variable of a product as (values with fill as NaN, its attributes, the file's attributes).

    Not `decoded`, values are as they are stored and fill is among them, as the attribute _FillValue says.
    ProductError for a file that is missing or is no whole NetCDF file, OSError where the file system fails.
    """
    path = product / file

    def take(dataset: Any) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
        if variable not in dataset:
            raise NoVariable(f"{path}: no variable {variable}; it has {', '.join(map(str, dataset)) or 'none'}")
        return dataset[variable].values, dict(dataset[variable].attrs), dict(dataset.attrs)

    if not steadily(path, path.is_file):
        raise ProductError(f"{path}: missing from the product")
    try:
        return read_netcdf(path, take, mask_and_scale=decoded)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and of_the_system(error):
            raise
        raise ProductError(f"{path}: not a readable NetCDF file: {error}") from None


class Grid(NamedTuple):
    """Where the pixels of a file lie: pixel sizes in metres, and the pixel that the track and the orbit begin at."""

    across: float
    along: float
    track_offset: int
    start_offset: int


def grid(path: Path, attributes: dict[str, Any]) -> Grid:
    """The grid that the attributes of a file describe; its `resolution` is a text, across the track first.

    ProductError for an attribute that is missing or is no such text.
    """
    try:
        across, along = re.findall(r"[\d.]+", str(attributes["resolution"]))
        return Grid(float(across), float(along), int(attributes["track_offset"]), int(attributes["start_offset"]))
    except (KeyError, ValueError) as error:
        raise ProductError(
            f"{path}: no grid: resolution ([ 500 500 ], say), track_offset and start_offset are needed: {error}"
        ) from None


def solar_zenith(product: Path, rows: int, columns: int, image: Grid) -> Array:
    """Solar zenith angle (rows, columns) in degrees on the grid of an image, linear between the tie points.

    Both grids count columns from the satellite track, and rows from the start of the orbit. NaN beside a tie point that
    has no value, or none that is an angle from the zenith.
    """
    tie, _, attributes = read(product, "geometry_tn.nc", "solar_zenith_tn")
    tie = np.where((tie >= 0) & (tie <= 180), tie, np.nan)
    points = grid(product / "geometry_tn.nc", attributes)
    x = (np.arange(columns) - image.track_offset) * image.across
    tie_x = (np.arange(tie.shape[1]) - points.track_offset) * points.across
    y = (np.arange(rows) + image.start_offset) * image.along
    tie_y = (np.arange(tie.shape[0]) + points.start_offset) * points.along
    across_track = np.stack([np.interp(x, tie_x, line) for line in tie])
    # Along the track the same two lines of tie points serve a whole row of pixels.
    below = np.clip(np.searchsorted(tie_y, y, side="right") - 1, 0, max(len(tie_y) - 2, 0))
    above = np.minimum(below + 1, len(tie_y) - 1)
    step = np.where(above > below, tie_y[above] - tie_y[below], 1)
    weight = np.clip((y - tie_y[below]) / step, 0, 1)[:, None]
    return across_track[below] * (1 - weight) + across_track[above] * weight


def irradiance(product: Path, band: int, seen_by: Callable[[], NDArray[np.int64]]) -> Array:
    """Solar irradiance E0 (mW m-2 nm-1) of a solar channel: one number (1, 1) where all detectors have the same, otherwise
    that of the detector which saw each pixel, as `seen_by` (`detectors`) says; NaN for a detector that has none.

    ProductError where no detector has one.
    """
    file, name = f"S{band}_quality_an.nc", f"S{band}_solar_irradiance_an"
    values = np.atleast_1d(np.asarray(read(product, file, name)[0], np.float32)).ravel()
    values[~(values > 0) | ~np.isfinite(values)] = np.nan
    if not np.isfinite(values).any():
        raise ProductError(f"{product / file}: {name} is no irradiance of any detector: {values.tolist()}")
    if (values == values[0]).all():
        return values[:1, None]
    # The last entry is for fill, and for whatever else is the number of no detector.
    numbers = seen_by()
    known = (numbers >= 0) & (numbers < len(values))
    return np.append(values, np.float32(np.nan))[np.where(known, numbers, len(values))]


def detectors(product: Path, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The number of the detector that saw each pixel of the 500 m grid; fill is the number of none. ProductError for a grid
    of another shape."""
    found = read(product, "indices_an.nc", "detector_an", decoded=False)[0]
    if found.shape != shape:
        raise ProductError(f"{product}/indices_an.nc: detector_an has {found.shape} pixels, but the radiances {shape}")
    return found.astype(np.int64)


class Flags(NamedTuple):
    """A variable of bits: its values (rows, columns), which of them are no fill, and its bits by name."""

    values: NDArray[np.int64]
    known: NDArray[np.bool_]
    bits: dict[str, int]

    def set(self, *names: str) -> NDArray[np.bool_]:
        """True (rows, columns) where one of the named bits is set, and nowhere in fill; KeyError for another name."""
        return (self.values & np.bitwise_or.reduce([self.bits[name] for name in names]) > 0) & self.known


def flag_bits(product: Path, variable: str, file: str = "flags_in.nc") -> Flags:
    """A variable of bits, whose bits the file itself names. ProductError where it does not."""
    values, attributes, _ = read(product, file, variable, decoded=False)
    names = str(attributes.get("flag_meanings", "")).split()
    masks = unsigned(np.atleast_1d(np.asarray(attributes.get("flag_masks", []))))
    if not names or len(names) != len(masks):
        raise ProductError(f"{product}/{file}: {variable} has {len(masks)} flag_masks for {len(names)} flag_meanings")
    bits, known = unsigned(values), np.ones(values.shape, bool)
    for key in ("_FillValue", "missing_value"):
        if key in attributes:  # -128 in a file whose bytes have no sign is the eighth bit too
            known &= bits != unsigned(np.atleast_1d(np.asarray(attributes[key])))[0]
    return Flags(bits, known, dict(zip(names, masks.tolist(), strict=True)))


def unsigned(values: NDArray[Any]) -> NDArray[np.int64]:
    """Integers as bits: NetCDF has no unsigned ones in its old form, so -128 may stand for the eighth bit."""
    if values.dtype.kind == "i":
        values = values.view(f"u{values.dtype.itemsize}")
    return np.asarray(np.nan_to_num(values), dtype=np.int64)


def saturated(product: Path, file: str, variable: str) -> NDArray[np.bool_] | None:
    """True (rows, columns) where a variable S*_exception_* says saturation; None where the product does not say."""
    try:
        found = flag_bits(product, variable, file)
    except NoVariable:
        return None
    # Fill is itself a bit of these, that of pixels which nothing was written to.
    return found.set("saturation") if "saturation" in found.bits else None

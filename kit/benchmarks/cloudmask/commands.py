"""CloudMask beyond its runs: mask a product with a trained network.

`kit cloudmask ...`, imported when it is used (kit/cli/groups.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli.options import BenchmarkImage
from kit.cli.output import out, say

app = typer.Typer()


@app.command("mask")
def mask_product(
    product: Annotated[Path, typer.Argument(metavar="PRODUCT.SEN3", help="An SLSTR level 1 product; it needs no label.")],
    model: Annotated[
        Path, typer.Option(metavar="FILE", help="Weights: train/model.weights.h5 of a run, or model.h5 of the reference.")
    ],
    output: Annotated[Path, typer.Option(metavar="FILE.nc", help="The mask to write.")],
    image: BenchmarkImage = None,
) -> None:
    """Mask an unlabelled product: cloud probability and mask with latitude and longitude, as NetCDF."""
    from kit.benchmark import load_benchmark
    from kit.benchmarks.cloudmask.masking import mask
    from kit.cli.progress import working

    with working(f"{product.name}: mask (seconds)"):
        said = mask(product, model, output, load_benchmark("cloudmask").image(image))
    say(said)
    out(output)

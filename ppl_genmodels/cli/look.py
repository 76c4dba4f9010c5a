"""The commands that read a run: infer on new data, sample, report.

Convention of this module: as :mod:`ppl_genmodels.cli.fit`; what a command wrote is its last line of output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ppl_genmodels.cli.app import app
from ppl_genmodels.cli.options import Binarize, Data, Images, OptionalData, OwnModel, Quiet, Run, Seed, Split
from ppl_genmodels.cli.record import load_run

__all__ = ["infer", "report", "sample"]


@app.command(epilog="Example: ppl-genmodels infer runs/digits --data digits --out posterior.nc")
def infer(
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.nc", help="The file to write.")],
    model: OwnModel = None,
    num_samples: Annotated[int, typer.Option(help="Draws for each row.")] = 500,
    chunk_size: Annotated[int | None, typer.Option(help="Rows computed together; what fits by default.")] = None,
    predictive: Annotated[bool, typer.Option("--predictive", help="Draw replicated observations too.")] = False,
    split: Split = "test",
    binarize: Binarize = "none",
    images: Images = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Infer the latent sites of new data; write NetCDF.

    Read it with arviz.from_netcdf(FILE.nc): an InferenceData whose dims are named after the plates.
    """
    from ppl_genmodels.data import load

    loaded = load(data, split, binarize=binarize, seed=seed, images=images)
    fitted = load_run(run, model)
    fitted.infer(loaded.data, num_samples, chunk_size, predictive, seed=seed, progress=not quiet, out=out).close()
    typer.echo(f"posterior of {loaded.rows} rows, {num_samples} draws each: {out}")


@app.command(epilog="Example: ppl-genmodels sample runs/digits -n 64 --out samples.npz")
def sample(
    run: Run,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.npz", help="The file to write.")],
    number: Annotated[int, typer.Option("-n", "--number", help="How many data.")] = 64,
    model: OwnModel = None,
    seed: Seed = 0,
) -> None:
    """Draw new data from a fitted program; write NumPy arrays.

    The file holds an array for each site, latent ones too, with the draws along its first dim.
    """
    import numpy as np

    drawn: dict[str, Any] = {name: value.numpy() for name, value in load_run(run, model).sample(number, seed).items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        np.savez(file, **drawn)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in drawn.items())
    typer.echo(f"samples of {shapes}: {out}")


@app.command(epilog="Example: ppl-genmodels report runs/digits --data digits --out runs/digits/report")
def report(
    run: Run,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the report.")],
    data: OptionalData = None,
    model: OwnModel = None,
    split: Split = "test",
    binarize: Binarize = "none",
    images: Images = False,
    seed: Seed = 0,
) -> None:
    """Look at a run: write a page of pictures.

    Training, samples and, with --data, reconstructions, the posterior and its checks. Labels that come with the data
    colour the latent map.
    """
    from ppl_genmodels.data import load

    loaded = None if data is None else load(data, split, binarize=binarize, seed=seed, images=images)
    page = load_run(run, model).report(out, loaded and loaded.data, loaded and loaded.labels, progress=True)
    typer.echo(f"report: {page}")

"""The arguments and options that several commands share, so that one name means one thing.

Convention of this module: RUN is a folder that fit wrote; DATA is a name or a path that
:func:`ppl_genmodels.data.load` knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "Binarize",
    "Data",
    "Guide",
    "Images",
    "Model",
    "OptionalData",
    "OwnModel",
    "Quiet",
    "Run",
    "Seed",
    "Settings",
    "Split",
]

_DATA_HELP = "'digits', a .npy, .npz, .csv or .parquet file, or a folder of IDX files."

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that fit wrote.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A name that 'models' lists, or path/to/file.py:Class.")]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FILE:CLASS",
        help="Your own program, for a run fitted from path/to/file.py:Class. This runs the file.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the model, as JSON or text; give --set again for each further one.",
    ),
]
Guide = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="AutoNormal, AutoMultivariateNormal, ...: for a model that has no guide."),
]
Data = Annotated[str, typer.Option("--data", metavar="DATA", help=_DATA_HELP)]
OptionalData = Annotated[str | None, typer.Option("--data", metavar="DATA", help=_DATA_HELP)]
Split = Annotated[
    Literal["train", "test"],
    typer.Option(help="Which part of digits or of a folder of IDX files; a file is one part."),
]
Binarize = Annotated[
    Literal["none", "threshold", "sample"],
    typer.Option(help="Make pixels binary: 1 above a half, or drawn with the grey level."),
]
Images = Annotated[bool, typer.Option("--images", help="Give pixels as images, for convolutional models.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")]

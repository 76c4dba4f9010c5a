"""The command that fits a program to data.

Convention of this module: a command's signature is its help; what it does is a call of the library.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

import typer

from ppl_genmodels.cli.app import INTERRUPTED, INTERRUPTION_NOTE, app, say
from ppl_genmodels.cli.options import Binarize, Data, Guide, Images, Model, Quiet, Seed, Settings, Split
from ppl_genmodels.cli.program import build_program, options_for, parse_options
from ppl_genmodels.cli.record import record_program

__all__ = ["fit"]


@app.command(epilog="Example: ppl-genmodels fit vae --data digits --set latent_dim=8 --out runs/digits")
def fit(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder of the run, new or empty.")],
    settings: Settings = None,
    guide: Guide = None,
    split: Split = "train",
    binarize: Binarize = "none",
    images: Images = False,
    objective: Annotated[
        Literal["elbo", "iwae"] | None, typer.Option(help="The bound that is maximised; the program's own by default.")
    ] = None,
    num_particles: Annotated[int, typer.Option(help="Draws of the latent sites for each datum.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; 20 by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates, instead of --epochs.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows in a batch.")] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-3,
    validation: Annotated[float | None, typer.Option(help="Share of the data held out, such as 0.1.")] = None,
    early_stopping: Annotated[
        int | None, typer.Option(help="Epochs without a rise of the validation objective, then stop.")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many on each machine; each has a process of its own.")] = 1,
    strategy: Annotated[str, typer.Option(help="auto, or ddp: how several processes train together.")] = "auto",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Fit a program to data; write the run into a folder.

    Ctrl-C stops it and keeps what was reached: the same command with --resume goes on from there.
    """
    import torch

    from ppl_genmodels import objectives, workflow
    from ppl_genmodels.data import load

    loaded = load(data, split, binarize=binarize, seed=seed, images=images)
    options = {**options_for(model, loaded.arrays), **parse_options(settings or ())}
    torch.manual_seed(seed)  # before the program is built: its weights are drawn then
    fitted = workflow.fit(
        build_program(model, options, guide),
        loaded.data,
        objective=None if objective is None else getattr(objectives, objective)(),
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        optimizer=functools.partial(torch.optim.Adam, lr=lr),
        num_particles=num_particles,
        validation=validation,
        early_stopping=early_stopping,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        seed=seed,
        out=out,
        resume=resume,
        progress=not quiet,
    )
    if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return  # the first process writes and tells
    record_program(fitted, model, options, guide, out)
    typer.echo(f"{fitted!r}\nrun             {out}")
    if fitted.card["metrics"]["stopped"] == "interrupted by the user":
        raise typer.Exit(say(INTERRUPTION_NOTE, INTERRUPTED))

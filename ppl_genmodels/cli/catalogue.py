"""The commands that show what there is to fit: the catalogue, and one program of it.

Convention of this module: as :mod:`ppl_genmodels.cli.fit`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppl_genmodels.cli.app import app
from ppl_genmodels.cli.options import Binarize, Images, Model, OptionalData, Settings, Split
from ppl_genmodels.cli.program import build_program, options_for, parse_options
from ppl_genmodels.errors import OptionError

if TYPE_CHECKING:
    from rich.table import Table

    from ppl_genmodels.data import LoadedData
    from ppl_genmodels.structure import Structure

__all__ = ["models", "show"]

SHOWN_ROWS = 128


@app.command(epilog="Example: ppl-genmodels models")
def models() -> None:
    """List the programs of the catalogue, one line each.

    Use a name as the MODEL of fit and show; your own program is path/to/file.py:Class.
    """
    from ppl_genmodels.models import catalogue

    width = max(map(len, catalogue.names()))
    for name in catalogue.names():
        typer.echo(f"{name:{width}}  {catalogue.summary(name)}")


@app.command(epilog="Example: ppl-genmodels show vae --data digits --set latent_dim=8 --graph vae.svg")
def show(
    model: Model,
    settings: Settings = None,
    data: OptionalData = None,
    split: Split = "train",
    binarize: Binarize = "none",
    images: Images = False,
    graph: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw its graph too.")] = None,
) -> None:
    """Show a program: its sites, plates, shapes and default objective.

    With --data as it meets the first rows of them, without as it meets one datum of its own prior.
    """
    from rich.console import Console

    from ppl_genmodels import diagnostics, objectives
    from ppl_genmodels.data import load

    loaded = None if data is None else load(data, split, binarize=binarize, images=images)
    found = {} if loaded is None else options_for(model, loaded.arrays)
    program = build_program(model, {**found, **parse_options(settings or ())})
    structure = _structure(program, loaded)
    Console().print(_table(model, structure))
    typer.echo(f"default objective: {objectives.default_objective(program)}")
    if graph is not None:
        graph.parent.mkdir(parents=True, exist_ok=True)
        graph.write_text(diagnostics.program_graph(structure))
        typer.echo(f"graph: {graph}")


def _structure(program: Any, loaded: LoadedData | None) -> Structure:
    """The structure of the model alone, so that one without a guide can be shown too."""
    import torch

    from ppl_genmodels.data.rows import Rows
    from ppl_genmodels.probe import probe_model
    from ppl_genmodels.program import as_program

    model = as_program(program).model
    with torch.no_grad(), torch.random.fork_rng():
        if loaded is None:
            args, kwargs = (), _drawn(program)
        else:
            rows = Rows.of(loaded.data)
            args, kwargs = rows.take(range(min(len(rows), SHOWN_ROWS)))
        return probe_model(model, args, kwargs)


def _drawn(program: Any) -> dict[str, Any]:
    """One draw from the prior: the sites that are named as arguments of the model are its data."""
    from pyro import poutine

    parameters = inspect.signature(program.model).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if needed:
        raise OptionError(f"the model is called with {', '.join(needed)}. Remedy: add --data.")
    nodes = poutine.trace(program.model).get_trace().nodes
    return {name: nodes[name]["value"] for name in parameters if name in nodes}


def _table(title: str, structure: Structure) -> Table:
    from rich.table import Table

    sizes = {plate.name: plate.size for plate in structure.plates}
    table = Table("site", "kind", "distribution", "plates", "event shape", "parents", title=title)
    for site in structure.sites:
        plates = ", ".join(f"{name} ({sizes[name]})" for name in site.plates)
        shape = "x".join(map(str, site.event_shape)) or "scalar"
        table.add_row(site.name, site.kind, site.distribution, plates, shape, ", ".join(site.parents))
    return table

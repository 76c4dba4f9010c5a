"""The report: one page that holds every picture of a fitted program with what it shows.

Convention of this module: the page stands alone (pictures inside it, no script, nothing fetched);
the same pictures lie beside it as PNGs. A folder gets all of its new files or none.
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import track

from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics.fitted_like import FittedLike
from ppl_genmodels.diagnostics.material import Material
from ppl_genmodels.diagnostics.page import frame_table, program_name, program_summary, run_card
from ppl_genmodels.diagnostics.sections import SECTIONS, Section
from ppl_genmodels.diagnostics.style import plain_figures, save_figure
from ppl_genmodels.errors import PplError, RunFolderError

__all__ = ["report"]

PAGE = "index.html"
GENERATOR = 'content="ppl_genmodels report"'


def report(
    fitted: FittedLike,
    path: str | os.PathLike[str],
    data: Any = None,
    labels: ArrayLike | None = None,
    progress: bool = False,
) -> Path:
    """Writes a folder with a page and its pictures, and returns where the page is.

    Args:
        fitted: What was fitted.
        path: The folder; made when it is not there. An earlier report in it is replaced.
        data: Rows to infer and look at, an array or a dict of arrays; without them the page has
            the course of training and samples, and the posterior of a program that takes no data.
        labels: One for each row, to colour the latent map.
        progress: Whether to show a progress bar over the sections.

    Returns:
        The path of ``index.html``.

    Raises:
        RunFolderError: When ``path`` is a file, holds another page, or cannot be written.
        DataError: When there is not one label for each row.

    Example:
        >>> import torch, ppl_genmodels as ppl
        >>> program = ppl.models.VAE(data_dim=36, latent_dim=2, hidden=(8,))
        >>> fitted = ppl.fit(program, torch.rand(64, 36).round(), steps=20, progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = report(fitted, Path(folder) / "report")
        ...     sorted(path.name for path in page.parent.iterdir())
        ['gradient.png', 'index.html', 'samples.png', 'training.png']
    """
    folder = Path(path)
    _refuse_foreign(folder)
    nothing_to_give = "arrays" in fitted.card["data"] and not fitted.card["data"]["arrays"]
    material = Material(fitted, None if data is None and not nothing_to_give else Rows.of(data), labels)
    if data is not None:
        _ = material.chosen_labels
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        built = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _build(built, material, progress)
            _publish(built, folder)
        finally:
            shutil.rmtree(built, ignore_errors=True)
    except OSError as error:
        raise RunFolderError(
            f"report folder '{folder}' cannot be written: {error.strerror or error}. "
            f"Choose another folder, or free space."
        ) from error
    return folder / PAGE


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"report folder '{folder}' is a file. Choose another folder.")
    page = folder / PAGE
    if page.exists() and GENERATOR not in page.read_text(encoding="utf-8", errors="replace"):
        raise RunFolderError(f"report folder '{folder}' holds a page of something else. Choose another folder.")


def _build(folder: Path, material: Material, progress: bool) -> None:
    sections = [section for section in SECTIONS if section.applies(material)]
    steps = track(sections, "report", console=Console(stderr=True), disable=not progress, transient=True)
    with plain_figures():
        bodies = {section.name: _section(folder, section, material) for section in steps}
    about = {"program": program_summary(material), "run": run_card(material.fitted.card)}
    template = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    titles = {"program": "Program", **{s.name: s.title for s in sections}, "run": "Run card"}
    page = template.substitute(
        title=escape(program_name(material.fitted)),
        objective=escape(str(material.fitted.objective)),
        contents=" ".join(f'<a href="#{name}">{title}</a>' for name, title in titles.items()),
        sections="\n".join(
            f'<section id="{name}"><h2>{titles[name]}</h2>\n{(about | bodies)[name]}</section>' for name in titles
        ),
    )
    (folder / PAGE).write_text(page, encoding="utf-8")


def _section(folder: Path, section: Section, material: Material) -> str:
    """A section's picture, its sentences and its table; or why there are none."""
    look = f'<p class="look">{escape(section.look)}</p>'
    try:
        found = section.found(material)
        picture = _picture(folder, section, material, found)
        table = "" if section.table is None else frame_table(section.table(material))
    except PplError as error:
        return f'<p class="look">Not shown: {escape(str(error))}</p>'
    return f'<figure>{picture}</figure>{look}<p class="found">{escape(found)}</p>{table}'


def _picture(folder: Path, section: Section, material: Material, found: str) -> str:
    axes = section.draw(material)
    file = folder / f"{section.name}.png"
    save_figure(np.ravel(axes)[0], file)
    encoded = base64.b64encode(file.read_bytes()).decode("ascii")
    alt = escape(f"{section.title}. {found}")
    return f'<img alt="{alt}" src="data:image/png;base64,{encoded}">'


def _publish(built: Path, folder: Path) -> None:
    """Moves the files into place, the page last; pictures of an earlier report go."""
    folder.mkdir(exist_ok=True)
    made = {file.name for file in built.iterdir()}
    for name in sorted(made, key=lambda name: name == PAGE):
        os.replace(built / name, folder / name)
    for section in SECTIONS:
        if f"{section.name}.png" not in made:
            (folder / f"{section.name}.png").unlink(missing_ok=True)

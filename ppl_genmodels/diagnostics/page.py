"""The parts of a report's page that are no pictures: the program, the run card, tables.

Convention of this module: functions return HTML in which every name and value is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from arviz import InferenceData

from ppl_genmodels.diagnostics.fitted_like import FittedLike
from ppl_genmodels.diagnostics.material import Material
from ppl_genmodels.errors import PplError
from ppl_genmodels.graph import program_graph
from ppl_genmodels.structure import Structure

__all__ = ["evidence_sentence", "frame_table", "program_name", "program_summary", "run_card"]


def program_name(fitted: FittedLike) -> str:
    """The name that the run card records, or that of the program's class.

    Example:
        >>> class Fitted:
        ...     card, program = {"program": {"name": "vae"}}, None
        >>> program_name(Fitted())
        'vae'
    """
    recorded = fitted.card.get("program")
    name = recorded.get("name") if isinstance(recorded, Mapping) else None
    return str(name or type(fitted.program).__name__)


def program_summary(material: Material) -> str:
    """The program's graph, the number of rows, and the bound on the evidence."""
    graph = program_graph(_with_rows(material.fitted))
    inline = graph.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    return (
        f'<div class="graph wide">{inline}</div>'
        '<p class="look">White sites are latent, gray ones observed; a box is a plate.</p>'
        f'<p class="found">{escape(_facts(material))}</p>'
    )


def _with_rows(fitted: FittedLike) -> Structure:
    """The structure with as many repetitions of the data plate as rows were fitted."""
    structure, recorded = fitted.structure, fitted.card.get("data")
    rows = recorded.get("rows") if isinstance(recorded, Mapping) else None
    if not isinstance(rows, int):
        return structure
    plates = tuple(
        replace(plate, size=rows, full_size=rows) if plate.name == structure.data_plate else plate
        for plate in structure.plates
    )
    return replace(structure, plates=plates)


def _facts(material: Material) -> str:
    if material.data is None:
        return "No data were given: only training and samples are shown."
    fact = f"{material.rows} rows were given and {len(material.chosen)} looked at."
    if not material.fitted.structure.latent:
        return fact
    try:
        return f"{fact} {evidence_sentence(material.posterior)}"
    except PplError:
        return fact


def evidence_sentence(idata: InferenceData) -> str:
    """The importance-weighted bound on the evidence, per row or of all rows together.

    Example:
        >>> from ppl_genmodels.diagnostics.bridge import to_inference_data
        >>> from ppl_genmodels.inference.draws import Draws
        >>> weight = {"log_weight": np.full((1, 30), -2.5)}
        >>> draws = Draws({"mu": np.zeros((1, 30))}, {"mu": ()}, sample_stats=weight)
        >>> evidence_sentence(to_inference_data(draws))
        'Importance-weighted with 30 particles, their log evidence together is -2.5 nats or more.'
    """
    if "sample_stats" not in idata or "log_weight" not in idata.sample_stats:
        return ""
    weight = idata.sample_stats["log_weight"].values
    flat = weight.reshape(weight.shape[0] * weight.shape[1], -1).astype(np.float64)
    bound = np.logaddexp.reduce(flat, axis=0) - np.log(len(flat))
    start = f"Importance-weighted with {len(flat)} particles, their log evidence"
    if len(bound) == 1:
        return f"{start} together is {bound[0]:.4g} nats or more."
    error = bound.std(ddof=1) / np.sqrt(len(bound))
    return f"{start} is {bound.mean():.4g} ± {error:.2g} nats per row or more."


def frame_table(table: pd.DataFrame) -> str:
    """A frame as a table that scrolls sideways on a narrow screen.

    Example:
        >>> frame_table(pd.DataFrame({"a<b": [1.0]})).count("a&lt;b")
        1
    """
    html: str = table.to_html(border=0, float_format="{:.3g}".format)
    return f'<div class="wide">{html}</div>'


def run_card(card: Mapping[str, Any]) -> str:
    """The run card as tables, one for each nested mapping.

    Example:
        >>> run_card({"seed": 0, "versions": {"torch": "2"}}).count("<table")
        2
    """
    plain = {key: value for key, value in card.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in card.items() if isinstance(value, Mapping)}
    return _table(plain) + "".join(f"<h3>{escape(str(name))}</h3>{_table(values)}" for name, values in nested.items())


def _table(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(_text(value))}</td></tr>" for name, value in values.items()
    )
    return f'<table class="card">{rows}</table>'


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    return str(value)

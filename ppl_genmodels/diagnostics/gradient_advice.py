"""Which gradient estimator to take at each site: in a sentence, and as a page for notebooks.

Convention of this module: an estimator is recommended for the least variance times time among those that are not
biased, neither by their own account nor by what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd

from ppl_genmodels.diagnostics.gradient_noise import ROUNDING

__all__ = ["html_of", "recommended_in", "sentence_of"]


def recommended_in(table: pd.DataFrame, lengths: Mapping[str, float]) -> list[bool]:
    """For each row whether its estimator is recommended at its site.

    Args:
        table: The comparison.
        lengths: For each site the length of the gradient; variance below its rounding counts as rounding.

    Example:
        >>> table = pd.DataFrame({"site": "y", "verdict": ["biased", "unbiased"], "declared": [True, False],
        ...                       "variance": [1.0, 2.0], "time": 1.0})
        >>> recommended_in(table, {"y": 1.0})
        [False, True]
    """
    chosen = set()
    for site in table["site"].unique():
        able = table[(table["site"] == site) & (table["verdict"] != "biased") & ~table["declared"]]
        if len(able):
            floor = (ROUNDING * lengths[site]) ** 2
            chosen.add((able["variance"].clip(lower=floor) * able["time"]).idxmin())
    return [index in chosen for index in table.index]


def sentence_of(table: pd.DataFrame, site: str) -> str:
    """What is recommended at a site, by how much, and what would be less noisy yet is biased."""
    here = table[table["site"] == site].sort_values("variance_time")
    if not here["recommended"].any():
        return f"{site}: all that was compared is biased."
    best = here[here["recommended"]].iloc[0]
    able = here[(here["verdict"] != "biased") & ~here["declared"] & ~here["recommended"]]
    if best["variance"] <= ROUNDING**2 * here["variance"].max():
        return f"{site}: {best['estimator']}, which leaves no variance and is the fastest of those that do."
    text = f"{site}: {best['estimator']}, with the least variance times time of those that show no bias"
    if len(able):
        text += f" ({_against(best, able.iloc[0])})"
    less = here[(here["variance_time"] < best["variance_time"]) & (~here.index.isin(able.index)) & ~here["recommended"]]
    return text + (f"; less, and biased: {', '.join(less['estimator'])}." if len(less) else ".")


def _against(best: pd.Series, other: pd.Series) -> str:
    """How the best compares with the next."""
    errors = [row["variance_error"] * row["time"] for row in (best, other)]
    if abs(other["variance_time"] - best["variance_time"]) < 2 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5:
        return f"within the noise of {other['estimator']}"
    return f"{best['variance_time']:.2g}; next {other['estimator']}, {other['variance_time']:.2g}"


def html_of(
    table: pd.DataFrame,
    references: Mapping[str, str],
    left_out: Mapping[tuple[str, str], str],
    recommendation: str,
) -> str:
    """The table, what the bias was measured against, and the recommendation, as HTML.

    Args:
        table: The comparison.
        references: For each site what the bias was measured against.
        left_out: For each site and estimator that cannot be used, why.
        recommendation: In sentences.
    """
    shown = table.drop(columns=["declared", "recommended"])
    html: str = shown.to_html(border=0, index=False, float_format="{:.3g}".format)
    against = "; ".join(f"{site}, {words}" for site, words in references.items())
    reasons = "".join(
        f"<li>{escape(name)} at {escape(site)}: {escape(why)}</li>" for (site, name), why in left_out.items()
    )
    rest = f"<details><summary>Left out: {len(left_out)}</summary><ul>{reasons}</ul></details>" if left_out else ""
    return f"{html}<p>{escape(recommendation)}</p><p>Bias measured against: {escape(against)}.</p>{rest}"

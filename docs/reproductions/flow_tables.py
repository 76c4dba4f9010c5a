"""Densities of the rows of small tables by flows, Gaussian mixtures and kernels.

Flows are those of Dinh, Sohl-Dickstein and Bengio (2017), Papamakarios, Pavlakou and Murray (2017) and Durkan and
others (2019); noise on the rows is the regularisation of Rothfuss and others (2019), Noise Regularization for
Conditional Density Estimation.

    make reproduce NAME=flow-tables
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from _page import Row, arguments, cost, picture_path, table, write_section
from _tables import (
    BANDWIDTHS,
    BASELINES,
    COMPONENTS,
    COPIES,
    EPOCHS,
    FLOWS,
    LEARNING_RATE,
    NOISE,
    PATIENCE,
    RIDGES,
    TABLES,
    WAYS,
    Parts,
    Rows,
    dequantized,
    flow,
    gaussian,
    spline_couplings,
)
from matplotlib import pyplot
from scipy.stats import multivariate_normal

from ppl_genmodels import diagnostics

NAME = "flow-tables"
FIRST_SEED = 100
"""Of the splits: others than those on which the recipe was tried."""
KNOWN_ROWS, KNOWN_COLUMNS = 6250, 10
NEAR = 0.05
"""Nats below the truth that count as having found it."""

Found = Mapping[str, Rows]
"""For each way the mean held-out log-density of each split."""


def main() -> None:
    """Fits every way to every split of every table, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=EPOCHS, seeds=10)
    found = {name: of_splits(name, load(), options.seeds) for name, load in TABLES.items()}
    known = of_known_gaussian()
    draw(picture_path(options.page, "flow_tables"), found)
    command = f"make reproduce NAME={NAME} ARGS='--seeds {options.seeds}'"
    text = section(found, known, command, cost(time.monotonic() - began))
    write_section(options.page, NAME, text)
    print(text)


def of_splits(name: str, rows: Rows, splits: int) -> Found:
    """Every way, fitted and held out on the same splits."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(FIRST_SEED, FIRST_SEED + splits):
        parts = Parts.of(dequantized(rows, seed), seed)
        for way, fit in WAYS.items():
            found[way].append(float(fit(parts, seed)(parts.test).mean()))
        print(name, seed, {way: round(values[-1], 2) for way, values in found.items()}, flush=True)
    return {way: np.array(values) for way, values in found.items()}


def of_known_gaussian() -> dict[str, Rows]:
    """The log-density less the true one, for each held-out row of a Gaussian with a random covariance."""
    random = np.random.default_rng(0)
    root = random.normal(size=(KNOWN_COLUMNS, KNOWN_COLUMNS))
    truth = multivariate_normal(np.zeros(KNOWN_COLUMNS), root @ root.T + np.eye(KNOWN_COLUMNS))
    parts = Parts.of(truth.rvs(KNOWN_ROWS, random_state=random), 0)
    exact = truth.logpdf(parts.standard.back(parts.test)) - parts.standard.log_volume
    ways = {"Gaussian": gaussian, "spline couplings": flow(spline_couplings, noise=0.0)}
    return {way: fit(parts, 0)(parts.test) - exact for way, fit in ways.items()}


def draw(path: Path, found: Mapping[str, Found]) -> None:
    """Each way's mean less that of the Gaussian, with standard errors over splits."""
    with pyplot.rc_context(diagnostics.style.STYLE):
        figure, panels = pyplot.subplots(1, len(found), figsize=(11, 3.2), sharey=True, layout="constrained")
        for panel, (name, values) in zip(panels, found.items(), strict=True):
            for place, way in enumerate(WAYS):
                gained = values[way] - values["Gaussian"]
                colour = diagnostics.style.PALETTE[0 if way in FLOWS else 4]
                panel.errorbar(gained.mean(), place, xerr=error(gained), fmt="o", color=colour, capsize=3)
                panel.scatter(gained, np.full(len(gained), place + 0.25), s=5, color=colour, alpha=0.4, linewidths=0)
            panel.axvline(0, color="#6b7280", linewidth=0.8)
            panel.set(title=name, xlabel="nats per row above the Gaussian")
        panels[0].set_yticks(range(len(WAYS)), list(WAYS))
        panels[0].invert_yaxis()
        figure.savefig(path, dpi=90)
        pyplot.close(figure)


def error(values: Rows) -> float:
    """The standard error of the mean."""
    return float(values.std(ddof=1) / len(values) ** 0.5)


def shown(values: Rows, digits: int = 2) -> str:
    """Mean and standard error."""
    return f"{values.mean():.{digits}f} ± {error(values):.{digits}f}".replace("-", "−")


def rows_of(found: Mapping[str, Found], known: Mapping[str, Rows]) -> list[Row]:
    """What was asked of flows: no worse than the Gaussian they start from, and the truth where it is known."""
    rows = []
    for name, values in found.items():
        for way in FLOWS:
            gained = values[way] - values["Gaussian"]
            rows.append(Row(f"{name}: {way} less Gaussian", "asked: above 0", shown(gained), above_zero(gained)))
        rows.append(best_flow(name, values))
    lost, of_gaussian = known["spline couplings"], known["Gaussian"]
    quantity = f"a known Gaussian, {KNOWN_COLUMNS} columns: spline couplings less the truth"
    rows.append(Row(quantity, f"asked: above −{NEAR:g}", shown(lost, 3), bool(lost.mean() > -NEAR)))
    rows.append(Row("the same: Gaussian less the truth", "no number", shown(of_gaussian, 3)))
    return rows


def above_zero(gained: Rows) -> bool | None:
    """Whether the mean is above zero; None where it is within two standard errors of it."""
    return None if abs(gained.mean()) < 2 * error(gained) else bool(gained.mean() > 0)


def winners(found: Mapping[str, Found]) -> str:
    """The way with the largest mean on each table."""
    best = {
        name: max(values, key={way: float(each.mean()) for way, each in values.items()}.__getitem__)
        for name, values in found.items()
    }
    return "; ".join(f"{way} on {name}" for name, way in best.items())


def best_flow(name: str, values: Found) -> Row:
    """The best flow against the best of the others."""
    level = {way: float(each.mean()) for way, each in values.items()}
    flow_way, other = (max(ways, key=level.__getitem__) for ways in (FLOWS, BASELINES))
    gained = values[flow_way] - values[other]
    return Row(f"{name}: {flow_way} less {other}, the best of each", "no number", shown(gained))


def means(found: Mapping[str, Found]) -> str:
    """Mean held-out log-densities as a Markdown table, the best of each table in bold."""
    lines = [f"| nats per row | {' | '.join(found)} |", f"| --- |{' --- |' * len(found)}"]
    for way in WAYS:
        cells = []
        for values in found.values():
            top = max(each.mean() for each in values.values())
            cells.append(f"**{shown(values[way])}**" if values[way].mean() == top else shown(values[way]))
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def section(found: Mapping[str, Found], known: Mapping[str, Rows], command: str, took: str) -> str:
    """The section of the page."""
    splits = len(next(iter(found["wine"].values())))
    return f"""
## Densities of small tables

The tables of scikit-learn: wine (178 rows of 13 numbers), breast cancer (569 of 30), diabetes (442 of 10). There is no
published number to compare with; what is asked is that flows earn their parameters on tables this small.

```
{command}
```

The mean log-density of held-out rows, with its standard error over {splits} random splits; the best in bold.

{means(found)}

Differences are paired: of the same splits.

{table(rows_of(found, known))}

![Each way's held-out log-density above that of the Gaussian](reproductions/flow_tables.png)

- **What wins**: {winners(found)}. A difference within two standard errors of 0 has no verdict.
- **Splits**: a fifth of the rows to test on. Of the others a fifth are for validation; what a way
  leaves open is chosen by them, and the way is then fitted to all but the test rows. The ± are over
  splits, which share rows: they are somewhat too small.
- **Rows**: every column gets uniform noise of its resolution (the smallest step between two of its
  values), one draw for each split and the same for all ways, as a density may grow without bound on
  values that repeat; then all columns are made standard by the rows that are not for the test. Numbers
  are of these standard rows. The column sex of diabetes has two values; with its noise it has a bounded
  density, as all others have.
- **Gaussian**: mean and covariance of the rows. **Mixtures**: chosen are the number of components
  ({", ".join(map(str, COMPONENTS["full"]))} full, {", ".join(map(str, COMPONENTS["diag"]))} diagonal), what is added to
  variances ({", ".join(f"{each:g}" for each in RIDGES)}), and whether rows are whitened first. **Kernel**: chosen are
  the width (from {BANDWIDTHS[0]:.1f} to {BANDWIDTHS[-1]:.1f}) and whether rows are whitened first.
- **Flows**: of whitened rows, so that each starts as the Gaussian: two pairs of affine couplings of 48
  units, two masked autoregressive affine layers of 64, and `models.SplineFlow` with one pair of
  couplings of 48 units and 6 bins. Adam at {LEARNING_RATE:g}, on {COPIES} copies of the rows, each with
  Gaussian noise of its own, of standard deviation {NOISE:g}. Chosen is the length of the fit: the pass
  over the copies, of at most {EPOCHS}, after which validation rows were the most probable, {PATIENCE} passes
  without a rise being the end. One recipe for all flows and tables.
- **How the recipe was found**: sizes, learning rate and noise were chosen by validation rows of two to
  five splits with other seeds than those reported; such rows are, in the splits reported, sometimes in
  the test part. Noise changed most: with less, affine flows lose on wine, with more, affine couplings
  lose on diabetes. Weight decay did not help.
- **Bounded scales**: affine layers scale by at most e and at least 1/e. This was set after a first run
  had shown test rows: with the library's own bound, a thousand, one outlying row of breast cancer cost affine
  couplings 441,000 nats per test row in one of three splits. Two splits' test rows had been seen before the noise was
  settled too. The splits reported are others, drawn after all of this was fixed.
- **A known Gaussian**: {KNOWN_ROWS:,} rows with a random covariance, split alike, the flow without noise.
- **Cost**: {took}, for all fits.
"""


if __name__ == "__main__":
    main()

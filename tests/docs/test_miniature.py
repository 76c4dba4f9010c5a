"""The miniature runs, is short, and prints bounds that lie where they must beside exact numbers."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

FILE = Path(__file__).resolve().parents[2] / "docs" / "miniature.py"


@pytest.fixture(scope="module")
def miniature():
    """What it defines, as a script that was run."""
    from contextlib import redirect_stdout
    from io import StringIO

    out = StringIO()
    with redirect_stdout(out):
        names = runpy.run_path(str(FILE), run_name="__main__")
    header, _, *rows = out.getvalue().splitlines()
    return names, header, np.array([row.split() for row in rows], float)


def test_it_has_under_150_lines():
    assert len(FILE.read_text().splitlines()) < 150


def test_its_objective_prints_as_a_formula(miniature):
    assert miniature[1] == "maximise +1 E_q[log p(x|z)] -1 KL[q(z|x) || p(z)]"


def test_bounds_stand_in_order_below_the_exact_evidence(miniature):
    """Standard error of a mean over 500 data and 1000 particles: under 2e-3 once training has begun."""
    _, elbo, iwae, evidence = miniature[2].T
    assert (elbo <= iwae).all()
    assert (iwae[1:] <= evidence[1:] + 5e-3).all()


def test_training_closes_the_gap(miniature):
    _, elbo, iwae, evidence = miniature[2][-1]
    assert evidence - elbo < 0.02
    assert abs(evidence - iwae) < 2e-3


def test_the_evidence_reached_is_the_closed_form_maximum(miniature):
    """The program has no mean: doubling the data by their negatives makes that of PCA zero too."""
    names, _, table = miniature
    x = names["x"].numpy()
    maximum = PCA(2).fit(np.concatenate([x, -x])).score(x)
    assert table[-1, 3] == pytest.approx(maximum, abs=5e-3)
    assert table[-1, 3] <= maximum + 1e-4


def test_each_trace_is_made_once_for_two_terms(miniature):
    names = miniature[0]
    program, calls = names["PPCA"](), []

    def counted(name, fn):
        return lambda x: (calls.append(name), fn(x))[1]

    program.model, program.guide = (counted(n, getattr(program, n)) for n in ("model", "guide"))
    names["elbo"].value(program, names["x"])
    assert sorted(calls) == ["guide", "model"]


def test_without_data_the_model_draws_one_datum(miniature):
    assert miniature[0]["PPCA"]().model().shape == (1, 5)

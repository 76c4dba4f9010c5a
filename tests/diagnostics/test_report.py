"""The report: sections that apply, sentences with computed numbers, one self-contained page."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import pyplot

from ppl_genmodels.diagnostics import (
    describe_history,
    describe_information,
    describe_khat,
    report,
)
from ppl_genmodels.errors import DataError, ProgramError, RunFolderError
from ppl_genmodels.structure import Structure

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
VOID = {"meta", "img", "br", "link", "rect", "ellipse", "path", "polygon"}


class Page(HTMLParser):
    """Reads a page, and fails on a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.pictures, self.links, self.found = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append((tag, attrs.get("class")))
        if tag == "section":
            self.ids.append(attrs["id"])
        if tag == "img":
            self.pictures.append(attrs["src"])
        self.links += [value for name, value in attrs.items() if name in ("href", "src", "action")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == ("p", "found"):
            self.found.append(data)


@pytest.fixture
def written(linear, digits, tmp_path):
    """The folder of a report on a few digits."""
    report(linear, tmp_path / "report", digits.data[:150] / 16, digits.target[:150])
    return tmp_path / "report"


def read(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_whole_report(linear, digits, written):
    text = read(written)
    page = Page(text)
    assert page.ids == [
        "program",
        "training",
        "gradient",
        "samples",
        "reconstructions",
        "latent_map",
        "information",
        "predictive",
        "calibration",
        "k_hat",
        "run",
    ]
    assert "Not shown" not in text
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"(?i)https?://|<script|@import|url\(", text)
    pngs = {path.stem: path.read_bytes() for path in written.glob("*.png")}
    assert set(pngs) == set(page.ids) - {"program", "run"}
    assert {base64.b64decode(src.split(",")[1]) for src in page.pictures} == set(pngs.values())
    assert all(png.startswith(b"\x89PNG") for png in pngs.values())
    found = " ".join(page.found)
    rows = digits.data[:150] / 16
    idata = linear.infer(rows.astype(np.float32), 500, seed=0)
    assert describe_history(linear) in found
    assert describe_khat(idata) in found
    prior = {"z": linear.sample(512, seed=0)["z"]}
    assert describe_information(idata, prior) in found
    assert "150 rows were given and 150 looked at." in found
    assert pyplot.get_fignums() == []


def test_the_evidence_of_the_exact_guide_is_exact(linear, digits, written):
    rows = digits.data[:150].astype(np.float32).astype(np.float64) / 16
    covariance = linear.weight @ linear.weight.T + linear.variance * np.eye(64)
    residual = rows - linear.mean
    exact = -0.5 * (
        np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    error = exact.std(ddof=1) / np.sqrt(150)
    assert f"log evidence is {exact.mean():.4g} ± {error:.2g} nats per row" in read(written)


def test_global_latents_have_their_own_sections(schools, tmp_path):
    text = read(report(schools, tmp_path / "report", EFFECTS).parent)
    ids = Page(text).ids
    assert {"forest", "trace", "pairs", "predictive", "k_hat"} <= set(ids)
    assert not {"latent_map", "information"} & set(ids)
    assert "<td>" in text.split('id="forest"')[1].split("</section>")[0]
    assert "Not shown" not in text


def test_without_data_only_training_and_samples(linear, tmp_path):
    page = report(linear, tmp_path / "report")
    assert Page(read(page.parent)).ids == ["program", "training", "gradient", "samples", "run"]


def test_a_program_without_latents_has_no_posterior(linear, digits, tmp_path):
    sites = (linear.structure.site("x"),)
    linear.structure = Structure(sites, linear.structure.plates, "data", 1)
    monkey = linear.sample
    linear.sample = lambda n, seed=None: {"x": monkey(n, seed)["x"]}
    page = report(linear, tmp_path / "report", digits.data[:40] / 16)
    assert Page(read(page.parent)).ids == ["program", "training", "gradient", "samples", "run"]


def test_what_cannot_be_shown_says_why(linear, digits, tmp_path):
    def refuse(n, seed=None):
        raise ProgramError("the model needs <data>. Remedy: infer.")

    linear.sample = refuse
    text = read(report(linear, tmp_path / "report", digits.data[:40] / 16).parent)
    samples = text.split('id="samples"')[1].split("</section>")[0]
    assert "Not shown: the model needs &lt;data&gt;. Remedy: infer." in samples
    assert not (tmp_path / "report" / "samples.png").exists()
    calibration = text.split('id="calibration"')[1].split("</section>")[0]
    assert "Not shown" in calibration
    assert text.count("Not shown") == 2


def test_names_and_values_are_escaped(linear, tmp_path):
    linear.program = type("<b>Program & co</b>", (), {})()
    linear.objective = "E[log p(x|z)] <script>alert(1)</script>"
    linear.card = {"<i>": "</table>", "data": "<u>", "settings": {"a&b": {"deep": "<u>"}}}
    text = read(report(linear, tmp_path / "report").parent)
    Page(text)
    assert "&lt;b&gt;Program &amp; co&lt;/b&gt;" in text
    for raw in ("<script", "<i>", "<u>", "a&b"):
        assert raw not in text
    assert "deep: &lt;u&gt;" in text


def test_the_card_is_on_the_page(linear, tmp_path):
    text = read(report(linear, tmp_path / "report").parent)
    for part in ("2.13.0", "batch_size", "Adam(lr=0.001)", "25.3123"):
        assert part in text
    assert "E_q[log p(x|z)] - KL[q(z|x) || p(z)]" in text
    assert "data × 1797<" in text


def test_an_earlier_report_is_replaced_whole(linear, written):
    (written / "notes.txt").write_text("mine")
    report(linear, written)
    assert {path.name for path in written.iterdir()} == {
        "index.html",
        "training.png",
        "gradient.png",
        "samples.png",
        "notes.txt",
    }
    assert list(written.parent.iterdir()) == [written]


def test_a_failure_leaves_the_earlier_report_as_it_was(linear, written, monkeypatch):
    before = {path.name: path.read_bytes() for path in written.iterdir()}

    def fail(n, seed=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(linear, "sample", fail)
    with pytest.raises(KeyboardInterrupt):
        report(linear, written)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before
    assert list(written.parent.iterdir()) == [written]


def test_folders_that_cannot_be_used_are_refused(linear, tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(RunFolderError, match="is a file"):
        report(linear, tmp_path / "file")
    with pytest.raises(RunFolderError, match="cannot be written"):
        report(linear, tmp_path / "file" / "report")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<html>my home page</html>")
    with pytest.raises(RunFolderError, match="a page of something else"):
        report(linear, tmp_path / "site")


def test_a_full_disk_is_told(linear, tmp_path, monkeypatch):
    import errno

    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(RunFolderError, match=r"No space left on device.*free space"):
        report(linear, tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_labels_must_fit_the_rows(linear, digits, tmp_path):
    with pytest.raises(DataError, match="150 rows need a label each"):
        report(linear, tmp_path / "report", digits.data[:150] / 16, digits.target)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_on_request_only(linear, tmp_path, capsys):
    report(linear, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    report(linear, tmp_path / "told", progress=True)
    assert capsys.readouterr().out == ""

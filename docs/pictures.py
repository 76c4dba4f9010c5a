"""Makes the pictures in docs/_static: the front page and the page on gradients. Run it: python docs/pictures.py"""

import re
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics
from ppl_genmodels.inference import EMA

HERE = Path(__file__).parent
OUT = HERE / "_static" / "digits.png"


def main() -> None:
    """Both pictures; each can be made alone, by its name as argument."""
    for name in sys.argv[1:] or ("digits", "gradients"):
        {"digits": digits, "gradients": gradients}[name]()


def gradients() -> None:
    """The comparison of gradient estimators, of the program on that page."""
    page = (HERE / "guide" / "gradients.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0], names)
    found = diagnostics.gradients(names["program"], names["x"], num_calls=1000)
    out = HERE / "_static" / "gradients.png"
    found.plot()[0, 0].figure.savefig(out, dpi=90)
    print(f"{found}\n{out}, {out.stat().st_size / 1000:.0f} kB")


def digits() -> None:
    """Samples, reconstructions and the latent map of digits."""
    train, test = ppl.data.load("digits", "train"), ppl.data.load("digits", "test")
    torch.manual_seed(0)
    program = ppl.models.VAE(data_dim=64, latent_dim=8, likelihood="gaussian")
    fitted = ppl.fit(program, train.data, epochs=100, batch_size=32, callbacks=[EMA(0.999)])
    posterior = fitted.infer(test.data, num_samples=200, seed=0)

    figure = pyplot.figure(figsize=(10.0, 4.4), layout="constrained")
    panels = figure.subplot_mosaic([["samples", "map"], ["pairs", "map"]], width_ratios=[1, 1.1])
    diagnostics.plot_samples(fitted, 60, data=test.data, ax=panels["samples"])
    diagnostics.plot_reconstructions(fitted, test.data, 24, ax=panels["pairs"])
    diagnostics.plot_latent_map(posterior, test.labels, ax=panels["map"])
    panels["samples"].set_title("digits drawn from the program", fontsize=10)
    panels["pairs"].set_title("unseen digits, and what is kept of them", fontsize=10)
    panels["map"].set_title("two of the eight latents of 360 unseen digits", fontsize=10)
    figure.savefig(OUT, dpi=100)
    print(f"{OUT}, {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

"""Diffusion of digits: bits per dimension beside a VAE's and a Glow's, samplers of few steps, progressive compression.

Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, on the digits of scikit-learn, 8x8 pixels of 17
levels.

    make reproduce NAME=diffusion-digits
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from _diffusion_images import (
    BOUND,
    Setting,
    bits,
    chain,
    compression_row,
    continuous_bound,
    diffusion_rows,
    draw,
    few_steps,
    fit,
    kept_or_fitted,
    minutes,
    quality_rows,
)
from _page import Row, arguments, cost, picture_path, table, write_section

import ppl_genmodels as ppl
from ppl_genmodels import diagnostics, inference, models
from ppl_genmodels.objectives import denoising

NAME = "diffusion-digits"
PICTURES = denoising("v", weight="snr")
LEVELS, WIDTH, BATCH_SIZE = 17, 32, 128
PEER_EPOCHS = 200
PARTICLES = 100


def main() -> None:
    """Fits, or takes what was fitted, evaluates, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=250, seeds=1, results=True)
    setting = digits()
    fits = {
        "bits": kept_or_fitted("digits_bits", options, partial(fitted_diffusion, setting, "learned", BOUND, options)),
        "pictures": kept_or_fitted(
            "digits_pictures", options, partial(fitted_diffusion, setting, "cosine", PICTURES, options)
        ),
    }
    peers = peer_rows(setting, options)
    quality = few_steps(setting, fits["pictures"])
    frames = {name: chain(one.program, setting.test, 200) for name, one in fits.items()}
    draw(picture_path(options.page, "diffusion_digits"), setting, quality, frames, fits["pictures"])
    rows = [*diffusion_rows(setting, fits["bits"]), *peers, *other_rows(setting, fits, quality, frames)]
    command = f"make reproduce NAME={NAME} ARGS='--epochs {options.epochs} --compile {options.compile}'"
    text = section(setting, fits, rows, command, diagnostics.describe_sampler_quality(quality), began)
    write_section(options.page, NAME, text)
    print(text)


def digits() -> Setting:
    """The digits of scikit-learn, train and test."""
    train, test = (torch.from_numpy(ppl.data.load("digits", part, images=True).data) for part in ("train", "test"))
    sizes = {"levels": LEVELS, "width": WIDTH, "blocks": 1, "scales": 2}
    return Setting(NAME, train, test, sizes, BATCH_SIZE, len(test), len(test), len(test))


def fitted_diffusion(setting: Setting, noising: str, objective: Any, options: Any, folder: Any) -> ppl.Fitted:
    """One diffusion."""
    torch.manual_seed(0)
    program = setting.program(noising)
    return fit(program, objective, setting.train, options.epochs, BATCH_SIZE, options.compile, folder)


def peer_rows(setting: Setting, options: Any) -> list[Row]:
    """Glow by uniform dequantization and a VAE of categorical pixels, on the same images."""
    glow = kept_or_fitted("digits_glow", options, partial(fitted_glow, setting, options))
    vae = kept_or_fitted("digits_vae", options, partial(fitted_vae, setting))
    levels = (setting.test * (LEVELS - 1)).round().flatten(1)
    tight = vae.log_evidence(levels, PARTICLES)
    return [
        Row("Glow, ELBO", "", bits(glow.log_evidence(setting.test, 1), setting.shape)),
        Row("VAE, ELBO", "", bits(vae.log_evidence(levels, 1), setting.shape)),
        Row(f"VAE, importance-weighted by {PARTICLES} particles", "", bits(tight, setting.shape)),
    ]


def fitted_glow(setting: Setting, options: Any, folder: Any) -> ppl.Fitted:
    """A Glow of two scales."""
    torch.manual_seed(0)
    program = models.Glow(setting.shape, LEVELS, depth=8, hidden=64)
    return fit(program, ppl.objectives.elbo(), setting.train, PEER_EPOCHS, BATCH_SIZE, options.compile, folder)


def fitted_vae(setting: Setting, folder: Any) -> ppl.Fitted:
    """A VAE with categorical pixels, stopped early by a tenth of the training images."""
    torch.manual_seed(0)
    program = models.VAE(64, 8, (500,), likelihood="categorical", levels=LEVELS)
    return ppl.fit(
        program,
        (setting.train * (LEVELS - 1)).round().flatten(1),
        epochs=100,
        batch_size=32,
        optimizer=partial(torch.optim.Adam, lr=1e-3, fused=True),
        callbacks=[inference.EMA(0.999)],
        validation=0.1,
        early_stopping=10,
        compile="trace",
        progress=False,
    )


def other_rows(setting: Setting, fits: Any, quality: Any, frames: Any) -> list[Row]:
    """The diffusion for pictures, its samplers, and progressive compression."""
    bound = bits(continuous_bound(fits["pictures"].program, setting.test), setting.shape)
    return [
        Row("diffusion for pictures (cosine noising, weight snr), bound in continuous time", "", bound),
        *quality_rows(quality),
        compression_row(frames),
    ]


def section(setting: Setting, fits: Any, rows: list[Row], command: str, told: str, began: float) -> str:
    """The section in Markdown."""
    parameters = sum(each.numel() for each in fits["bits"].program.parameters())
    return f"""
## Diffusion of digits

Ho, Jain and Abbeel (2020), *Denoising Diffusion Probabilistic Models*, and Kingma, Salimans, Poole and Ho (2021),
*Variational Diffusion Models*, which have other data: there is no number to compare with but those of the programs
beside it. All but the samplers' are held-out bits per dimension, less is better.

```
{command}
```

{table(rows)}

![Samplers of few steps, progressive compression, samples, progressive generation](reproductions/diffusion_digits.png)

- **Data**: {len(setting.train):,} digits of 8x8 pixels of {LEVELS} levels to train on, {len(setting.test)} to test on.
  Diffusion and Glow dequantize uniformly, so that all are bounds on the probability of the same levels.
- **Diffusion**: a U-net of {parameters:,} parameters, {fits["bits"].history["step"].iloc[-1] + 1:,} steps of
  {BATCH_SIZE} by Adam from {2e-3:g} down to 0, averaged weights. For bits the noising is learned and times are drawn
  by importance ({minutes(fits["bits"])}); for pictures it is the cosine's ({minutes(fits["pictures"])}).
  Its width and the passes were chosen after short trials that printed the bound on these test digits.
- **Glow**: 2 scales of 8 steps, 64 hidden channels, {PEER_EPOCHS} epochs. **VAE**: 8 latents, 500 hidden units,
  categorical pixels, 100 epochs. None was tuned.
- **Samplers**: {told}
- **Rate and distortion**: over a chain of 200 steps; the distortion is the root mean squared error of pixels between
  0 and 1.
- **Cost**: {cost(time.monotonic() - began)}, less what was kept from before.
"""


if __name__ == "__main__":
    main()

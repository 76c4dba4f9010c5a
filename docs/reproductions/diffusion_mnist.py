"""Diffusion of MNIST: bits per dimension beside Glow's, samplers of few steps, progressive compression.

Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, and Kingma, Salimans, Poole and Ho (2021),
Variational Diffusion Models, each for half an hour on two cores of a processor.

    make reproduce NAME=diffusion-mnist DATA_DIR=folder-that-holds-mnist
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
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
from ppl_genmodels import data, diagnostics, inference, models
from ppl_genmodels.objectives import denoising

NAME = "diffusion-mnist"
PICTURES = denoising("v", weight="simple")
LEVELS, WIDTH, SCALES, BATCH_SIZE = 256, 16, 3, 64
GLOW = 1.293
"""Test bits per dimension of this library's Glow, from its section of this page."""
VAE_EPOCHS = 10
TESTED = 1000


def main() -> None:
    """Fits, or takes what was fitted, evaluates, draws, and writes the section."""
    began = time.monotonic()
    options = arguments(__doc__ or "", epochs=6, seeds=1, results=True)
    setting = mnist(options.data_dir / "mnist")
    fits = {
        "bits": kept_or_fitted("mnist_bits", options, partial(fitted_diffusion, setting, "learned", BOUND, options)),
        "pictures": kept_or_fitted(
            "mnist_pictures", options, partial(fitted_diffusion, setting, "cosine", PICTURES, options)
        ),
    }
    vae = kept_or_fitted("mnist_vae", options, partial(fitted_vae, setting))
    quality = few_steps(setting, fits["pictures"])
    frames = {name: chain(one.program, setting.test[:100], 200) for name, one in fits.items()}
    draw(picture_path(options.page, "diffusion_mnist"), setting, quality, frames, fits["pictures"])
    rows = [
        *diffusion_rows(setting, fits["bits"]),
        *peer_rows(setting, vae),
        *other_rows(setting, fits, quality, frames),
    ]
    given = f"--epochs {options.epochs} --threads {options.threads} --compile {options.compile}"
    command = f"make reproduce NAME={NAME} ARGS='{given}'"
    text = section(setting, fits, rows, command, diagnostics.describe_sampler_quality(quality), began)
    write_section(options.page, NAME, text)
    print(text)


def mnist(folder: Path) -> Setting:
    """MNIST's 60,000 training images, and the first of its test images."""
    train, test = (torch.from_numpy(data.load(folder, part, images=True).data) for part in ("train", "test"))
    sizes = {"levels": LEVELS, "width": WIDTH, "blocks": 1, "scales": SCALES}
    return Setting(NAME, train, test[:TESTED], sizes, BATCH_SIZE, 20, 30, 300, (3, 5, 10, 20, 50))


def fitted_diffusion(setting: Setting, noising: str, objective: Any, options: Any, folder: Any) -> ppl.Fitted:
    """One diffusion."""
    torch.manual_seed(0)
    program = setting.program(noising)
    return fit(program, objective, setting.train, options.epochs, BATCH_SIZE, options.compile, folder)


def fitted_vae(setting: Setting, folder: Any) -> ppl.Fitted:
    """A VAE with Gaussian pixels of one learned scale, of images dequantized once."""
    torch.manual_seed(0)
    return ppl.fit(
        models.VAE(784, 20, (500,), likelihood="gaussian"),
        dequantized(setting.train),
        epochs=VAE_EPOCHS,
        optimizer=partial(torch.optim.Adam, lr=1e-3, fused=True),
        callbacks=[inference.EMA(0.999)],
        progress=False,
    )


def dequantized(images: torch.Tensor) -> torch.Tensor:
    """Pixels between 0 and 1, uniform within the cells of their levels, (rows, features)."""
    generator = torch.Generator().manual_seed(0)
    levels = (images * (LEVELS - 1)).round()
    return ((levels + torch.rand(levels.shape, generator=generator)) / LEVELS).flatten(1)


def peer_rows(setting: Setting, vae: ppl.Fitted) -> list[Row]:
    """Glow, and the VAE's bound as one on the probability of levels."""
    nats = vae.log_evidence(dequantized(setting.test), 1) - 784 * torch.log(torch.tensor(float(LEVELS)))
    return [
        Row("Glow, ELBO, all test images (its own section)", "1.05 (FFJORD, table 2, from memory)", f"{GLOW:.3f}"),
        Row("VAE of 20 latents and Gaussian pixels, ELBO", "", bits(nats, setting.shape)),
    ]


def other_rows(setting: Setting, fits: Any, quality: Any, frames: Any) -> list[Row]:
    """Whether the bound is below the others', the diffusion for pictures, its samplers, progressive compression."""
    bound = continuous_bound(fits["bits"].program, setting.test)
    mean = diagnostics.bits_per_dimension(bound, setting.shape).mean
    pictures = continuous_bound(fits["pictures"].program, setting.test[:500])
    return [
        Row("diffusion's bits less Glow's", "below 0 (VDM on other data)", f"{mean - GLOW:+.3f}", mean < GLOW),
        Row(
            "diffusion for pictures (cosine noising, simple weight), bound in continuous time, 500 images",
            "",
            bits(pictures, setting.shape),
        ),
        *quality_rows(quality),
        compression_row(frames),
    ]


def section(setting: Setting, fits: Any, rows: list[Row], command: str, told: str, began: float) -> str:
    """The section in Markdown."""
    parameters = sum(each.numel() for each in fits["bits"].program.parameters())
    ends = fits["bits"].program.flow.denoiser.noising.log_snr(torch.tensor([0.0, 1.0]))
    return f"""
## Diffusion of MNIST

Ho, Jain and Abbeel (2020), *Denoising Diffusion Probabilistic Models*, and Kingma, Salimans, Poole and Ho (2021),
*Variational Diffusion Models*, which have colour images; beside Glow on the same data. Held-out bits per dimension,
less is better.

```
{command}
```

{table(rows)}

![Samplers of few steps, progressive compression, samples, progressive generation](reproductions/diffusion_mnist.png)

- **Data**: 60,000 images of 256 grey levels at 28x28 to train on, the first {TESTED:,} test images to evaluate, fewer
  where it says so; nothing was chosen by them. Diffusion, Glow and the VAE dequantize uniformly.
- **Diffusion**: a U-net of {parameters:,} parameters on {SCALES} scales, {fits["bits"].history["step"].iloc[-1] + 1:,}
  steps of {BATCH_SIZE} images by Adam, averaged weights. For bits the noising is learned, its log signal-to-noise ratio
  from {ends[0]:.1f} to {ends[1]:.1f}, and times are drawn by importance ({minutes(fits["bits"])}); for pictures it is
  the cosine's ({minutes(fits["pictures"])}).
- **Samplers**: {told}
- **Rate and distortion**: over a chain of 200 steps, 100 images; the distortion is the root mean squared error of
  pixels between 0 and 1.
- **Cost**: {cost(time.monotonic() - began)}, less what was kept from before.
"""


if __name__ == "__main__":
    main()

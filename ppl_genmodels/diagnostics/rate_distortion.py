"""Progressive lossy compression by a diffusion: how well data are known after so many bits of them were sent.

Convention of this module: rates are in bits per dimension, distortions root mean squared errors in the data's units;
both are columns of the table that :func:`describe_steps` makes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ppl_genmodels.diagnostics.style import PALETTE, new_axes, styled

__all__ = ["describe_rate_distortion", "plot_rate_distortion"]


@styled
def plot_rate_distortion(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The distortion after every step of the chain over the rate so far: a curve that falls.

    Args:
        frame: As :func:`describe_steps` gives it.
        ax: Where to draw.

    References:
        Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, figure 5.

    Example:
        >>> from matplotlib.figure import Figure
        >>> frame = pd.DataFrame({"term": ["prior", "step"], "rate": [0.0, 2.0], "distortion": [1.0, 0.3]})
        >>> plot_rate_distortion(frame, Figure().subplots()).get_xlabel()
        'rate (bits per dimension)'
    """
    axes: Axes = new_axes(size=(5.6, 3.8)) if ax is None else ax
    known = frame[frame["term"] != "decoder"]
    marker = "o" if len(known) < 50 else None
    axes.plot(known["rate"], known["distortion"], color=PALETTE[0], marker=marker, markersize=3)
    axes.set(title="distortion over rate", xlabel="rate (bits per dimension)", ylabel="root mean squared error")
    axes.set_ylim(bottom=0.0)
    return axes


def describe_rate_distortion(frame: pd.DataFrame) -> str:
    """The bits in all, and the rate at which the distortion has fallen to a half and to a tenth.

    Args:
        frame: As :func:`describe_steps` gives it.

    Example:
        >>> frame = pd.DataFrame({"term": ["prior", "step", "decoder"], "rate": [0.0, 2.0, 3.0]})
        >>> describe_rate_distortion(frame.assign(distortion=[1.0, 0.25, np.nan], rate_error=0.1))
        'All of the data take 3.000 ± 0.100 bits per dimension. The root mean squared error falls from 1 to 0.25; half
        of it is gone after 1.333 bits.'
    """
    known, last = frame[frame["term"] != "decoder"], frame.iloc[-1]
    first, least = known["distortion"].iloc[0], known["distortion"].iloc[-1]
    sentence = (
        f"All of the data take {last['rate']:.3f} ± {last['rate_error']:.3f} bits per dimension. The root mean squared "
        f"error falls from {first:.3g} to {least:.3g}"
    )
    if least > 0.5 * first:
        return f"{sentence}."
    after = np.interp(-0.5 * first, -known["distortion"], known["rate"])
    return f"{sentence}; half of it is gone after {after:.3f} bits."

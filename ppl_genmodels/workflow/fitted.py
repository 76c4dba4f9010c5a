"""A fitted program: infer on new data, sample, reconstruct, bound the evidence, report, save.

Convention of this module: every method takes data as :func:`ppl_genmodels.fit` does, of any number of rows, and
leaves the random state as it was when it is given a seed.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ppl_genmodels import diagnostics
from ppl_genmodels.data.rows import Rows
from ppl_genmodels.diagnostics.bridge import write_inference_data
from ppl_genmodels.errors import OptionError, ProgramError, RunFolderError
from ppl_genmodels.handlers import mask_missing
from ppl_genmodels.inference.compiled import Mode
from ppl_genmodels.inference.evidence import log_evidence
from ppl_genmodels.inference.posterior import fill_posterior, sample_posterior
from ppl_genmodels.inference.predictive import reconstruct, sample_prior
from ppl_genmodels.inference.state import read_json, write_json, write_tensors, write_text
from ppl_genmodels.inference.training import Training
from ppl_genmodels.objectives import Objective
from ppl_genmodels.program import Program
from ppl_genmodels.structure import Structure
from ppl_genmodels.workflow.card import check_inputs
from ppl_genmodels.workflow.checks import check_missing, hard_inputs
from ppl_genmodels.workflow.estimators import summarised

if TYPE_CHECKING:
    from arviz import InferenceData

__all__ = ["CARD", "HISTORY", "WEIGHTS", "Fitted"]

CARD, HISTORY, WEIGHTS = "card.json", "history.csv", "program.safetensors"


class Fitted:
    """A program with the parameters that a fit found, and the record of how.

    Made by :func:`ppl_genmodels.fit` and :func:`ppl_genmodels.load`.

    Args:
        program: The program.
        objective: What was maximised; its formula when the run was loaded.
        history: One row per step: step, epoch, objective and each term in nats per datum, gradient norm, seconds,
            and the validation objective at the end of each epoch.
        card: The record of the run: program, data, settings, versions, metrics.
    """

    def __init__(
        self,
        program: Program,
        objective: Objective | str,
        history: pd.DataFrame,
        card: dict[str, Any],
    ) -> None:
        self._program = program.eval()
        self.objective, self.history, self.card = objective, history, card

    @classmethod
    def of(cls, training: Training, card: dict[str, Any]) -> Fitted:
        """What a training has reached."""
        history = pd.DataFrame(training.history)
        if not history.empty:
            history = history.astype({"step": "int64", "epoch": "int64"})
        metrics: dict[str, Any] = {"steps": training.step, "epochs": training.epoch, "seconds": training.seconds}
        metrics["stopped"] = training.stopped or "after its last step"
        if not history.empty:
            metrics["objective"] = float(history["objective"].tail(training.batches.per_epoch).mean())
        metrics["validation"] = None if math.isnan(training.validation) else training.validation
        return cls(training.program, training.objective, history, {**card, "metrics": metrics})

    @property
    def program(self) -> Any:
        """The program as it was given to the fit, with its parameters fitted."""
        return self._program.source

    @property
    def structure(self) -> Structure:
        """The program's sites and plates, as they were when it was checked on rows of its data."""
        return self._program.structure()

    def infer(
        self,
        data: Any,
        num_samples: int = 500,
        chunk_size: int | None = None,
        predictive: bool = False,
        seed: int | None = None,
        coords: Mapping[str, Any] | None = None,
        progress: bool = False,
        out: str | Path | None = None,
    ) -> InferenceData:
        """The posterior of the latent sites for each row of new data.

        Args:
            data: Any number of rows; NaN means missing.
            num_samples: Draws for each row.
            chunk_size: Rows whose densities are computed together; the numbers do not depend on it.
            predictive: Whether to draw replicated observations.
            seed: Of the draws; taken from torch's random state when None.
            coords: Labels for the dims, by name of the dim.
            progress: Whether to show a progress bar.
            out: A netCDF file to write the draws into as they are made, so that memory does not grow with the rows;
                kept in memory when None. Data may be a memory map (``np.load(path, mmap_mode="r")``), which is
                never read whole.

        Returns:
            Groups posterior, log_likelihood, sample_stats (log_p, log_q, log_weight, k_hat), observed_data, and
            posterior_predictive on request; dims are named after the plates. From ``out`` when it is given: its
            variables are read when they are used, and its rows have no coordinate unless ``coords`` labels them.

        Raises:
            DataError: When the data have another shape than those of the fit, or ``coords`` do not fit.
            ProgramError: When the guide cannot serve these rows.
            RunFolderError: When ``out`` cannot be written; nothing is left there then, nor when interrupted.
        """
        program, rows = self._for(data)
        settings = (program, rows, num_samples, chunk_size, predictive, _seed(seed), progress, self._compile)
        if out is None:
            return diagnostics.to_inference_data(sample_posterior(*settings), coords)
        return write_inference_data(out, lambda store: fill_posterior(store, *settings), coords)

    def sample(self, n: int, seed: int | None = None) -> dict[str, Tensor]:
        """Data and latent values from the program run without data.

        Args:
            n: How many.
            seed: Of the draws; taken from torch's random state when None.

        Returns:
            For each site a tensor (n, *plates, *event); a data plate that holds one datum is dropped.

        Raises:
            ProgramError: When the model cannot run without data.
        """
        return sample_prior(self._program, n, _seed(seed), self._compile)

    def reconstruct(self, data: Any, num_samples: int = 32) -> dict[str, Tensor]:
        """The posterior mean of each observed site's mean.

        Args:
            data: Any number of rows.
            num_samples: Draws from the guide that are averaged.

        Returns:
            For each observed site a tensor (*plates, *event).

        Raises:
            ProgramError: When data enter by a critic alone.
        """
        self._check_observes()
        program, rows = self._for(data)
        return reconstruct(program, rows, num_samples, compile=self._compile)

    def log_evidence(self, data: Any, num_particles: int = 100, seed: int | None = 0, progress: bool = False) -> Tensor:
        """The importance-weighted bound on the log-evidence of each datum, in nats.

        Args:
            data: Any number of rows.
            num_particles: Draws from the guide; the bound rises to the evidence as they grow.
            seed: Of the draws.
            progress: Whether to show a progress bar.

        Returns:
            Shape (rows,); shape () for all rows together when they share latent sites.

        Raises:
            ProgramError: When data enter by a critic alone.
        """
        self._check_observes()
        program, rows = self._for(data)
        return log_evidence(program, rows, num_particles, _seed(seed), progress, self._compile)

    def report(self, path: str | Path, data: Any = None, labels: Any = None, progress: bool = False) -> Path:
        """Writes an HTML page with pictures: training, samples, posterior, and checks.

        Args:
            path: A folder; the page is ``index.html`` in it.
            data: Rows to infer on, such as held-out ones.
            labels: One label per row, to colour the latent map.
            progress: Whether to show a progress bar.

        Returns:
            The page.
        """
        return diagnostics.report(self, path, data, labels, progress)

    def save(self, path: str | Path) -> None:
        """Writes card, history and weights into a folder that :func:`ppl_genmodels.load` reads.

        Args:
            path: The folder; made when it is not there.

        Raises:
            RunFolderError: When it holds another run, or cannot be written.
        """
        folder = Path(path)
        if (folder / CARD).exists() and read_json(folder / CARD).get("id") != self.card["id"]:
            raise RunFolderError(f"{folder} holds another run. Remedy: save into another folder, or delete it.")
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Writes card, history and weights, over those of an earlier part of the same run.

        Raises:
            RunFolderError: When a file cannot be written.
        """
        write_tensors(folder / WEIGHTS, self._program.weights())
        write_json(folder / CARD, self.card)
        write_text(folder / HISTORY, self.history.to_csv(index=False))

    @property
    def _compile(self) -> Mode:
        """Whether runs are traced: as the fit was."""
        mode: Mode = self.card["settings"].get("compile", "auto")
        return mode

    def _for(self, data: Any) -> tuple[Program, Rows]:
        """The program and the rows, missing values masked."""
        rows = Rows.of(data)
        check_inputs(rows, self.card["inputs"])
        self._check_guide()
        if not rows.missing:
            return self._program, rows
        masked = mask_missing(self._program)
        check_missing(masked, rows, *hard_inputs(masked, rows))
        return masked, rows

    def _check_guide(self) -> None:
        """Refuses to infer with a program that cannot, such as a GAN."""
        latent = ", ".join(f"'{site.name}'" for site in self.structure.latent)
        if self._program.guide is None and latent:
            raise ProgramError(
                f"the program has no guide that would infer {latent} from data. Remedy: sample(n) draws from it; a "
                f"program with a guide, such as models.BiGAN in the place of models.GAN, infers and reconstructs."
            )

    def _check_observes(self) -> None:
        """Refuses to price data that have no density in the program."""
        if self.structure.generated and self._program.guide is not None:
            raise ProgramError(
                "the program observes no site: its critic alone sees data, so that they have no density. Remedy: "
                "sample(n), infer(data), and the program's own methods, such as reconstruct of models.VAEGAN."
            )

    def _facts(self) -> dict[str, str]:
        metrics = self.card["metrics"]
        facts = {
            "program": self.card["program"]["name"],
            "objective": str(self.objective),
            "rows": str(self.card["data"]["rows"]),
            "steps": f"{metrics['steps']} ({metrics['stopped']})",
        }
        if self.card.get("gradients"):
            facts["gradient"] = summarised(self.card["gradients"])
        is_game = any(name.startswith("adversarial[") for name in self.history.columns)
        unit = "" if is_game else " nats per datum"  # a game's divergence may be a distance or a share
        for name, shown in (("objective", "in training"), ("validation", "in validation")):
            if metrics.get(name) is not None:
                facts[shown] = f"{metrics[name]:.4g}{unit}"
        return facts

    def __repr__(self) -> str:
        return "\n".join(f"{name:15s} {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table>{cells}</table>"


def _seed(seed: int | None) -> int:
    if seed is None:
        return int(torch.randint(2**31, ()))
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed must be a whole number from 0 on, got {seed!r}.")
    return int(seed)

"""The application: its commands register here, and every user's mistake leaves by one door.

Convention of this module: a mistake is one line on standard error and exit code 2, an interruption
is exit code 130; a traceback is shown only for what is our own fault.
"""

from __future__ import annotations

import importlib.metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ppl_genmodels.errors import PplError

__all__ = ["INTERRUPTED", "INTERRUPTION_NOTE", "app", "say"]

USER_MISTAKE, INTERRUPTED = 2, 130
INTERRUPTION_NOTE = "interrupted. A fit keeps its last checkpoint: give the same command again with --resume."


class OneLineErrors(TyperGroup):
    """A group of commands that says each mistake in one line, without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command, then exits."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except typer.TyperException as error:
            code = say(error.format_message(), error.exit_code)
        raise SystemExit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (PplError, OSError) as error:
            raise typer.Exit(say(str(error), USER_MISTAKE)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(say(INTERRUPTION_NOTE, INTERRUPTED)) from error


def say(message: str, code: int) -> int:
    """Puts a message on standard error, as one line, and returns the exit code."""
    if message:
        typer.echo(f"ppl-genmodels: {' '.join(message.split())}", err=True)
    return code


app = typer.Typer(
    name="ppl-genmodels",
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("ppl-genmodels"))
        raise typer.Exit


@app.callback(epilog="Start with: ppl-genmodels fit vae --data digits --set latent_dim=8 --out runs/digits")
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Fit a deep generative model, infer on new data, look at the posterior.

    A run is a folder: fit writes it; infer, sample and report read it.
    """

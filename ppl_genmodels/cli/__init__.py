"""The command line ``ppl-genmodels``: a thin skin over the library.

Convention of this package: importing a command registers it; heavy libraries are imported when a command runs.
"""

from ppl_genmodels.cli import fit, look  # noqa: F401, I001  (the order of the commands in --help)
from ppl_genmodels.cli import catalogue  # noqa: F401
from ppl_genmodels.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command that ``sys.argv`` gives, and exits with its code."""
    app()

"""``python -m ppl_genmodels.cli``."""

from ppl_genmodels.cli import main

main()

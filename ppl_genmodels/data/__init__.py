"""Arrays in, batches out."""

from ppl_genmodels.data.sources import LoadedData, load

__all__ = ["LoadedData", "load"]

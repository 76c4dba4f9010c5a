"""Plain networks: modules that know nothing of probability.

Convention of this package: every network accepts any number of batch dims on the left of its input,
because rows and particles stand there.
"""

from ppl_genmodels.networks.conv import ConvDecoder, ConvEncoder
from ppl_genmodels.networks.mlp import MLP

__all__ = ["MLP", "ConvDecoder", "ConvEncoder"]

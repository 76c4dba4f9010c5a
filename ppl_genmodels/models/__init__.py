"""Generative programs, one family per file; :mod:`~ppl_genmodels.models.catalogue` finds them by
name.

Convention of this package: sites and plates have fixed names, and batch dims count from the right,
so that a plate of particles can stand to the left of all.
"""

from ppl_genmodels.models import catalogue
from ppl_genmodels.models.adversarial_autoencoder import AdversarialAutoencoder
from ppl_genmodels.models.adversary import Adversary
from ppl_genmodels.models.bigan import BiGAN
from ppl_genmodels.models.binomial_diffusion import BinomialChain, BinomialDiffusion
from ppl_genmodels.models.conditional_diffusion import ConditionalDiffusion
from ppl_genmodels.models.continuous_flow import ContinuousFlow
from ppl_genmodels.models.conv_vae import ConvVAE
from ppl_genmodels.models.diffusion import Diffusion
from ppl_genmodels.models.diffusion_chain import DiffusionChain
from ppl_genmodels.models.eight_schools import EightSchools
from ppl_genmodels.models.energy_model import EnergyModel
from ppl_genmodels.models.flow_regression import FlowRegression
from ppl_genmodels.models.gan import GAN
from ppl_genmodels.models.glow import Glow
from ppl_genmodels.models.grey_levels import GreyLevels
from ppl_genmodels.models.image_diffusion import ImageDiffusion
from ppl_genmodels.models.image_flow import ImageFlow
from ppl_genmodels.models.info_gan import InfoGAN
from ppl_genmodels.models.priors import FlowPrior, Prior, VampPrior
from ppl_genmodels.models.real_nvp import RealNVP
from ppl_genmodels.models.regression import HierarchicalRegression, LinearRegression
from ppl_genmodels.models.spline_flow import SplineFlow
from ppl_genmodels.models.symbol_gan import SymbolGAN
from ppl_genmodels.models.translation import CycleGAN
from ppl_genmodels.models.vae import VAE, Autoencoder
from ppl_genmodels.models.vae_gan import VAEGAN
from ppl_genmodels.models.walkback import Walkback

__all__ = [
    "GAN",
    "VAE",
    "VAEGAN",
    "AdversarialAutoencoder",
    "Adversary",
    "Autoencoder",
    "BiGAN",
    "BinomialChain",
    "BinomialDiffusion",
    "ConditionalDiffusion",
    "ContinuousFlow",
    "ConvVAE",
    "CycleGAN",
    "Diffusion",
    "DiffusionChain",
    "EightSchools",
    "EnergyModel",
    "FlowPrior",
    "FlowRegression",
    "Glow",
    "GreyLevels",
    "HierarchicalRegression",
    "ImageDiffusion",
    "ImageFlow",
    "InfoGAN",
    "LinearRegression",
    "Prior",
    "RealNVP",
    "SplineFlow",
    "SymbolGAN",
    "VampPrior",
    "Walkback",
    "catalogue",
]

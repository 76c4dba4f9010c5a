"""The devices and processes of a run, by Lightning Fabric.

Convention of this module: ``fit`` runs the same program in every process, on a device of its own. Processes are started
by ``torchrun``, or by Fabric, which runs the script that called once more for each further one.
"""

from __future__ import annotations

import atexit
import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy, SingleDeviceStrategy
from lightning_fabric.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import distributed

from ppl_genmodels.errors import DeviceError, OptionError

__all__ = ["launch", "make_fabric"]

SHARDING = ("fsdp", "deepspeed")
NOT_WHOLE = (
    "does not keep all parameters in every process, as checkpoints, gradient norms and the fitted program need them. "
    "Remedy: strategy='ddp'."
)


def make_fabric(accelerator: str, devices: int | str, strategy: str, precision: str) -> Fabric:
    """Fabric for these devices; under ``torchrun`` on all machines that it runs on.

    Args:
        accelerator: As Fabric names it.
        devices: How many on each machine.
        strategy: As Fabric names it: one device, or one of the ``ddp`` strategies.
        precision: As Fabric names it.

    Raises:
        DeviceError: When the device is not there.
        OptionError: When Fabric does not know the precision or the strategy, when the strategy is none that a program
            can be fitted by, or when ``torchrun`` has started another number of processes.

    Example:
        >>> make_fabric("cpu", 1, "auto", "32-true").world_size
        1
    """
    if strategy.startswith(SHARDING):
        raise OptionError(f"strategy='{strategy}' {NOT_WHOLE}")
    machines = 1
    if distributed.is_torchelastic_launched():
        machines = int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=devices, num_nodes=machines, strategy=strategy, precision=precision
        )
    except (RuntimeError, MisconfigurationException) as error:
        have = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
        raise DeviceError(
            f"accelerator='{accelerator}', devices={devices!r} is not to be had on this machine: {error} "
            f"Here are: {', '.join(have)}. Remedy: accelerator='auto'."
        ) from error
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"accelerator='{accelerator}', strategy='{strategy}', precision='{precision}': {error}"
        ) from error
    _check_strategy(fabric, strategy)
    _check_count(fabric)
    return fabric


def launch(fabric: Fabric) -> None:
    """Starts the processes, which leave each other in order when Python ends.

    Example:
        >>> launch(make_fabric("cpu", 1, "auto", "32-true"))
    """
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave)


def _leave() -> None:
    """Ends the threads that talk to other processes; without this some abort when Python ends."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _check_strategy(fabric: Fabric, strategy: str) -> None:
    """Refuses what would not give back a program with all its parameters."""
    if isinstance(fabric.strategy.launcher, _MultiProcessingLauncher):
        raise OptionError(
            f"strategy='{strategy}' starts its processes out of the running one (in a notebook, 'auto' does), to which "
            f"no fitted program comes back. Remedy: strategy='ddp' in a script, run by python or torchrun."
        )
    if not isinstance(fabric.strategy, SingleDeviceStrategy | DDPStrategy):
        raise OptionError(f"strategy='{strategy}' {NOT_WHOLE}")


def _check_count(fabric: Fabric) -> None:
    if not distributed.is_torchelastic_launched():
        return
    started, asked = int(os.environ["LOCAL_WORLD_SIZE"]), getattr(fabric.strategy, "num_processes", 1)
    if started != asked:
        raise OptionError(
            f"torchrun has started {started} processes on this machine and devices={asked}. Remedy: devices={started}, "
            f"strategy='ddp'."
        )

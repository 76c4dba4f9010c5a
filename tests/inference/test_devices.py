"""Devices and strategies that are refused, and the number of machines that torchrun tells of."""

import pytest
from lightning_fabric.strategies import DDPStrategy

from ppl_genmodels.errors import OptionError
from ppl_genmodels.inference.devices import make_fabric


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_3"])
def test_strategies_that_shard_parameters_are_refused(strategy):
    with pytest.raises(
        OptionError, match=rf"strategy='{strategy}' does not keep all parameters.*Remedy: strategy='ddp'"
    ):
        make_fabric("cpu", 2, strategy, "32-true")


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_strategies_that_copy_the_process_are_refused(strategy):
    with pytest.raises(
        OptionError, match=rf"strategy='{strategy}' starts its processes out of the running one.*torchrun"
    ):
        make_fabric("cpu", 2, strategy, "32-true")


def torchrun(monkeypatch, processes, here):
    """As if torchrun had started this process."""
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": here}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0")


@pytest.mark.parametrize("devices", [1, 3])
def test_torchrun_and_devices_must_agree(monkeypatch, devices):
    torchrun(monkeypatch, processes=2, here=2)
    with pytest.raises(OptionError, match=rf"started 2 processes on this machine and devices={devices}\. Remedy"):
        make_fabric("cpu", devices, "auto", "32-true")


@pytest.mark.parametrize(("processes", "here", "machines"), [(2, 2, 1), (4, 2, 2), (3, 1, 3)])
def test_the_number_of_machines_is_that_of_torchrun(monkeypatch, processes, here, machines):
    torchrun(monkeypatch, processes, here)
    strategy = make_fabric("cpu", here, "auto", "32-true").strategy
    assert isinstance(strategy, DDPStrategy)
    assert (strategy.num_nodes, strategy.num_processes) == (machines, here)

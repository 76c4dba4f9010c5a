"""The average of gradients over processes, in one exchange.

Convention of this module: gradients of one dtype lie behind each other in one flat tensor, which is made once; the
parameters' gradients are views of it. Processes on the CPUs of one machine exchange them in shared memory, all others
through torch.distributed.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ppl_genmodels.errors import ProgramError
from ppl_genmodels.inference.processes import Processes
from ppl_genmodels.inference.shared import shared_rows

__all__ = ["GradientAverage", "check_all_used"]


class GradientAverage:
    """Averages the gradients of a program over processes, as ``DistributedDataParallel`` does in its own backward pass.

    A parameter that has a gradient in no process keeps none; where others have one, a missing one counts as zero. The
    buffers that a run changes, such as running means, are those of the first process in all of them, as in torch's.

    Args:
        program: The same in every process.
        processes: Which take part.
    """

    def __init__(self, program: nn.Module, processes: Processes) -> None:
        self.program, self.processes = program, processes
        self._groups: list[_Group] = []
        self._trainable: list[nn.Parameter] = []
        self._before: dict[str, Tensor] | None = None
        self._moving: list[str] | None = None

    def before_run(self) -> None:
        """Gives every process the first one's running buffers."""
        buffers = dict(self.program.named_buffers())
        if self._moving is None:
            self._before = {name: buffer.clone() for name, buffer in buffers.items()}
        else:
            self.processes.send([buffers[name] for name in self._moving])

    def __call__(self, weight: float) -> None:
        """Leaves the mean of the weighted gradients in every process.

        Args:
            weight: This process's; they average to one.
        """
        for group in self._current():
            group.collect(weight / self.processes.count)
            group.add()
            group.distribute()
        if self._before is not None:
            self._moving, self._before = self._moved(self._before), None

    def _moved(self, before: dict[str, Tensor]) -> list[str]:
        """The buffers that the first run has changed in any process; all others are sent at the ends of epochs."""
        after = dict(self.program.named_buffers())
        flags = self.processes.any(*(not torch.equal(value, after[name]) for name, value in before.items()))
        return [name for name, moved in zip(before, flags, strict=True) if moved]

    def _current(self) -> list[_Group]:
        """The groups of the parameters that are trained now."""
        trainable = [parameter for parameter in self.program.parameters() if parameter.requires_grad]
        if len(trainable) != len(self._trainable) or not all(map(operator.is_, trainable, self._trainable)):
            self._trainable = trainable
            dtypes = dict.fromkeys(parameter.dtype for parameter in trainable)
            self._groups = [_Group([p for p in trainable if p.dtype == d], self.processes) for d in dtypes]
        return self._groups


class _Group:
    """Parameters of one dtype, and the places where their gradients lie behind each other: as sent, and averaged."""

    def __init__(self, parameters: list[nn.Parameter], processes: Processes) -> None:
        self.parameters, self.processes = parameters, processes
        sizes = [*(parameter.numel() for parameter in parameters), len(parameters)]
        self.mean = parameters[0].new_zeros(sum(sizes))
        self.shared = shared_rows(len(self.mean), self.mean.dtype, processes)
        self.sent = self.mean if self.shared is None else self.shared[processes.rank]
        *parts, self.present = self.sent.split(sizes)
        self.places = [_laid_out_as(p, part) for part, p in zip(parts, parameters, strict=True)]
        *parts, self.counts = self.mean.split(sizes)
        self.gradients = [_laid_out_as(p, part) for part, p in zip(parts, parameters, strict=True)]

    @torch.no_grad()
    def collect(self, factor: float) -> None:
        """Puts the gradients where they are sent from, and beside them which parameters have one."""
        self.present.fill_(1.0)
        for i, (parameter, place) in enumerate(zip(self.parameters, self.places, strict=True)):
            if parameter.grad is None:
                place.zero_()
                self.present[i] = 0.0
            else:
                torch.mul(parameter.grad, factor, out=place)

    def add(self) -> None:
        """Adds what all processes have sent; in shared memory each process adds its own part of the numbers.

        What was sent is written again only after the processes have met once more, for the next values.
        """
        if self.shared is None:
            distributed.all_reduce(self.mean)
            return
        self.processes.wait()
        start, stop = (len(self.mean) * (self.processes.rank + end) // self.processes.count for end in (0, 1))
        total, *others = self.shared[:, start:stop]
        for other in others:
            total.add_(other)
        self.processes.wait()
        self.mean.copy_(self.shared[0])

    def distribute(self) -> None:
        """Gives the parameters the averaged gradients, those that have one."""
        missing = any(parameter.grad is None for parameter in self.parameters)
        counts = self.counts.tolist() if missing else [1.0] * len(self.gradients)
        for parameter, gradient, count in zip(self.parameters, self.gradients, counts, strict=True):
            parameter.grad = gradient if count > 0 else None


def _laid_out_as(parameter: Tensor, part: Tensor) -> Tensor:
    """A part of a flat tensor in the order of a parameter's memory, as fused optimizers expect it."""
    last = sum((size - 1) * stride for size, stride in zip(parameter.shape, parameter.stride(), strict=True))
    is_dense = last == parameter.numel() - 1
    return (
        part.as_strided(parameter.shape, parameter.stride(), part.storage_offset())
        if is_dense
        else part.view_as(parameter)
    )


def check_all_used(program: nn.Module, module: nn.Module) -> None:
    """Checks after a backward pass that torch's ``DistributedDataParallel`` has averaged every gradient.

    Raises:
        ProgramError: When a parameter has none, so that the averaging never came to its end.
    """
    parallel = next((part for part in module.modules() if isinstance(part, DistributedDataParallel)), None)
    if parallel is None or parallel.find_unused_parameters:
        return
    unused = [name for name, p in program.named_parameters() if p.requires_grad and p.grad is None]
    if unused:
        raise ProgramError(
            f"the objective does not depend on {len(unused)} parameters of the program ({', '.join(unused[:3])}), for "
            f"which strategy='ddp' waits in an eager step. Remedy: compile='trace', "
            f"strategy='ddp_find_unused_parameters_true', or parameter.requires_grad_(False)."
        )

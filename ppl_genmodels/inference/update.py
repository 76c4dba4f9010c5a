"""One update by an optimizer, by the shortest way to the same numbers.

Convention of this module: the optimizer's own state is read and written, so that either way may follow the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

__all__ = ["update"]


def update(optimizer: Optimizer) -> None:
    """The same as ``optimizer.step()``; for a fused Adam its kernel alone, without the bookkeeping around it.

    For a small model that bookkeeping takes longer than the update.

    Args:
        optimizer: The optimizer, the gradients left in its parameters.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> adam = Adam([weight], lr=0.1, fused=True)
        >>> weight.grad = torch.ones(3)
        >>> for _ in range(5):
        ...     update(adam)
        >>> weight.detach()
        tensor([0.5000, 0.5000, 0.5000])
    """
    if not _is_plain(optimizer):
        optimizer.step()
        return
    held = [_held(optimizer, group) for group in optimizer.param_groups]
    if any(group is None for group in held):
        optimizer.step()  # the first one, which makes the state
        return
    with torch.no_grad():
        for group, tensors in zip(optimizer.param_groups, held, strict=True):
            _apply(group, *tensors)  # type: ignore[misc]


def _is_plain(optimizer: Optimizer) -> bool:
    """Whether nobody listens to the steps of a fused Adam, as a learning-rate scheduler does."""
    listened = (
        "step" in vars(optimizer)
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
    )
    return type(optimizer) in (Adam, AdamW) and not listened and all(map(_is_fused, optimizer.param_groups))


def _is_fused(group: dict[str, Any]) -> bool:
    other = group["amsgrad"] or group["capturable"] or group["differentiable"]
    return bool(group["fused"]) and not other and type(group["lr"]) is float


def _held(optimizer: Optimizer, group: dict[str, Any]) -> tuple[list[Any], ...] | None:
    """Parameters with a gradient, gradients, both moments and the counts; None before there is a state."""
    parameters = [p for p in group["params"] if p.grad is not None]
    states = [optimizer.state[p] for p in parameters]
    if not all(states) or len({(p.device, p.dtype) for p in parameters}) > 1:
        return None
    moments = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
    return (parameters, [p.grad for p in parameters], *moments)


def _apply(group: dict[str, Any], parameters: Any, gradients: Any, means: Any, squares: Any, counts: Any) -> None:
    if not parameters:
        return
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    torch._foreach_add_(counts, 1)
    kernel(
        parameters,
        gradients,
        means,
        squares,
        [],
        counts,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=group["maximize"],
        grad_scale=None,
        found_inf=None,
    )

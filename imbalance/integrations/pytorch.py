"""Losses of single examples in PyTorch, and sums over its processes."""

# Lint has none of these libraries.
# pyright: reportMissingImports=false

import functools

import torch
import torch.distributed as dist
import torch.nn.functional as F

from imbalance.analysis.streaming import LossByClass

_NUMBERS_AT_ONCE = 2**24  # of logits in float32: 64 MiB


def example_losses(
    logits: torch.Tensor, label: torch.Tensor, ignore_index: int = -100
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each example, and whether its prediction is right; without gradients.

    ``ℓ = log Σ_k exp z_k - z_y`` in float32, a slice of the examples at a time: the logits of a
    language model often fit no second time, in float32.

    Args:
      logits: Logits z, ``[..., class]``, of any float type.
      label: Class y of each example, integers ``[...]``.
      ignore_index: Label of examples that do not count; their loss is 0.

    Returns:
      Losses in nats, float32 ``[...]``, and ``argmax z == y``, booleans ``[...]``.

    Raises:
      ValueError: If shapes do not fit or labels are not integers, as where several labels are
        right or numbers are to be predicted.
    """
    if logits.shape[:-1] != label.shape or label.dtype.is_floating_point:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, labels {tuple(label.shape)} and dtype "
            f"{label.dtype}; give logits [..., class] and one integer label for each."
        )
    with torch.no_grad():
        flat, wanted = logits.reshape(-1, logits.shape[-1]), label.reshape(-1).to(logits.device)
        examples = max(1, _NUMBERS_AT_ONCE // logits.shape[-1])
        parts = [
            (
                F.cross_entropy(z.float(), y, ignore_index=ignore_index, reduction="none"),
                z.max(-1).indices == y,  # on a CPU faster than argmax
            )
            for z, y in zip(flat.split(examples), wanted.split(examples), strict=True)
        ]
        loss, correct = (torch.cat(part).reshape(label.shape) for part in zip(*parts, strict=True))
    return loss, correct


def over_processes(losses: LossByClass) -> LossByClass:
    """The sums of all processes of `torch.distributed`, equal to the last bit on each of them.

    Sums are merged in the order of the ranks. Without several processes they are returned as they
    are. Every process must call it; with NCCL, call ``torch.cuda.set_device`` before.

    Args:
      losses: Sums of this process's own examples.

    Raises:
      ValueError: If processes differ in their classes or in ``ignore_index``.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return losses
    states: list[dict] = [{}] * dist.get_world_size()
    dist.all_gather_object(states, losses.state_dict())  # not `losses`: its names stay at home
    parts = []
    for state in states:
        part = LossByClass(losses.num_classes, losses.ignore_index, losses.names)
        part.load_state_dict(state)
        parts.append(part)
    return functools.reduce(LossByClass.merge, parts)

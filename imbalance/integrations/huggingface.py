"""Losses by bucket in the logs of the Hugging Face Trainer."""

# Lint has none of these libraries.
# pyright: reportMissingImports=false

import warnings
from typing import Any, Self

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate.state import GradientState
from transformers import Trainer, TrainerCallback

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.names import Names
from imbalance.analysis.streaming import LossByClass
from imbalance.integrations.pytorch import example_losses, over_processes
from imbalance.integrations.windows import Windows

IGNORED = -100  # the label that the losses of transformers leave out

# How near the model's loss must be to that of our labels, and how much farther from that of the
# others, to tell by it whether the model shifts labels: float32 is within 1e-6.
_NEAR, _FARTHER = 1e-3, 10


class LossByClassCallback(TrainerCallback):
    """Losses and accuracies by bucket beside the Trainer's own, of training and of evaluations.

    It sees the labels and logits of every batch by a hook at the model's ``forward``, and computes
    the loss of every example from them; training is not touched, and what you call the model for
    beside the Trainer is not counted. What it finds is in the same logs
    as ``loss`` and ``eval_loss``: in ``trainer.state.log_history``, in what ``trainer.evaluate()``
    returns and ``metric_for_best_model`` may name, and in TensorBoard, Weights & Biases and
    whatever else ``report_to`` names. See `imbalance.integrations.scalars` for the names, which
    begin with ``eval_`` for evaluations.

    ``loss/overall`` is ``Σ ℓ / n`` over the n labels that are predicted. The Trainer's ``loss`` is
    the mean over steps of ``Σ ℓ / N``, where N may count labels that no model predicts: see "Why
    the Trainer's loss is another" in docs/training.md.

    Args:
      buckets: Grouping of the classes by their counts in training; they serve evaluations, too.
      names: Names of the classes, as ``lambda k: tokenizer.decode([k])``.
      shift: Whether the model takes the label of a position to be that of the one before, as causal
        language models do; None: found from the model's own loss of the first batch.

    Raises:
      TypeError: If ``buckets`` are not `FrequencyBuckets`, or names are of no use.
      ValueError: If there is another number of names than of classes.
    """

    def __init__(
        self, buckets: FrequencyBuckets, names: Names | None = None, shift: bool | None = None
    ):
        self._windows = Windows(buckets, names, IGNORED, over_processes)
        self._shift = shift
        self._watched = self._hook = None
        self._batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    @property
    def latest(self) -> dict[str, LossByClass]:
        """Sums of the last report, by kind: ``"training"`` and ``"evaluation"``.

        For what is not logged, such as ``latest["evaluation"].worst(10)``.
        """
        return self._windows.latest

    def add_to(self, trainer: Trainer) -> Self:
        """Put the callback before the others of a trainer, which then see what it adds to the logs.

        Raises:
          ValueError: If the trainer takes the labels out of a batch before the model sees it.
        """
        if trainer.label_smoother is not None or trainer.compute_loss_func is not None:
            raise ValueError(
                "with label_smoothing_factor or compute_loss_func the Trainer takes the labels out "
                "of a batch before the model sees it; leave them out, or update a LossByClass in "
                "compute_loss_func."
            )
        trainer.add_callback(self)
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(0, callbacks.pop())
        self._watch(trainer.model)
        return self

    def on_init_end(self, args, state, control, **kwargs):
        """Refuse a place behind the callbacks that report, where nothing added would be seen."""
        raise ValueError(
            "LossByClassCallback was given as one of callbacks=, behind those that report; call "
            "LossByClassCallback(buckets).add_to(trainer) with the trainer that was made."
        )

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Watch the model that is trained: a search of hyperparameters makes new ones."""
        self._windows.clear("training")
        self._watch(model)

    def on_substep_end(self, args, state, control, **kwargs):
        """Add a batch of several of a step."""
        self._add("training")

    def on_step_end(self, args, state, control, **kwargs):
        """Add the last batch of a step."""
        self._add("training")

    def on_prediction_step(self, args, state, control, **kwargs):
        """Add a batch of an evaluation."""
        self._add("evaluation")

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Add what was seen since the last log to the log and its history."""
        kind, prefix = _kind_of(logs or {})
        if logs is None or kind is None:
            return
        found = self._windows.report(kind, prefix)
        if self.latest[kind].count.sum() + self.latest[kind].ignored == 0:
            warnings.warn(
                f"no labels came to the model's forward in this {kind}, so it has no losses by "
                "class; pass them as labels=.",
                stacklevel=2,
            )
        logs |= found
        state.log_history[-1] |= found

    def on_predict(self, args, state, control, **kwargs):
        """Forget predictions, which are of no evaluation."""
        self._windows.clear("evaluation")

    def _watch(self, model: torch.nn.Module | None) -> None:
        if model is None or model is self._watched:
            return
        if self._hook is not None:
            self._hook.remove()
        self._watched = model
        see: Any = torch.compiler.disable(self._see)  # no part of a compiled model
        self._hook = model.register_forward_hook(see, with_kwargs=True)

    def _see(self, model: torch.nn.Module, args: Any, inputs: dict[str, Any], output: Any) -> None:
        label, shift = inputs.get("shift_labels"), False
        if label is None:
            label, shift = inputs.get("labels"), self._shift
        if label is None or label.numel() == 0:
            return
        loss, logits = _loss_and_logits(output)
        label = label.to(logits.device)
        if label.ndim == 1:
            shift = False  # one label for each example, which has no position
        elif shift is None:
            shift = self._shift = _found_shift(
                loss, logits, label, inputs.get("num_items_in_batch")
            )
        label = next_labels(label) if shift else label
        self._batch = *example_losses(logits, label, IGNORED), label

    def _add(self, kind: str) -> None:
        """Count what was seen last, if it is of a batch that was not counted."""
        if self._batch is None:
            return
        loss, correct, label = self._batch
        self._batch = None
        rows = slice(_own_rows(len(label)) if kind == "evaluation" else None)
        self._windows.update(kind, loss[rows], label[rows], correct=correct[rows])


def next_labels(label: torch.Tensor) -> torch.Tensor:
    """What a causal model predicts at each position: the next label, integers ``[..., position]``.

    The last position has none and is ignored.
    """
    return F.pad(label[..., 1:], (0, 1), value=IGNORED)


def _kind_of(logs: dict[str, Any]) -> tuple[str | None, str]:
    """What a log tells of, and the prefix of its names; the same on all processes."""
    if "loss" in logs:
        return "training", ""
    for name in logs:  # every evaluation logs its time, under a prefix of the caller's
        if name.endswith("_runtime") and name != "train_runtime":
            return "evaluation", name.removesuffix("runtime")
    return None, ""


def _loss_and_logits(output: Any) -> tuple[Any, torch.Tensor]:
    named = hasattr(output, "keys")
    loss, logits = (output.get("loss"), output.get("logits")) if named else output[:2]
    if logits is None:
        raise ValueError(
            "the model returns no logits, which the loss of each example needs; fused losses, such "
            "as those of use_liger_kernel, leave them out."
        )
    return loss, logits


def _found_shift(
    loss: Any, logits: torch.Tensor, label: torch.Tensor, num_items: Any = None
) -> bool:
    """Whether the model's loss is that of the next labels, told by its value.

    A model divides ``Σ ℓ`` by the number of labels, or by the one that the Trainer gives it.
    """
    loss = float("nan") if loss is None else float(torch.as_tensor(loss).detach())
    off = {}
    for shift in (True, False):
        wanted = next_labels(label) if shift else label
        total = float(example_losses(logits, wanted, IGNORED)[0].double().sum())
        divisors = [int((wanted != IGNORED).sum())]
        divisors += [] if num_items is None else [float(torch.as_tensor(num_items).flatten()[0])]
        means = [total / divisor for divisor in divisors if divisor and total]
        off[shift] = min((abs(loss / mean - 1) for mean in means), default=float("inf"))
    near, far = sorted(off, key=off.__getitem__)
    if off[near] < _NEAR and off[far] > _FARTHER * off[near]:
        return near
    raise ValueError(
        f"the model's loss of the first batch, {loss:.6g}, does not tell whether it shifts "
        "labels; give LossByClassCallback shift=True for a causal language model, else shift=False."
    )


def _own_rows(rows: int) -> int:
    """Rows of a batch of an evaluation that are not there a second time.

    With several processes, accelerate fills the last batches up with rows from the beginning; in
    the order of the ranks, the first ``remainder`` are its own.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    state = GradientState()
    if not state.end_of_dataloader or state.remainder <= 0:
        return rows
    return min(max(state.remainder - dist.get_rank() * rows, 0), rows)

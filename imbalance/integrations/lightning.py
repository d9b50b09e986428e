"""Losses by bucket in the logs of Lightning."""

# Lint has none of these libraries, and Callback is one of two classes.
# pyright: reportMissingImports=false, reportGeneralTypeIssues=false

from collections.abc import Mapping
from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:  # the same library under its older name
    from pytorch_lightning.callbacks import Callback

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.names import Names
from imbalance.analysis.streaming import LossByClass
from imbalance.integrations.pytorch import over_processes
from imbalance.integrations.windows import Windows


class LossByClassCallback(Callback):
    """Losses and accuracies by bucket, of training, validation and test.

    ``training_step``, ``validation_step`` and ``test_step`` return a dict with ``"losses"``, the
    unreduced loss of each example, and ``"labels"``, its class, and, if you like, ``"weight"`` and
    ``"correct"``, all ``[...]`` and as `imbalance.LossByClass.update` takes them; in training
    beside ``"loss"``, which Lightning minimises. What is found goes to every logger, and to
    ``trainer.callback_metrics``, where ``ModelCheckpoint(monitor="val/loss/macro")`` finds it. See
    `imbalance.integrations.scalars` for the names, which begin with ``train/``, ``val/`` and
    ``test/``.

    Args:
      buckets: Grouping of the classes by their counts in training; they serve validation, too.
      names: Names of the classes, as those of `imbalance.LossByClass`.
      ignore_index: Label that masks its example.
      every_n_steps: Number of optimizer steps after which training is reported, to the loggers
        alone; None: at the end of each epoch.

    Raises:
      TypeError: If ``buckets`` are not `FrequencyBuckets`, or names are of no use.
      ValueError: If there is another number of names than of classes, or ``every_n_steps`` is less
        than 1.
    """

    def __init__(
        self,
        buckets: FrequencyBuckets,
        names: Names | None = None,
        ignore_index: int | None = -100,
        every_n_steps: int | None = None,
    ):
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; give 1 or more, or None.")
        self._windows = Windows(buckets, names, ignore_index, over_processes)
        self._every, self._reported = every_n_steps, 0

    @property
    def latest(self) -> dict[str, LossByClass]:
        """Sums of the last report, by kind: ``"train"``, ``"val"`` and ``"test"``.

        For what is not logged, such as ``latest["val"].worst(10)``.
        """
        return self._windows.latest

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Add a batch, and report it where it is time."""
        self._add("train", "training_step", outputs)
        step = trainer.global_step  # the same again while gradients are accumulated
        if self._every and step % self._every == 0 and step != self._reported:
            self._reported = step
            found = self._windows.report("train", "train/")
            for logger in trainer.loggers:
                logger.log_metrics(found, step)

    def on_train_epoch_end(self, trainer, pl_module):
        """Report the epoch, unless steps are reported."""
        if not self._every:
            self._log("train", pl_module)

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ):
        """Add a batch."""
        if not trainer.sanity_checking:
            self._add("val", "validation_step", outputs)

    def on_validation_epoch_end(self, trainer, pl_module):
        """Report the validation."""
        if not trainer.sanity_checking:
            self._log("val", pl_module)

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        """Add a batch."""
        self._add("test", "test_step", outputs)

    def on_test_epoch_end(self, trainer, pl_module):
        """Report the test."""
        self._log("test", pl_module)

    def _add(self, kind: str, method: str, outputs: Any) -> None:
        if not isinstance(outputs, Mapping) or not {"losses", "labels"} <= outputs.keys():
            given = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise ValueError(
                f"{method} returned {given}; return a dict with 'losses', the loss of each example,"
                " and 'labels', its class" + (", beside 'loss'." if kind == "train" else ".")
            )
        more = {name: outputs.get(name) for name in ("weight", "correct")}
        self._windows.update(kind, outputs["losses"], outputs["labels"], **more)

    def _log(self, kind: str, pl_module: Any) -> None:
        # The sums are of all processes, so their mean, which sync_dist takes, is the same number;
        # without it Lightning warns that each process might log its own.
        pl_module.log_dict(self._windows.report(kind, f"{kind}/"), sync_dist=True)

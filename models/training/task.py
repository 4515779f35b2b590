"""The Lightning side of training: loss, optimizer, validation. The network knows nothing of it."""

from __future__ import annotations

import time
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.batches import LabelledBatch
from models.training.config import RunConfig
from models.training.metrics import LabelledRows, RankingMetrics, monitored
from models.zoo.registry import Network

MONITORED = "valid"
"""Name under which callbacks find the watched metric."""


class RankingTask(lightning.LightningModule):
    """Learns one label: binary cross-entropy of logits, Adam with a rate of its own for the embedding tables."""

    def __init__(self, network: Network, config: RunConfig, valid_rows: LabelledRows) -> None:
        super().__init__()
        self.network = network
        self.epochs: list[dict[str, float | None]] = []
        """One entry an epoch: train loss, valid metrics, seconds and rows of training."""
        self._config = config
        self._valid_rows = valid_rows
        self._valid_logits: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._rows = 0
        self._started = 0.0
        self._train_seconds = 0.0

    def on_train_epoch_start(self) -> None:
        """Draw dropout anew by seed and epoch, so that a resumed run goes on as if it had never stopped."""
        torch.manual_seed((self._config.seed << 16) + self.current_epoch)
        self._losses, self._rows, self._started = [], 0, time.perf_counter()

    def training_step(self, batch: LabelledBatch, batch_index: int) -> Tensor:  # noqa: ARG002 - Lightning's signature
        """The mean loss of one batch."""
        tensors, labels = batch
        loss = functional.binary_cross_entropy_with_logits(self.network(tensors)[self.network.label], labels)
        self._losses.append(loss.detach())
        self._rows += len(labels)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Close the books of the training half of this epoch."""
        self._train_seconds = time.perf_counter() - self._started
        self._valid_logits = []

    def validation_step(self, batch: LabelledBatch, batch_index: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Keep the logits; metrics are of all rows together."""
        tensors, _ = batch
        self._valid_logits.append(self.network(tensors)[self.network.label])

    def on_validation_epoch_end(self) -> None:
        """Measure the valid rows and tell the callbacks."""
        metrics = self._valid_rows.measure(torch.cat(self._valid_logits).float().cpu().numpy())
        self.epochs.append(self._entry(metrics))
        self.log(MONITORED, monitored(metrics, self._config.monitor))
        self.log(f"valid_{self._config.monitor}", monitored(metrics, self._config.monitor), prog_bar=True)

    def _entry(self, metrics: RankingMetrics) -> dict[str, float | None]:
        return {
            "train_loss": float(torch.stack(self._losses).mean()),
            "train_rows": self._rows,
            "train_seconds": self._train_seconds,
            "seconds": time.perf_counter() - self._started,
            **{f"valid_{name}": value for name, value in metrics.to_json().items()},
        }

    def configure_optimizers(self) -> Any:
        """Adam over two groups, both decayed once an epoch."""
        config = self._config
        tables = [module.weight for module in self.network.modules() if isinstance(module, nn.Embedding)]
        in_tables = {id(weight) for weight in tables}
        dense = [weight for weight in self.network.parameters() if id(weight) not in in_tables]
        groups: list[dict[str, Any]] = [
            {"params": dense, "lr": config.learning_rate},
            # Adam's weight_decay adds weight_decay * w to the gradient: the gradient of weight_decay / 2 * |w|^2.
            {"params": tables, "lr": config.embedding_learning_rate, "weight_decay": config.embedding_l2},
        ]
        optimizer = torch.optim.Adam(groups, fused=True)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, config.learning_rate_decay)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the learning curve with the weights."""
        checkpoint["epochs"] = self.epochs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the learning curve up again."""
        self.epochs = checkpoint["epochs"]


@torch.inference_mode()
def score_batches(network: Network, batches: Any) -> np.ndarray:
    """Logits [rows] of all batches, in their order, with the network in evaluation mode."""
    network.eval()
    logits = [network(tensors)[network.label] for tensors, _ in batches]
    return torch.cat(logits).float().numpy()

"""Scores of many rows by the torch network of a finished run: what serving is held against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from models.training.row_store import Places
from models.training.rows import RowSet
from models.training.run_directory import TrainedRun

_BATCH_ROWS = 1_024


def score_rows_offline(run: TrainedRun, rows: RowSet, places: Places) -> npt.NDArray[np.float64]:
    """The run's scores, float64 [n], of the rows at ``places`` of the set, in that order.

    The rows must be encoded by the run's own encoder: a part of the data that it was trained on, or ``encode_rows`` of other
    tables.
    """
    scores = np.empty(len(places), dtype=np.float64)
    with torch.inference_mode():
        for start in range(0, len(places), _BATCH_ROWS):
            logits = run.network(rows.batch(places[start : start + _BATCH_ROWS]))[run.record.label]
            scores[start : start + _BATCH_ROWS] = torch.sigmoid(logits).numpy()
    return scores

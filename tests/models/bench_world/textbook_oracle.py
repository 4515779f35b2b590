"""The two textbook networks once more: numpy, float64, a row at a time, every formula as its paper has it."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-5


def arrays_of(network):
    """Weights and statistics by name, float64."""
    return {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}


def deepfm(weights, block_offsets, batch):
    """Logits [rows]."""
    return np.array([_deepfm_row(weights, block_offsets, _row(batch, row)) for row in range(len(batch["row_user"]))])


def din(weights, block_offsets, item_column, batch):
    """Logits [rows] and attention [rows, T]."""
    rows = (_din_row(weights, block_offsets, item_column, _row(batch, row)) for row in range(len(batch["row_user"])))
    logits, attention = zip(*rows, strict=True)
    return np.array(logits), np.array(attention)


def _row(batch, row):
    user = batch["row_user"][row]
    of_user = {name: batch[name][user] for name in ("user_categories", "context_categories", "history") if name in batch}
    return {**of_user, "item_categories": batch["item_categories"][row]}


def _deepfm_row(weights, block_offsets, row):
    single, vectors = 0.0, []
    for view, offsets in block_offsets.items():
        for place, offset in zip(row[f"{view}_categories"], offsets, strict=True):
            single += weights[f"weights.{view}.table.weight"][offset + place, 0]
            vectors.append(weights[f"vectors.{view}.table.weight"][offset + place])
    crosses = sum(vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i))
    return weights["bias"][0] + single + crosses + _mlp(weights, np.concatenate(vectors))


def _din_row(weights, block_offsets, item_column, row):
    candidate = weights["item.weight"][row["item_categories"][item_column]]
    events = [weights["item.weight"][item] for item in row["history"] if item > 0]
    scores = np.array([_attention(weights, candidate, event) for event in events])
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum() if events else scores
    interest = sum((share * event for share, event in zip(shares, events, strict=True)), np.zeros_like(candidate))
    fields = []
    for view, offsets in block_offsets.items():
        ids = row[f"{view}_categories"] if view != "item" else np.delete(row["item_categories"], item_column)
        fields += [weights[f"fields.{view}.table.weight"][offset + place] for offset, place in zip(offsets, ids, strict=True)]
    logit = _mlp(weights, np.concatenate([*fields, candidate, interest]))
    return logit, np.pad(shares, (0, len(row["history"]) - len(shares)))


def _attention(weights, candidate, event):
    x = np.concatenate([candidate, event, candidate * event, candidate - event])
    for layer in (0, 2):
        x = weights[f"attention.{layer}.weight"] @ x + weights[f"attention.{layer}.bias"]
        norm = f"attention.{layer + 1}.norm"
        gate = 1 / (1 + np.exp(-(x - weights[f"{norm}.running_mean"]) / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)))
        x = gate * x + (1 - gate) * weights[f"attention.{layer + 1}.alpha"] * x
    return (weights["attention.4.weight"] @ x)[0]


def _mlp(weights, x):
    for layer in (0, 3):
        x = weights[f"mlp.{layer}.weight"] @ x
        norm = f"mlp.{layer + 1}"
        x = (x - weights[f"{norm}.running_mean"]) / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        x = np.maximum(x * weights[f"{norm}.weight"] + weights[f"{norm}.bias"], 0)
    return (weights["mlp.6.weight"] @ x + weights["mlp.6.bias"])[0]

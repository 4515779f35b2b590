"""What one training run is asked to do: a YAML of network, options and recipe, strict to the last key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from feature_store.schema_problems import readable_problems
from feature_store.strict_yaml import StrictYamlError, read_strict_yaml
from feature_store.views import FeatureViews
from models.training.metrics import Monitor
from models.zoo.options import OptionsError
from models.zoo.registry import Options, check_option_names, network_kind

Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class RunConfigError(ValueError):
    """The run cannot be started as asked; the message names file and key."""


class RunConfig(BaseModel):
    """One run's recipe. ``options`` are the network's own (see its file in ``models/zoo``)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    network: str
    label: str | None = None
    """The label to learn; the first of the views when none is named."""
    options: dict[str, Any] = {}
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    batch_rows: int = Field(default=1024, ge=2)
    epochs: int = Field(default=10, ge=1)
    monitor: Monitor = "auc"
    """The metric of the valid rows that picks the best epoch."""
    patience: int = Field(default=2, ge=1)
    """Epochs in a row without a better ``monitor`` before training stops."""
    learning_rate: Rate = 1e-3
    """Adam's, of the dense layers."""
    embedding_learning_rate: Rate = 1e-3
    embedding_l2: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Adds ``embedding_l2 / 2`` times the squares of the whole embedding tables to the loss (FuxiCTR's regularizer)."""
    learning_rate_decay: Rate = 1.0
    """Both rates are multiplied by this after each epoch."""
    gradient_clip_norm: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        self.network_options()
        return self

    def network_options(self) -> Options:
        """The network's options with their defaults filled in.

        Raises:
            OptionsError: no such network, an unknown option, a wrong type or value.
        """
        check_option_names(self.network, self.options)
        # As JSON, so that a list may fill a tuple while text may not fill a number.
        adapter: TypeAdapter[Options] = TypeAdapter(network_kind(self.network).options)
        try:
            return adapter.validate_json(json.dumps(self.options), strict=True)
        except ValidationError as error:
            raise OptionsError("; ".join(f"options.{line}" for line in readable_problems(error))) from None

    def label_of(self, views: FeatureViews) -> str:
        """The name of the label to learn.

        Raises:
            ViewsError: the views have no such label.
        """
        return views.labels[0].name if self.label is None else views.label(self.label).name


def read_run_config(path: Path) -> RunConfig:
    """Read and check a run's YAML.

    Raises:
        RunConfigError: every problem found, each naming file and key.
    """
    try:
        data = read_strict_yaml(path)
    except StrictYamlError as error:
        raise RunConfigError(str(error)) from None
    return check_run_config(data, source=str(path))


def check_run_config(data: Any, *, source: str) -> RunConfig:
    """Check a recipe that came as plain data; ``source`` stands before each problem.

    Raises:
        RunConfigError: every problem found.
    """
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise RunConfigError("\n".join(f"{source}: {line}" for line in readable_problems(error))) from None

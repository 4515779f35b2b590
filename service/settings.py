"""Settings of the process: read once from ``RANKLINE_*`` variables (``RANKLINE_STORE__URL``), then passed down, frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestLimits(_Group):
    """What one request may ask for."""

    max_body_bytes: int = Field(default=1_048_576, ge=1_024)
    body_timeout_s: float = Field(default=10.0, gt=0, le=600)
    max_candidates: int = Field(default=5_000, ge=1, le=100_000)
    default_timeout_ms: int = Field(default=500, ge=1, le=60_000)
    max_timeout_ms: int = Field(default=10_000, ge=1, le=60_000)


class StoreSettings(_Group):
    """Where features are. Without ``url`` the process starts an embedded Valkey that keeps its data in ``directory``."""

    url: SecretStr | None = None
    directory: Path = Path("var/store")
    prefix: str = Field(default="rankline", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    connect_timeout_ms: int = Field(default=50, ge=1, le=10_000)
    read_timeout_ms: int = Field(default=50, ge=1, le=10_000)
    max_connections: int = Field(default=32, ge=1, le=1_000)
    item_cache_capacity: int = Field(default=200_000, ge=1)
    item_cache_ttl_s: float = Field(default=300.0, gt=0)
    unknown_item_ttl_s: float = Field(default=10.0, gt=0)


class ModelSettings(_Group):
    """Where published models are and how they run."""

    repository: Path = Path("var/models")
    fallback: str | None = Field(default=None, description="Serves everybody while there is no usable plan: din@latest")
    provider: Literal["auto", "cuda", "cpu"] = "auto"
    intra_op_threads: int | None = Field(default=None, ge=1, le=256)
    scorer_threads: int = Field(default=1, ge=1, le=64)
    max_batch_rows: int = Field(default=4_096, ge=1)
    max_queue_rows: int = Field(default=65_536, ge=1)


class PlanSettings(_Group):
    """The experiment plan and the state that survives restarts (generation, last good plan)."""

    path: Path = Path("var/plan.yaml")
    state_directory: Path = Path("var/state")
    poll_s: float = Field(default=1.0, gt=0, le=3_600)


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = SettingsConfigDict(
        env_prefix="RANKLINE_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    limits: RequestLimits = RequestLimits()
    store: StoreSettings = StoreSettings()
    models: ModelSettings = ModelSettings()
    plan: PlanSettings = PlanSettings()
    admin_token: SecretStr | None = Field(default=None, min_length=16)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_timeout_s: int = Field(default=15, ge=1, le=600)

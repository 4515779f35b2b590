"""The only composition root: builds every part from settings and hands each what it needs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware

from feature_store.encoding.categories import VocabularyIds
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.keys import KeySpace
from feature_store.online import OnlineFeatures
from feature_store.redis.reader import RedisStore
from feature_store.store_settings import ReadLimits
from models.repository import ModelRepository
from service.activation import Activation
from service.administration import Administration, ReadinessReport
from service.api.admin import admin_routes
from service.api.authentication import AdminToken
from service.api.health import health_routes
from service.api.metrics import metrics_routes
from service.api.problems import install_problem_answers
from service.api.rank import rank_routes
from service.errors import StartupError
from service.experiments.plan_source import PlanSource
from service.logs import configure_logs
from service.ranking.ports import Snapshot
from service.ranking.ranker import Ranker
from service.scoring.batcher import BatchLimits
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.loaded_models import LoadedModels
from service.scoring.onnx_session import SessionSettings
from service.settings import ModelSettings, Settings, StoreSettings
from service.telemetry import RequestMetrics, Telemetry

_log = logging.getLogger("rankline.app")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process is made of; built once, started and stopped by ``lifespan``."""

    settings: Settings
    telemetry: Telemetry
    store: RedisStore
    cache: ItemCache
    features: OnlineFeatures
    executor: ThreadPoolExecutor
    models: LoadedModels
    activation: Activation


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, for uvicorn (``--factory``) and for tests. Reads ``RANKLINE_*`` when no settings are given."""
    settings = settings or Settings()
    configure_logs(settings.log_level)
    parts = _build(settings)
    app = FastAPI(
        title="Rankline",
        summary="Ranks candidates for a user",
        version="0.1.0",
        lifespan=lambda _: lifespan(parts),
        middleware=[Middleware(RequestMetrics, telemetry=parts.telemetry)],
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    install_problem_answers(app)
    _add_routes(app, parts)
    return app


def _build(settings: Settings) -> Parts:
    telemetry = Telemetry()
    store = _store(settings.store)
    rule = settings.store
    cache = ItemCache(
        CacheRule(capacity=rule.item_cache_capacity, ttl_s=rule.item_cache_ttl_s, unknown_ttl_s=rule.unknown_item_ttl_s)
    )
    executor = ThreadPoolExecutor(settings.models.scorer_threads, thread_name_prefix="scorer")
    repository = ModelRepository(settings.models.repository)
    load = partial(load_model, settings=_load_settings(settings.models), executor=executor, observer=telemetry)
    models = LoadedModels(repository, load)
    activation = Activation(
        plan_source=lambda check, fallback: PlanSource(
            settings.plan.path, settings.plan.state_directory, check, fallback=fallback
        ),
        fallback_model=settings.models.fallback,
        models=models,
        observer=telemetry,
        on_swap=partial(_forget_other_encoders, cache),
    )
    return Parts(settings, telemetry, store, cache, OnlineFeatures(store, cache), executor, models, activation)


def _store(settings: StoreSettings) -> RedisStore:
    if settings.url is None:
        raise StartupError("no store: set RANKLINE_STORE__URL, or start with python -m service serve for an embedded one")
    limits = ReadLimits(
        connect_timeout_s=settings.connect_timeout_ms / 1e3,
        read_timeout_s=settings.read_timeout_ms / 1e3,
        connections=settings.max_connections,
    )
    return RedisStore.from_url(settings.url.get_secret_value(), keys=KeySpace(settings.prefix), limits=limits)


def _store_timeout_s(settings: StoreSettings) -> float:
    """The store's own timeouts come first; this one only bounds a wait for a connection on top of them."""
    return (settings.connect_timeout_ms + settings.read_timeout_ms) / 1e3


def _load_settings(settings: ModelSettings) -> LoadSettings:
    session = SessionSettings(provider=settings.provider, intra_op_threads=settings.intra_op_threads)
    return LoadSettings(session, BatchLimits(settings.max_batch_rows, settings.max_queue_rows))


def _forget_other_encoders(cache: ItemCache, snapshot: Snapshot) -> None:
    cache.retain({model.encoder.fingerprint for model in snapshot.models.values()})


def _add_routes(app: FastAPI, parts: Parts) -> None:
    settings = parts.settings
    admin = None if settings.admin_token is None else AdminToken(settings.admin_token.get_secret_value())
    ranker = Ranker(
        snapshots=parts.activation,
        features=parts.features,
        observer=parts.telemetry,
        store_timeout_s=_store_timeout_s(settings.store),
    )
    app.include_router(rank_routes(ranker, settings.limits, admin, parts.telemetry))
    app.include_router(health_routes(ReadinessReport(parts.activation, parts.models, parts.store.ping)))
    app.include_router(metrics_routes(parts.telemetry))
    if admin is not None:
        app.include_router(admin_routes(Administration(parts.activation, parts.models), admin))


@contextlib.asynccontextmanager
async def lifespan(parts: Parts) -> AsyncIterator[None]:
    """Load and warm up before the first request; drain after the last."""
    try:
        await parts.activation.start()
    except StartupError as error:
        _log.error("cannot start", extra={"reason": str(error)})
        raise
    await _preload_items(parts)
    loop = asyncio.get_running_loop()
    tasks = {
        loop.create_task(parts.activation.watch(parts.settings.plan.poll_s)),
        loop.create_task(_count_lookups(parts)),
    }
    with _reload_on_hangup(parts.activation, tasks):
        # What start-up made lives as long as the process: the collector need not look at it at every full collection.
        gc.collect()
        gc.freeze()
        yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await parts.models.drain()
    await parts.store.close()
    parts.executor.shutdown()


async def _preload_items(parts: Parts) -> None:
    """Bring the items that the models know into the cache: a cold one would make the first requests wait for each other."""
    for model in parts.activation.snapshot.models.values():
        ids = model.encoder.item_key_column.ids
        if isinstance(ids, VocabularyIds):
            known = ids.terms[: parts.settings.store.item_cache_capacity]
            held = await parts.features.preload(known, model.encoder, _store_timeout_s(parts.settings.store))
            _log.info("items preloaded", extra={"model": model.name, "held": held})


@contextlib.contextmanager
def _reload_on_hangup(activation: Activation, tasks: set[asyncio.Task[None]]) -> Iterator[None]:
    """SIGHUP reloads the plan; only a main thread can listen to signals, and a test's server may not run in it."""
    loop = asyncio.get_running_loop()

    async def reload() -> None:
        await activation.reload()

    def start_reload() -> None:
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        loop.add_signal_handler(signal.SIGHUP, start_reload)
    except (RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _count_lookups(parts: Parts, every_s: float = 1.0) -> None:
    """Carry the cache's counts into the metrics; the hot path only adds integers."""
    hits = misses = evictions = 0
    while True:
        counts = parts.cache.counts
        parts.telemetry.looked_up("hit", counts.hits - hits)
        parts.telemetry.looked_up("miss", counts.misses - misses)
        parts.telemetry.looked_up("evicted", counts.evictions - evictions)
        hits, misses, evictions = counts.hits, counts.misses, counts.evictions
        await asyncio.sleep(every_s)

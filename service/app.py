"""The only composition root: builds every part from settings and hands each what it needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware

from feature_store.encoding.categories import VocabularyIds
from feature_store.events.spool import SpoolRule
from feature_store.events.spool_folder import SpoolFolders
from feature_store.item_cache import CacheRule, ItemCache
from feature_store.item_refresh import ItemRefresher
from feature_store.keys import KeySpace
from feature_store.online import OnlineFeatures
from feature_store.redis.changes import ItemChanges
from feature_store.redis.events import EventRule, RedisEvents
from feature_store.redis.reader import RedisStore
from feature_store.redis.script_runs import open_scripts
from feature_store.store_identity import store_fingerprint
from feature_store.store_settings import ReadLimits
from feature_store.views import FeatureViews, ViewsError, load_views
from models.repository import ModelRepository
from service.activation import Activation
from service.administration import Administration, ReadinessReport
from service.api.admin import admin_routes
from service.api.authentication import AdminToken
from service.api.events import event_routes
from service.api.health import health_routes
from service.api.metrics import metrics_routes
from service.api.problems import install_problem_answers
from service.api.rank import add_rank_route
from service.api.rank_door import RankDoor
from service.background import collecting_rarely, count_items, reload_on_hangup
from service.errors import StartupError
from service.experiments.plan_source import PlanSource
from service.exposure.log import ExposureLog
from service.exposure.rule import rule_of
from service.ingestion.event_rules import EventRules
from service.ingestion.event_time import TimeRule
from service.ingestion.intake import EventIntake, IntakeLimits
from service.live_events import LiveEvents, LiveTiming
from service.logs import configure_logs
from service.quiet_telemetry import QuietTelemetry
from service.ranking.ports import Snapshot
from service.ranking.ranker import Ranker
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.loaded_models import LoadedModels
from service.scoring.onnx_session import SessionSettings
from service.scoring.policies import BatchLimits
from service.scoring.process.connection import ConnectionRule, ScorerConnection
from service.scoring.process.region import RegionShape
from service.scoring.process.remote_models import RemoteModels
from service.scoring.scheduler import Scheduler
from service.scoring.version_loading import LoadRule
from service.settings import EventSettings, ModelSettings, Settings, StoreSettings
from service.telemetry import RequestMetrics, Telemetry

_APPLY_TIMEOUT_S = 2.0
_DRAIN_S = 3.0
_log = logging.getLogger("rankline.app")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process is made of; built once, started and stopped by ``lifespan``."""

    settings: Settings
    telemetry: Telemetry
    store: RedisStore
    cache: ItemCache
    features: OnlineFeatures
    changes: ItemChanges
    refresher: ItemRefresher
    views: FeatureViews | None
    live: LiveEvents | None
    executor: ThreadPoolExecutor
    models: LoadedModels
    activation: Activation
    scorer: ScorerConnection | None
    exposures: ExposureLog | None


def create_app(settings: Settings | None = None) -> RankDoor:
    """The application, for uvicorn (``--factory``) and for tests. Reads ``RANKLINE_*`` when no settings are given.

    It is a door to ``POST /rank`` with the FastAPI application behind it, which has all routes and the document.
    """
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
    return _add_routes(app, parts)


def _build(settings: Settings) -> Parts:
    telemetry = Telemetry() if settings.metrics else QuietTelemetry()
    exposures = rule_of(settings.exposures)
    rule = settings.store
    url, keys = _store_url(rule), KeySpace(rule.prefix)
    executor = ThreadPoolExecutor(settings.models.scorer_threads, thread_name_prefix="scorer")
    scheduler = Scheduler(executor, threads=settings.models.scorer_threads)
    store = RedisStore.from_url(url, keys=keys, limits=_read_limits(rule), busy=scheduler.has_backlog)
    views = _views(settings)
    cache = ItemCache(
        CacheRule(capacity=rule.item_cache_capacity, ttl_s=rule.item_cache_ttl_s, unknown_ttl_s=rule.unknown_item_ttl_s)
    )
    features = OnlineFeatures(store, cache, views=views)
    changes = ItemChanges.from_url(url, keys=keys)
    repository = ModelRepository(settings.models.repository)
    scorer = _scorer_connection(settings.models)
    if scorer is None:
        telemetry.ask_queues(scheduler.waiting_rows)
        load = partial(load_model, settings=_load_settings(settings.models), scheduler=scheduler, observer=telemetry)
        models = LoadedModels(repository, load)
    else:
        remote = _remote_models(settings.models, scorer, telemetry)
        telemetry.ask_queues(remote.waiting_rows)
        models = LoadedModels(repository, remote.load)
    activation = Activation(
        plan_source=lambda check, fallback: PlanSource(
            settings.plan.path, settings.plan.state_directory, check, fallback=fallback
        ),
        fallback_model=settings.models.fallback,
        models=models,
        observer=telemetry,
        on_swap=partial(_forget_other_encoders, cache),
    )
    return Parts(
        settings=settings,
        telemetry=telemetry,
        store=store,
        cache=cache,
        features=features,
        changes=changes,
        refresher=ItemRefresher(changes, store, cache, freshness=features.freshness),
        views=views,
        live=_live_events(settings, views, url, keys, telemetry),
        executor=executor,
        models=models,
        activation=activation,
        scorer=scorer,
        exposures=None if exposures is None else ExposureLog(exposures),
    )


def _scorer_connection(settings: ModelSettings) -> ScorerConnection | None:
    """None where this process scores for itself."""
    if settings.scorer == "inline" or (settings.scorer == "auto" and settings.scorer_address is None):
        return None
    if settings.scorer_address is None:
        raise StartupError("no scorer process: start with python -m service serve, or set RANKLINE_MODELS__SCORER_ADDRESS")
    return ScorerConnection(settings.scorer_address, ConnectionRule(RegionShape(slots=settings.scorer_slots)))


def _remote_models(settings: ModelSettings, scorer: ScorerConnection, telemetry: Telemetry) -> RemoteModels:
    # The scorer process has the device; what is left to do here is the item's part of items that came later.
    rule = LoadRule(SessionSettings("cpu", settings.intra_op_threads), collapsed=settings.collapsed)
    return RemoteModels(scorer, rule, telemetry, max_queue_rows=settings.max_queue_rows)


def _store_url(settings: StoreSettings) -> str:
    if settings.url is None:
        raise StartupError("no store: set RANKLINE_STORE__URL, or start with python -m service serve for an embedded one")
    return settings.url.get_secret_value()


def _read_limits(settings: StoreSettings) -> ReadLimits:
    return ReadLimits(
        connect_timeout_s=settings.connect_timeout_ms / 1e3,
        read_timeout_s=settings.read_timeout_ms / 1e3,
        connections=settings.max_connections,
    )


def _views(settings: Settings) -> FeatureViews | None:
    if settings.views is None:
        return None
    try:
        return load_views(settings.views)
    except ViewsError as error:
        raise StartupError(f"RANKLINE_VIEWS: {error}") from None


def _live_events(
    settings: Settings, views: FeatureViews | None, url: str, keys: KeySpace, telemetry: Telemetry
) -> LiveEvents | None:
    """None where the views declare no events: then nothing is spooled and nothing applied."""
    if views is None or views.events is None:
        return None
    given = settings.events
    rule = SpoolRule(
        capacity_bytes=given.spool_capacity_bytes,
        retain_s=given.retain_s,
        retained_bytes=given.retained_bytes,
        append_timeout_s=given.spool_timeout_s,
    )
    folders = SpoolFolders(given.spool_directory, rule, store_fingerprint(url, keys.prefix))
    store = RedisEvents(open_scripts(url, _APPLY_TIMEOUT_S), keys, views, _event_rule(settings.events, views))
    return LiveEvents(folders, store, telemetry.events, LiveTiming(drain_s=min(_DRAIN_S, settings.drain_timeout_s / 2)))


def _event_rule(settings: EventSettings, views: FeatureViews) -> EventRule:
    return replace(
        EventRule.of(views),
        remembered_ids=settings.remembered_ids,
        remembered_s=settings.remembered_s,
        counters_s=settings.counters_s,
        log_events=settings.log_events,
    )


def _intake(settings: Settings, parts: Parts) -> EventIntake | None:
    if parts.views is None or parts.live is None:
        return None
    rule = settings.events
    limits = IntakeLimits(rule.max_requests, rule.apply_timeout_ms / 1e3, rule.max_backlog)
    rules = EventRules(parts.views, TimeRule(rule.future_tolerance_s, rule.max_age_s))
    return EventIntake(rules, parts.live, parts.telemetry.events, limits)


def _store_timeout_s(settings: StoreSettings) -> float:
    """The store's own timeouts come first; this one only bounds a wait for a connection on top of them."""
    return (settings.connect_timeout_ms + settings.read_timeout_ms) / 1e3


def _load_settings(settings: ModelSettings) -> LoadSettings:
    session = SessionSettings(provider=settings.provider, intra_op_threads=settings.intra_op_threads)
    limits = BatchLimits(settings.max_batch_rows, settings.max_queue_rows)
    return LoadSettings(LoadRule(session, collapsed=settings.collapsed), limits)


def _forget_other_encoders(cache: ItemCache, snapshot: Snapshot) -> None:
    cache.retain({model.encoder.fingerprint for model in snapshot.models.values()})


def _add_routes(app: FastAPI, parts: Parts) -> RankDoor:
    settings, exposures = parts.settings, parts.exposures
    admin = None if settings.admin_token is None else AdminToken(settings.admin_token.get_secret_value())
    ranker = Ranker(
        snapshots=parts.activation,
        features=parts.features,
        observer=parts.telemetry,
        store_timeout_s=_store_timeout_s(settings.store),
    )
    offer = None if exposures is None else exposures.offer
    door = add_rank_route(app, ranker, settings.limits, admin, parts.telemetry, offer=offer)
    app.include_router(event_routes(_intake(settings, parts), settings.limits, settings.events.max_events))
    app.include_router(health_routes(ReadinessReport(parts.activation, parts.models, parts.store.ping)))
    app.include_router(metrics_routes(parts.telemetry))
    if admin is not None:
        app.include_router(admin_routes(Administration(parts.activation, parts.models), admin))
    return door


@contextlib.asynccontextmanager
async def lifespan(parts: Parts) -> AsyncIterator[None]:
    """Load and warm up before the first request; drain after the last."""
    async with contextlib.AsyncExitStack() as stack:
        exposures = parts.exposures
        if exposures is not None:
            stack.callback(parts.telemetry.carry)  # what the last flush wrote is counted, too
            stack.push_async_callback(_close_exposures, exposures, parts.settings.exposures.close_timeout_s)
            parts.telemetry.exposures.follow(lambda: exposures.counts)
        if parts.scorer is not None:
            await parts.scorer.start()
            stack.push_async_callback(parts.scorer.close)
        async with _serving(parts):
            yield


async def _close_exposures(log: ExposureLog, timeout_s: float) -> None:
    await asyncio.to_thread(log.close, timeout_s)


@contextlib.asynccontextmanager
async def _serving(parts: Parts) -> AsyncIterator[None]:
    try:
        await parts.activation.start()
    except StartupError as error:
        _log.error("cannot start", extra={"reason": str(error)})
        raise
    if parts.live is not None:
        await parts.live.start()
    await parts.refresher.start()
    await _preload_items(parts)
    loop = asyncio.get_running_loop()
    tasks = {
        loop.create_task(parts.activation.watch(parts.settings.plan.poll_s)),
        loop.create_task(parts.refresher.run()),
        loop.create_task(count_items(parts.cache, parts.refresher, parts.telemetry)),
    }
    with reload_on_hangup(parts.activation, tasks), collecting_rarely():
        yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if parts.live is not None:
        await parts.live.close()
    await parts.models.drain()
    await parts.changes.close()
    await parts.store.close()
    parts.executor.shutdown()


async def _preload_items(parts: Parts) -> None:
    """Bring the items that the models know into the cache: a cold one would make the first requests wait for each other."""
    for model in parts.activation.snapshot.models.values():
        ids = model.encoder.item_key_column.ids
        if isinstance(ids, VocabularyIds):
            known = ids.terms[: parts.settings.store.item_cache_capacity]
            timeout_s = _store_timeout_s(parts.settings.store)
            held = await parts.features.preload(known, model.encoder, timeout_s, item_table=model.item_table)
            _log.info("items preloaded", extra={"model": model.name, "held": held})

"""The composition root: opens and wires everything, and closes it in reverse."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, time
from functools import partial

import sqlalchemy as sa
from fastapi import FastAPI

from app.access.keys import any_key
from app.access.loopback import is_loopback
from app.access.pepper import load_peppers
from app.access.principals import Principals
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.api.services import Services
from app.audio.decoder_check import DecoderError, check_decoder_program
from app.audio.ffmpeg import Decoders
from app.audio.inspection.inspect import Inspector
from app.audio.intake.download import Fetcher
from app.audio.storage.data_folder import data_folder_problem, is_open_to_all
from app.audio.storage.links import SignedLinks
from app.audio.storage.local_store import LocalStore
from app.billing.prices import PriceRow, load_prices
from app.db.connect import DatabaseAddressError
from app.db.database import Database, DatabaseLockedError
from app.db.failure import describe_failure
from app.db.migrate import NewerSchemaError, open_database
from app.db.rate_limit import RowSlots
from app.db.shared_settings import match_or_store
from app.errors import DatabaseUnavailable, GatewayError
from app.jobs.estimate import Estimator
from app.jobs.execution.fetch_source import SourceFetcher
from app.jobs.execution.transcribe import Transcriber
from app.jobs.planning import Planner
from app.jobs.streaming.hub import StreamHub
from app.jobs.submission import Submission
from app.jobs.worker.maintenance import Maintenance
from app.jobs.worker.worker import Worker
from app.kit.clock import Clock, utc_now
from app.kit.log import log
from app.kit.money import parse_nano
from app.kit.secrets import hash_key
from app.net.environment import environment_fault
from app.net.rate_limiter import MemorySlots, RateLimiter
from app.settings import AccountSettings, Settings
from app.speech.catalogue import Catalogue, load_catalogue
from app.speech.engine import Engine
from app.speech.engines.dashscope import sync
from app.speech.engines.dashscope.omni import OmniModel
from app.speech.engines.dashscope.tasks import DashScopeTasks, TaskTimeouts
from app.speech.engines.http.admission import CallAdmission
from app.speech.engines.http.provider_account import dashscope_account, openai_account
from app.speech.engines.local.engine import LocalEngine
from app.speech.engines.local.weights.files import model_dir_fault
from app.speech.engines.openai import engine as openai
from app.speech.model_availability import is_switched_on
from app.speech.planning.failover import account_engine_name

SHARED_SWEEP_SECONDS = 24 * 3600.0
CLOSING_MARGIN_SECONDS = 2.0  # between the last response and uvicorn's timeout


Engines = Sequence[Engine]
MakeEngines = Callable[[Settings, Catalogue, RateLimiter], Engines]


class StartRefusedError(Exception):
    """The gateway will not start; the message gives the reason and the remedy."""


def make_engines(settings: Settings, catalogue: Catalogue, limiter: RateLimiter) -> Engines:
    """Return the engines that the settings switch on; `limiter` is for all of them."""
    engines: list[Engine] = []
    if settings.local.enabled:
        default = catalogue.models.get(settings.default_model)
        warm = [default.upstream_model] if default and default.engine == LocalEngine.name else []
        engines.append(LocalEngine(settings.local, warm))
    if settings.dashscope.api_key.get_secret_value():
        engines.append(_dashscope(sync.NAME, settings.dashscope, settings, catalogue, limiter))
    for name, bundle in settings.dashscope.accounts.items():
        own_name = account_engine_name(sync.NAME, name)
        engines.append(_dashscope(own_name, bundle, settings, catalogue, limiter))
    if settings.openai.base_url:
        models = catalogue.models.values()
        engines.append(
            openai.openai_engine(
                openai_account(settings.openai),
                [m.upstream_model for m in models if m.engine == openai.NAME],
                settings.openai.api,
                CallAdmission(
                    "openai", limiter, {}, max_concurrent_calls=settings.openai.max_concurrent_calls
                ),
                timeout_seconds=settings.openai.timeout_seconds,
            )
        )
    return engines


def _dashscope(
    name: str,
    account_settings: AccountSettings,
    settings: Settings,
    catalogue: Catalogue,
    limiter: RateLimiter,
) -> Engine:
    account = dashscope_account(account_settings)
    models = [
        m
        for m in catalogue.models.values()
        if m.engine in {sync.NAME, name} and is_switched_on(m, settings.dashscope)
    ]
    rates = {
        m.upstream_in(account.region): m.calls_per_minute * account_settings.rate_share
        for m in models
        if m.calls_per_minute
    }
    limit_key = f"{name}/{account.region}"
    admission = CallAdmission(
        limit_key, limiter, rates, max_concurrent_calls=account_settings.max_concurrent_calls
    )
    tasks = DashScopeTasks(
        account,
        {m.upstream_in(account.region): m.wire for m in models if m.is_task},
        admission,
        limiter,
        limit_key=limit_key,
        polls_per_minute=account_settings.task_calls_per_second * 60 * account_settings.rate_share,
        may_upload=account_settings.temporary_upload,
        timeouts=TaskTimeouts.at_most(settings.dashscope.timeout_seconds),
    )
    return sync.dashscope_engine(
        account,
        {
            m.upstream_in(account.region): m.wire
            for m in models
            if m.wire not in {"", "omni"} and not m.is_task
        },
        admission,
        timeout_seconds=settings.dashscope.timeout_seconds,
        name=name,
        tasks=tasks,
        omni_models={
            m.upstream_in(account.region): OmniModel(
                m.prompt, m.max_output_tokens or 0, m.extra_body
            )
            for m in models
            if m.wire == "omni"
        },
    )


def database_of(settings: Settings, *, exclusive: bool) -> AbstractAsyncContextManager[Database]:
    """Open the database of the settings, and migrate it."""
    return open_database(
        settings.database_url,
        readers=settings.database.reader_threads,
        pool=settings.database.pool_size,
        exclusive=exclusive,
    )


async def preflight(settings: Settings) -> None:
    """Check, before the port is opened, everything that would keep the gateway from serving.

    Raises StartRefusedError.
    """
    catalogue = settings.speech.catalogue
    try:
        load_catalogue(catalogue).find(settings.default_model)
    except GatewayError as error:
        raise StartRefusedError(f"GATEWAY_SPEECH__DEFAULT_MODEL: {error.detail}") from error
    except (OSError, ValueError) as error:  # pydantic's and tomllib's errors are ValueErrors
        raise StartRefusedError(f"The catalogue {catalogue} cannot be read: {error}") from error
    await _check_machine(settings)
    try:
        async with database_of(settings, exclusive=True) as db:
            await _check_agreement(settings, db)
            if not is_loopback(settings.server.host) and not await db.read(any_key):
                raise StartRefusedError(
                    f"Without an API key the gateway listens on loopback only, not on "
                    f"{settings.server.host}. Create a key: asr-gateway keys create NAME"
                )
    except DatabaseLockedError as error:
        raise StartRefusedError(str(error)) from error
    except NewerSchemaError as error:
        raise StartRefusedError(
            "The database was migrated by a newer version of the gateway. Run that version."
        ) from error
    except DatabaseAddressError as error:
        raise StartRefusedError(str(error)) from error
    except ModuleNotFoundError as error:
        raise StartRefusedError(
            "PostgreSQL needs an extra: pip install 'asr-gateway[postgres]'."
        ) from error
    except (DatabaseUnavailable, sa.exc.SQLAlchemyError, OSError, ValueError) as error:
        raise StartRefusedError(describe_failure(settings.database_url, error)) from error


async def _check_machine(settings: Settings) -> None:
    """Refuse to start without the data folder, the decoder or the folder of models."""
    if problem := await asyncio.to_thread(data_folder_problem, settings.data_dir):
        found, remedy = problem
        raise StartRefusedError(f"{found}. {remedy}")
    if await asyncio.to_thread(is_open_to_all, settings.data_dir):
        log.warning("start.folder_open_to_all", folder=str(settings.data_dir))
    try:
        await check_decoder_program(settings.audio)
    except DecoderError as error:
        raise StartRefusedError(f"{error}. {error.remedy}") from error
    if settings.local.enabled and (fault := model_dir_fault(settings.local)):
        raise StartRefusedError(fault)
    uses_network = settings.dashscope.api_key.get_secret_value() or settings.openai.base_url
    if uses_network and (fault := environment_fault()):
        raise StartRefusedError(fault)


async def _check_agreement(settings: Settings, db: Database) -> None:
    """Refuse to serve a database whose audio or key hashes belong to another configuration."""
    store = LocalStore(settings.data_dir / "audio", settings.audio)
    if not await db.write(match_or_store, "store", [await store.identity()]):
        raise StartRefusedError(
            "The audio of this database is not in the folder GATEWAY_DATA_DIR. "
            "All processes of one database must share that folder."
        )
    peppers = load_peppers(settings.access.peppers, settings.data_dir)
    marks = [hash_key(pepper, "pepper") for pepper in peppers]
    if not await db.write(match_or_store, "pepper", marks):
        raise StartRefusedError(
            "The API keys of this database were hashed with another secret. Set "
            "GATEWAY_ACCESS__PEPPERS to that secret, for all processes of the database."
        )


def lifespan(
    settings: Settings, make: MakeEngines, clock: Clock = utc_now
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return FastAPI's lifespan for these settings and engines."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            services = await _open(stack, settings, make, clock)
            app.state.services = services
            app.state.begin_shutdown = partial(_begin_shutdown, services)
            yield

    return running


def _begin_shutdown(services: Services) -> None:
    """Tell waiting callers and listeners that this process ends."""
    seconds = services.settings.server.shutdown_seconds
    services.worker.begin_closing(max(0.0, seconds - CLOSING_MARGIN_SECONDS))
    services.hub.begin_closing()


async def _open(
    stack: AsyncExitStack,
    settings: Settings,
    make: MakeEngines,
    clock: Clock,
) -> Services:
    catalogue = load_catalogue(settings.speech.catalogue)
    db = await stack.enter_async_context(database_of(settings, exclusive=True))
    default_project = await db.write(ensure_project, DEFAULT_PROJECT, now=clock())
    await db.write(load_prices, _catalogue_prices(catalogue))

    store = LocalStore(settings.data_dir / "audio", settings.audio)
    # A recent upload may belong to another process and still be running.
    await store.sweep(older_than_seconds=SHARED_SWEEP_SECONDS if db.is_shared else 0.0)
    decoders = Decoders(settings.audio)
    peppers = load_peppers(settings.access.peppers, settings.data_dir)
    links = SignedLinks(settings.server.public_url, peppers)
    limiter = RateLimiter(RowSlots(db) if db.is_shared else MemorySlots())
    engines = {engine.name: engine for engine in make(settings, catalogue, limiter)}
    for engine in engines.values():
        await engine.open()
        stack.push_async_callback(engine.close)

    fetcher = Fetcher(settings.fetch)
    stack.push_async_callback(fetcher.close)
    planner = Planner(catalogue, engines, settings)
    collector = SourceFetcher(
        db,
        store,
        fetcher,
        planner=planner,
        decoders=decoders,
        settings=settings.audio,
        at_once=settings.fetch.max_concurrent_fetches,
        clock=clock,
    )
    hub = StreamHub(db, clock)
    transcriber = Transcriber(
        db,
        store,
        engines,
        collector,
        decoders=decoders,
        hub=hub,
        max_seconds=settings.audio.max_seconds,
        settings=settings.jobs,
        clock=clock,
        links=links,
    )
    worker = Worker(db, transcriber, settings.jobs)
    await worker.open()
    stack.push_async_callback(worker.drain, settings.server.shutdown_seconds)
    every = settings.jobs.maintenance_interval_seconds
    maintenance = Maintenance(db, store, worker, every_seconds=every, clock=clock)
    await maintenance.start(alone=not db.is_shared)
    stack.push_async_callback(maintenance.stop)
    inspector = Inspector(store, decoders, settings.audio)
    submission = Submission(
        db,
        store,
        worker,
        planner=planner,
        inspector=inspector,
        fetcher=fetcher,
        settings=settings,
        clock=clock,
    )
    estimator = Estimator(
        db,
        store,
        planner,
        inspector,
        fetcher,
        engines,
        settings=settings,
        clock=clock,
    )
    if is_loopback(settings.server.host) and not await db.read(any_key):
        log.warning("access.without_keys", reason="no key exists: every local program may call")
    return Services(
        settings=settings,
        db=db,
        store=store,
        catalogue=catalogue,
        engines=engines,
        worker=worker,
        hub=hub,
        maintenance=maintenance,
        submission=submission,
        estimator=estimator,
        clock=clock,
        principals=Principals(db, peppers, clock),
        peppers=peppers,
        links=links,
        default_project=default_project,
    )


def _catalogue_prices(catalogue: Catalogue) -> Sequence[PriceRow]:
    def midnight(day: date) -> datetime:
        return datetime.combine(day, time(), UTC)

    return [
        PriceRow(
            model=model.name,
            region=price.region,
            unit=price.unit,
            nano=parse_nano(price.amount),
            currency=price.currency,
            valid_from=midnight(price.valid_from),
            valid_until=None if price.valid_until is None else midnight(price.valid_until),
            source=price.source,
        )
        for model in catalogue.models.values()
        for price in model.prices
    ]

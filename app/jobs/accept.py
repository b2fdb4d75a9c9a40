"""The use-case: a received request becomes a durable job, or leaves nothing behind."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from app.access.principal import Principal
from app.audio.children import Decoders
from app.audio.fetch import Fetcher
from app.audio.intake import Received
from app.audio.look import look
from app.audio.probe import Probe
from app.audio.raw import raw_rate
from app.audio.store import BlobStore, StoredBlob, erase_copy
from app.db.engine import Database
from app.errors import DatabaseAway, EngineOff, MissingAudio
from app.jobs.board import STREAM
from app.jobs.ceiling import Ceiling
from app.jobs.looked import Looked, task_facts
from app.jobs.routes import Place
from app.jobs.runner import Runner
from app.jobs.submit import Recording, Source, Submitted, Wish, recording_of, submit
from app.kit.clock import Clock
from app.net.urls import is_public
from app.settings import Settings
from app.speech.bounds import context_bound
from app.speech.catalogue import Catalogue, Model
from app.speech.contract import Engine
from app.speech.estimate import expect
from app.speech.failover import candidates
from app.speech.fit import Fitted, fit, known_of
from app.speech.options import Options, parse_options
from app.speech.plan import Link, PlanInput, bound, plan
from app.speech.sibling import chosen, replaced, sisters_of
from app.speech.switches import how_to_switch_on, is_switched_on
from app.speech.tasks import HasTasks, TaskEngine


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that will end, and how long the caller wants to wait for that."""

    job_id: str
    options: Options


@dataclass(frozen=True, slots=True)
class Judged:
    """A request as far as it can be judged without its recording.

    `because`: why another model than the one asked for; `links`: how a model of tasks could be
    given the recording; `raw`: the rate of bare samples.
    """

    options: Options
    fitted: Fitted
    model: Model
    because: str
    links: tuple[Link, ...]
    raw: int | None


class Acceptance:
    """Turns requests into jobs with the parts it is given."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        runner: Runner,
        *,
        catalogue: Catalogue,
        engines: Mapping[str, Engine],
        decoders: Decoders,
        fetcher: Fetcher,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._db = db
        self._store = store
        self._runner = runner
        self._catalogue = catalogue
        self._engines = engines
        self._decoders = decoders
        self._fetcher = fetcher
        self._settings = settings
        self._now = clock
        self._admitting: set[asyncio.Task[Accepted]] = set()

    async def accept(
        self,
        principal: Principal,
        received: Received,
        preferred: Mapping[str, Any] = MappingProxyType({}),
    ) -> Accepted:
        """Judge, store, probe, commit, begin; whatever fails on the way is undone.

        Options that are `preferred` count where the request says nothing of the kind.
        A caller who hangs up meanwhile changes nothing: it ends as if they had stayed.
        Raises AudioError, InvalidParameter, UnknownModel, PriceUnknown and their like.
        """
        admitting = asyncio.create_task(self._admit(principal, received, preferred))
        self._admitting.add(admitting)
        admitting.add_done_callback(self._admitting.discard)
        return await asyncio.shield(admitting)

    async def _admit(
        self, principal: Principal, received: Received, preferred: Mapping[str, Any]
    ) -> Accepted:
        async with AsyncExitStack() as undo:
            if received.upload is not None:
                undo.push_async_callback(received.upload.discard)
            judged = self.judge(received, preferred)
            if received.url is not None:
                self.check_url(received.url)
                wish = self.wish(judged, None)
                submitted = await self._submit(principal, Source(received.url), wish)
                return Accepted(submitted.job_id, judged.options)
            if received.upload is None:
                raise MissingAudio
            blob = await received.upload.finish(principal.project_id)
            undo.push_async_callback(self._store.erase, blob.key)
            found = await self.look(blob, judged.raw)
            wish = self.wish(judged, Looked(found, blob.bytes))
            try:
                submitted = await self._submit(principal, recording_of(blob, found), wish)
            except DatabaseAway:
                undo.pop_all()  # the job may be committed all the same: it needs its recording
                raise
            undo.pop_all()
        await erase_copy(self._store, blob.key, kept=submitted.blob_key)
        return Accepted(submitted.job_id, judged.options)

    def check_url(self, url: str) -> None:
        """Refuse an address that would not be fetched. Raises UrlNotAllowed."""
        self._fetcher.check(url)

    def judge(self, received: Received, preferred: Mapping[str, Any] | None = None) -> Judged:
        """Read what is asked for, and of whom. Raises InvalidParameter, UnknownModel and such.

        `preferred` are options that count where the request itself says nothing.
        """
        options, unknown = parse_options(received.options, preferred or {})
        asked = self._catalogue.find(options.model or self._settings.default_model)
        if not is_switched_on(asked, self._settings.dashscope):
            raise EngineOff(f"{asked.name} is off here: {how_to_switch_on(asked)}.")
        sister = self._sister(asked, options, received.url)
        model, because = chosen(asked, sister, options, mode=options.mode)
        if model.engine not in self._engines or (model.is_task and self._tasks_of(model) is None):
            raise EngineOff(
                f"{model.name} cannot be asked here: {how_to_switch_on(model)}. "
                "GET /v1/models says which models are ready."
            )
        return Judged(
            options,
            fit(options, model, unknown, partial(self._others, model, received.url)),
            model,
            because,
            links=self._links_for(model, received.url),
            raw=raw_rate(
                received.media_type,
                is_pcm=options.format == "pcm",
                sample_rate=options.sample_rate,
            ),
        )

    def _sister(self, asked: Model, options: Options, url: str | None) -> Model | None:
        """Return the model that would do by tasks what the one asked for cannot."""
        known = map(self._catalogue.models.get, sisters_of(asked, options))
        return next((one for one in known if one and self._can_be_asked(one, url)), None)

    def _others(self, model: Model, url: str | None) -> Iterator[Model]:
        """Yield the other models of the same bundle that could be given the recording."""
        for other in self._catalogue.models.values():
            is_other = other.engine == model.engine and other is not model
            if is_other and self._can_be_asked(other, url):
                yield other

    def _can_be_asked(self, model: Model, url: str | None) -> bool:
        engine = self._engines.get(model.engine)
        return (
            engine is not None
            and is_switched_on(model, self._settings.dashscope)
            and model.is_priced_in(engine.region)
            and (not model.is_task or bool(self._links_for(model, url)))
        )

    def _tasks_of(self, model: Model) -> TaskEngine | None:
        engine = self._engines.get(model.engine)
        tasks = engine.tasks if isinstance(engine, HasTasks) else None
        is_known = tasks and engine and tasks.knows(model.upstream_in(engine.region))
        return tasks if is_known else None

    def _links_for(self, model: Model, url: str | None) -> tuple[Link, ...]:
        """Return the ways in which a model of tasks could be given the recording, the best first.

        A presigned address of an object store would come second; there is none yet.
        """
        tasks = self._tasks_of(model) if model.is_task else None
        if tasks is None:
            return ()
        given: tuple[Link, ...] = ("given",) if url is not None and is_public(url) else ()
        ours: tuple[Link, ...] = ("blob",) if self._settings.server.public_url else ()
        theirs: tuple[Link, ...] = ("upload",) if tasks.may_upload else ()
        return (*given, *ours, *theirs)

    async def look(self, blob: StoredBlob, raw: int | None) -> Probe:
        """Find out what a stored recording is. Raises AudioError."""
        async with self._store.local_copy(blob.key) as path:
            audio = self._settings.audio
            return await look(path, decoders=self._decoders, settings=audio, raw_rate=raw)

    def wish(self, judged: Judged, looked: Looked | None) -> Wish:
        """Put together what is asked for, how it will be done, and what that uses at most.

        `looked` is None where the recording is yet to be fetched.
        """
        options, fitted, model = judged.options, judged.fitted, judged.model
        asked = PlanInput(
            None if looked is None else looked.found.seconds,
            model,
            self._settings.audio.max_seconds,
            fitted.context,
            may_split=options.split == "auto",
            upload=None if looked is None else looked.upload,
            links=judged.links,
            file=None if looked is None else looked.file,
            channels=tuple(fitted.options.get("channel_id", ())),
            diarized=bool(fitted.options.get("diarization_enabled")),
            because=judged.because,
        )
        found = looked.warnings(options.sample_rate, strict=options.strict) if looked else ()
        way, units, ceiling = plan(asked), bound(asked), Ceiling.of(options)
        tokens = model.token_facts(context_bound(fitted.context))
        first, *others = self._places(model)
        return Wish(
            model=model.name,
            engine=first.engine,
            region=first.region,
            mode=options.mode,
            priority=options.priority,
            options={
                "language": fitted.language,
                "context": fitted.context,
                "words": fitted.words,
                "engine": dict(fitted.options),
                "include": list(options.include),
                "on_gap": options.on_gap,
                "raw_rate": judged.raw,
                "sample_rate": options.sample_rate,
                "strict": options.strict,
                "ceiling": ceiling and ceiling.as_json(),
            },
            plan={
                **asdict(way),
                "upstream_model": first.upstream_model,
                "tokens": tokens and tokens.as_json(),
                "least_speech_ms": model.least_speech_ms,
                **(task_facts(model, judged.links) if model.is_task else {}),
            },
            bound_ms=units.millis,
            bound_tokens=(units.input_tokens, units.output_tokens),
            others=others,
            ceiling=ceiling,
            expected=expect(asked, way),
            warnings=[
                *map(dict, replaced(options, judged.because)),
                *map(dict, fitted.warnings),
                *known_of(model),
                *found,
            ],
            reference=options.reference,
            metadata=options.metadata,
        )

    def _places(self, model: Model) -> list[Place]:
        # What one account has been given, another one cannot read; nor does it know its tasks.
        failover = () if model.is_task else self._settings.dashscope.failover
        return [
            Place(engine.name, engine.region, model.upstream_in(engine.region))
            for engine in candidates(model, self._engines, failover)
        ]

    async def _submit(
        self, principal: Principal, recording: Recording | Source, wish: Wish
    ) -> Submitted:
        """Commit the job and begin it, at once where a caller waits and this process has a slot.

        Else it is in the queue with the same commit.
        """
        waits = wish.mode != "async"
        kind = wish.plan["kind"]
        has_slot = self._runner.reserve(kind, waits=waits)

        async def follow(made: Submitted, connection: Any) -> None:
            if made.claimed is None:
                await self._runner.put(made.job_id, kind, wish.priority, connection=connection)

        try:
            submitted = await self._db.write_followed(
                follow,
                submit,
                principal,
                recording,
                wish,
                now=self._now(),
                lease_seconds=self._settings.jobs.lease_seconds if has_slot else None,
            )
        except BaseException:
            if has_slot:
                self._runner.unreserve()
            raise
        # One who listens takes room for as long as their stream is open (see Runner.listening).
        takes_room = waits and wish.mode != STREAM
        self._runner.begin(submitted.job_id, submitted.claimed, waits=takes_room)
        return submitted

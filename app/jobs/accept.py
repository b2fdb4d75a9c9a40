"""The use-case: a received request becomes a durable job, or leaves nothing behind."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from app.access.principal import Principal
from app.audio.children import Decoders
from app.audio.fetch import Fetcher
from app.audio.intake import Received
from app.audio.look import look
from app.audio.probe import Probe
from app.audio.raw import raw_rate
from app.audio.store import BlobStore, StoredBlob, erase_copy
from app.db.engine import Database
from app.errors import DatabaseAway, EngineUnavailable, MissingAudio
from app.jobs.looked import Looked
from app.jobs.routes import Place
from app.jobs.runner import Runner
from app.jobs.submit import Recording, Source, Submitted, Wish, recording_of, submit
from app.kit.clock import Clock
from app.settings import Settings
from app.speech.bounds import context_bound
from app.speech.catalogue import Catalogue, Model
from app.speech.contract import Engine
from app.speech.failover import candidates
from app.speech.fit import Fitted, fit
from app.speech.options import Options, parse_options
from app.speech.plan import PlanInput, bound, plan


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that will end, and how long the caller wants to wait for that."""

    job_id: str
    options: Options


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

    async def accept(self, principal: Principal, received: Received) -> Accepted:
        """Judge, store, probe, commit, begin; whatever fails on the way is undone.

        A caller who hangs up meanwhile changes nothing: it ends as if they had stayed.
        Raises AudioError, InvalidParameter, UnknownModel, PriceUnknown and their like.
        """
        admitting = asyncio.create_task(self._admit(principal, received))
        self._admitting.add(admitting)
        admitting.add_done_callback(self._admitting.discard)
        return await asyncio.shield(admitting)

    async def _admit(self, principal: Principal, received: Received) -> Accepted:
        async with AsyncExitStack() as undo:
            if received.upload is not None:
                undo.push_async_callback(received.upload.discard)
            options, fitted, model = self._judge(received)
            raw = raw_rate(
                received.media_type,
                is_pcm=options.format == "pcm",
                sample_rate=options.sample_rate,
            )
            if received.url is not None:
                self._fetcher.check(received.url)
                wish = self._wish(options, fitted, model, None, raw)
                submitted = await self._submit(principal, Source(received.url), wish)
                return Accepted(submitted.job_id, options)
            if received.upload is None:
                raise MissingAudio
            blob = await received.upload.finish(principal.project_id)
            undo.push_async_callback(self._store.erase, blob.key)
            found = await self._look(blob, raw)
            wish = self._wish(options, fitted, model, Looked(found, blob.bytes), raw)
            try:
                submitted = await self._submit(principal, recording_of(blob, found), wish)
            except DatabaseAway:
                undo.pop_all()  # the job may be committed all the same: it needs its recording
                raise
            undo.pop_all()
        await erase_copy(self._store, blob.key, kept=submitted.blob_key)
        return Accepted(submitted.job_id, options)

    def _judge(self, received: Received) -> tuple[Options, Fitted, Model]:
        options, unknown = parse_options(received.options)
        model = self._catalogue.find(options.model or self._settings.default_model)
        if model.engine not in self._engines:
            raise EngineUnavailable(f"The engine of {model.name} is not switched on here.")
        return options, fit(options, model, unknown), model

    async def _look(self, blob: StoredBlob, raw: int | None) -> Probe:
        async with self._store.local_copy(blob.key) as path:
            audio = self._settings.audio
            return await look(path, decoders=self._decoders, settings=audio, raw_rate=raw)

    def _wish(
        self,
        options: Options,
        fitted: Fitted,
        model: Model,
        looked: Looked | None,
        raw: int | None,
    ) -> Wish:
        asked = PlanInput(
            None if looked is None else looked.found.seconds,
            model,
            self._settings.audio.max_seconds,
            fitted.context,
            may_split=options.split == "auto",
            upload=None if looked is None else looked.upload,
        )
        found = looked.warnings(options.sample_rate, strict=options.strict) if looked else ()
        units = bound(asked)
        tokens = model.token_facts(context_bound(fitted.context))
        first, *others = self._places(model)
        return Wish(
            model=model.name,
            engine=first.engine,
            region=first.region,
            mode=options.mode,
            options={
                "language": fitted.language,
                "context": fitted.context,
                "words": fitted.words,
                "engine": dict(fitted.options),
                "include": list(options.include),
                "on_gap": options.on_gap,
                "raw_rate": raw,
                "sample_rate": options.sample_rate,
                "strict": options.strict,
            },
            plan={
                **asdict(plan(asked)),
                "upstream_model": first.upstream_model,
                "tokens": tokens and tokens.as_json(),
                "least_speech_ms": model.least_speech_ms,
            },
            bound_ms=units.millis,
            bound_tokens=(units.input_tokens, units.output_tokens),
            others=others,
            warnings=[*map(dict, fitted.warnings), *found],
            reference=options.reference,
            metadata=options.metadata,
        )

    def _places(self, model: Model) -> list[Place]:
        failover = self._settings.dashscope.failover
        return [
            Place(engine.name, engine.region, model.upstream_in(engine.region))
            for engine in candidates(model, self._engines, failover)
        ]

    async def _submit(
        self, principal: Principal, recording: Recording | Source, wish: Wish
    ) -> Submitted:
        """Commit the job and begin it, at once where this process has a free slot."""
        has_slot = await self._runner.reserve()
        try:
            submitted = await self._db.write(
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
        self._runner.begin(submitted.job_id, submitted.claimed)
        return submitted

"""The plan of a job: from a request and its probe to the engine, the model, the calls and the cost.

Nothing here reads the database or the network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from app.audio.inspection.raw import raw_rate
from app.audio.intake.receive import Received
from app.audio.pcm import SAMPLE_RATE
from app.audio.probe import Probe
from app.errors import EngineDisabled
from app.jobs.store.job import Job
from app.jobs.store.job_spec import EnginePlace, JobOptions, JobPlan, JobSpec
from app.jobs.store.spending_limit import SpendingLimit
from app.kit.records import dataclass
from app.net.urls import is_publicly_reachable
from app.settings import Settings
from app.speech.catalogue import Catalogue, CatalogueModel
from app.speech.engine import CallSlot, Engine
from app.speech.model_availability import how_to_switch_on, is_switched_on
from app.speech.options import Options, parse_options
from app.speech.planning.expected_usage import expected_usage
from app.speech.planning.failover import engines_for
from app.speech.planning.fit_options import (
    ModelRequest,
    fit_options,
    model_warnings,
    sample_rate_warning,
)
from app.speech.planning.plan import (
    AudioSource,
    PlanInput,
    ProbedFile,
    VerifiedFile,
    max_usage,
    plan,
)
from app.speech.planning.task_variant import replacement_warning, select_model, task_variants_of
from app.speech.task_engine import HasTasks, TaskEngine
from app.speech.usage_bounds import max_context_tokens
from app.speech.warning_codes import WarningCode

MAX_REMEMBERED = 200  # resolved requests
MAX_REMEMBERED_OPTIONS, MAX_REMEMBERED_TEXT = 10, 100  # of one of them


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A request, resolved as far as that is possible without its audio.

    `because`: the reason for another model than the requested one; `links`: the ways in which a
    filetrans model could be given the audio; `raw`: the sample rate of raw samples.
    """

    options: Options
    fitted: ModelRequest
    model: CatalogueModel
    model_reason: str
    audio_sources: tuple[AudioSource, ...]
    raw: int | None


@dataclass(frozen=True, slots=True)
class ProbedAudio:
    """Audio of so many bytes, with its probe result.

    Without a format only its length is known.
    """

    found: Probe
    bytes: int

    @property
    def upload(self) -> VerifiedFile | None:
        """The audio as it may be uploaded unchanged; None unless its probe result is exact."""
        found = self.found
        if not found.exact:
            return None
        form = "opus" if found.codec == "opus" else found.format
        return VerifiedFile(form, found.channels, self.bytes)

    @property
    def file(self) -> ProbedFile | None:
        """The audio as a file to be read as it was received; None if its format is unknown."""
        found = self.found
        if not found.format:
            return None
        return ProbedFile(found.format, found.channels, found.sample_rate, self.bytes)

    def warnings(self, sample_rate: int | None, *, strict: bool) -> Sequence[dict[str, Any]]:
        """Return the warnings about the audio for a client that gave this sample rate.

        Raises OptionNotSupported where the rate differs and `strict` is set.
        """
        warning = sample_rate_warning(sample_rate, self.found, strict=strict)
        warnings = [] if warning is None else [dict(warning)]
        if self.found.cut_short:
            detail = "The file may be incomplete: it ends before the length that its header gives."
            warnings.append({"code": WarningCode.AUDIO_DAMAGED, "detail": detail})
        return warnings


class Planner:
    """Plans requests by the catalogue, the open engines and the settings."""

    def __init__(
        self, catalogue: Catalogue, engines: Mapping[str, Engine], settings: Settings
    ) -> None:
        self._catalogue = catalogue
        self._engines = engines
        self._settings = settings
        self._resolved: dict[tuple[Any, ...], ResolvedRequest] = {}

    def resolve(
        self, received: Received, preferred: Mapping[str, Any] | None = None
    ) -> ResolvedRequest:
        """Resolve the model and the options of a request.

        `preferred` are options that apply where the request does not set them. Raises
        InvalidParameter, UnknownModel and other errors of the request.

        Clients send the same options again and again, so uploads with few texts as options are
        resolved once. Catalogue, engines and settings do not change while the process runs.
        """
        given = received.options
        is_small = received.url is None and not preferred and len(given) <= MAX_REMEMBERED_OPTIONS
        # True and 1 are equal, but as options they differ: only texts are compared.
        if not is_small or any(
            type(value) is not str or len(value) > MAX_REMEMBERED_TEXT for value in given.values()
        ):
            return self._resolve(received, preferred or {})
        key = (received.media_type, *given.items())
        resolved = self._resolved.get(key)
        if resolved is None:
            resolved = self._resolve(received, {})
            if len(self._resolved) >= MAX_REMEMBERED:
                self._resolved.clear()
            self._resolved[key] = resolved
        return resolved

    def _resolve(self, received: Received, preferred: Mapping[str, Any]) -> ResolvedRequest:
        options, unknown = parse_options(received.options, preferred)
        asked = self._catalogue.find(
            options.model or self._settings.default_model,
            lambda model: self._can_be_asked(model, received.url),
        )
        if not is_switched_on(asked, self._settings.dashscope):
            raise EngineDisabled(f"{asked.name} is not available: {how_to_switch_on(asked)}.")
        variants = map(self._catalogue.models.get, task_variants_of(asked, options))
        usable = (one for one in variants if one and self._can_be_asked(one, received.url))
        task_variant = next(usable, None)
        model, model_reason = select_model(asked, task_variant, options, mode=options.mode)
        if model.engine not in self._engines or (model.is_task and self._tasks_of(model) is None):
            raise EngineDisabled(
                f"{model.name} is not available: {how_to_switch_on(model)}. "
                "GET /v1/models lists the models that are ready."
            )
        return ResolvedRequest(
            options,
            fit_options(options, model, unknown, partial(self._alternatives, model, received.url)),
            model,
            model_reason,
            audio_sources=self._links_for(model, received.url),
            raw=raw_rate(
                received.media_type,
                is_pcm=options.format == "pcm",
                sample_rate=options.sample_rate,
            ),
        )

    def _alternatives(self, model: CatalogueModel, url: str | None) -> Iterator[CatalogueModel]:
        """Yield the other models of the same bundle that could be given the audio."""
        for other in self._catalogue.models.values():
            is_other = other.engine == model.engine and other is not model
            if is_other and self._can_be_asked(other, url):
                yield other

    def _can_be_asked(self, model: CatalogueModel, url: str | None) -> bool:
        engine = self._engines.get(model.engine)
        return (
            engine is not None
            and is_switched_on(model, self._settings.dashscope)
            and model.is_priced_in(engine.region)
            and (not model.is_task or bool(self._links_for(model, url)))
        )

    def _tasks_of(self, model: CatalogueModel) -> TaskEngine | None:
        engine = self._engines.get(model.engine)
        tasks = engine.tasks if isinstance(engine, HasTasks) else None
        is_known = tasks and engine and tasks.knows(model.upstream_in(engine.region))
        return tasks if is_known else None

    def _links_for(self, model: CatalogueModel, url: str | None) -> tuple[AudioSource, ...]:
        """Return the ways in which a filetrans model could be given the audio, the best first.

        A presigned URL of an object store would come second; there is none yet.
        """
        tasks = self._tasks_of(model) if model.is_task else None
        if tasks is None:
            return ()
        given: tuple[AudioSource, ...] = (
            ("client_url",) if url is not None and is_publicly_reachable(url) else ()
        )
        ours: tuple[AudioSource, ...] = ("gateway_url",) if self._settings.server.public_url else ()
        theirs: tuple[AudioSource, ...] = ("provider_upload",) if tasks.may_upload else ()
        return (*given, *ours, *theirs)

    def spec(self, request: ResolvedRequest, looked: ProbedAudio | None) -> JobSpec:
        """Return the job's options, its plan, and the most that its calls can use.

        `looked` is None where the audio is yet to be fetched.
        """
        options, fitted, model = request.options, request.fitted, request.model
        job_options = JobOptions(
            language=fitted.language,
            context=fitted.context,
            word_timestamps=fitted.word_timestamps,
            engine_options=fitted.options,
            include=tuple(options.include),
            on_gap=options.on_gap,
            raw_rate=request.raw,
            sample_rate=options.sample_rate,
            strict=options.strict,
            spending_limit=SpendingLimit.of(options),
        )
        asked = self._plan_input(
            model,
            job_options,
            looked,
            may_split=options.split == "auto",
            audio_sources=request.audio_sources,
            model_reason=request.model_reason,
        )
        found = looked.warnings(options.sample_rate, strict=options.strict) if looked else ()
        way, units = plan(asked), max_usage(asked)
        facts: dict[str, Any] = {}
        if model.is_task:
            least, most = model.sample_rates
            facts["audio_sources"] = request.audio_sources
            facts["sample_rate"] = min(max(SAMPLE_RATE, least), most)
            facts["file_bytes"] = model.file_bytes
        first, *others = self._places(model)
        return JobSpec(
            model=model.name,
            engine=first.engine,
            region=first.region,
            mode=options.mode,
            priority=options.priority,
            options=job_options,
            plan=JobPlan.of(
                way,
                upstream_model=first.upstream_model,
                tokens=model.token_bounds(max_context_tokens(fitted.context)),
                min_speech_ms=model.min_speech_ms,
                **facts,
            ),
            max_ms=units.millis,
            max_tokens=(units.input_tokens, units.output_tokens),
            others=others,
            expected=expected_usage(asked, way),
            warnings=[
                *map(dict, replacement_warning(options, request.model_reason)),
                *map(dict, fitted.warnings),
                *model_warnings(model),
                *found,
            ],
            reference=options.reference,
            metadata=options.metadata,
        )

    def replan(self, job: Job, probed: ProbedAudio) -> Job:
        """Return a job with the plan and the warnings that follow from its fetched audio.

        The facts of the model are those that were known when the job was created. Raises the errors
        of the planner and of `SpendingLimit.check`.
        """
        options = job.options
        asked = self._plan_input(
            self._catalogue.find(job.account.model),
            options,
            probed,
            may_split=job.plan.may_split,
            audio_sources=tuple(one for one in job.plan.audio_sources if one != "client_url"),
            model_reason=job.plan.model_reason,
        )
        chosen = plan(asked)
        if options.spending_limit:
            options.spending_limit.check(job.routes[0].tariff, expected_usage(asked, chosen))
        warnings = probed.warnings(options.sample_rate, strict=options.strict)
        return replace(job, plan=job.plan.replanned(chosen), warnings=[*job.warnings, *warnings])

    def _plan_input(
        self,
        model: CatalogueModel,
        options: JobOptions,
        probed: ProbedAudio | None,
        *,
        may_split: bool,
        audio_sources: tuple[AudioSource, ...],
        model_reason: str,
    ) -> PlanInput:
        return PlanInput(
            None if probed is None else probed.found.seconds,
            model,
            self._settings.audio.max_seconds,
            options.context,
            may_split=may_split,
            upload=None if probed is None else probed.upload,
            audio_sources=audio_sources,
            file=None if probed is None else probed.file,
            channels=tuple(options.engine_options.get("channel_id", ())),
            diarized=bool(options.engine_options.get("diarization_enabled")),
            model_reason=model_reason,
        )

    async def try_admit(self, engine_name: str, upstream_model: str) -> CallSlot | None:
        """Admit a call of this engine if that needs no waiting; see `Engine.try_admit`."""
        return await self._engines[engine_name].try_admit(upstream_model)

    def _places(self, model: CatalogueModel) -> list[EnginePlace]:
        # One account cannot read the uploads of another account, and does not know its tasks.
        failover = () if model.is_task else self._settings.dashscope.failover
        return [
            EnginePlace(engine.name, engine.region, model.upstream_in(engine.region))
            for engine in engines_for(model, self._engines, failover)
        ]

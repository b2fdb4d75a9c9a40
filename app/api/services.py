"""The services of the running gateway that routes use; the composition root wires them once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import Request

from app.access.principals import Principals
from app.audio.storage.blob_store import BlobStore
from app.audio.storage.links import SignedLinks
from app.db.database import Database
from app.jobs.estimate import Estimator
from app.jobs.streaming.hub import StreamHub
from app.jobs.submission import Submission
from app.jobs.worker.maintenance import Maintenance
from app.jobs.worker.worker import Worker
from app.kit.clock import Clock
from app.settings import Settings
from app.speech.catalogue import Catalogue, CatalogueModel
from app.speech.engine import Engine, EngineReadiness
from app.speech.model_availability import how_to_switch_on, is_switched_on
from app.speech.planning.failover import engines_for


@dataclass(frozen=True, slots=True)
class Services:
    """`default_project` is the project of unauthenticated callers, where they are allowed."""

    settings: Settings
    db: Database
    store: BlobStore
    catalogue: Catalogue
    engines: Mapping[str, Engine]
    worker: Worker
    hub: StreamHub
    maintenance: Maintenance
    submission: Submission
    estimator: Estimator
    clock: Clock
    principals: Principals
    peppers: Sequence[bytes] = field(repr=False)
    links: SignedLinks = field(repr=False)
    default_project: str

    @property
    def local_engines(self) -> frozenset[str]:
        """Engines whose calls cost nothing if the answer is not received."""
        return frozenset(engine.name for engine in self.engines.values() if not engine.remote)

    def readiness(self, model: CatalogueModel) -> EngineReadiness | None:
        """Return whether an engine can call the model now; None if no engine offers it."""
        if not is_switched_on(model, self.settings.dashscope):
            return EngineReadiness(ready=False, unmet=how_to_switch_on(model))
        failover = self.settings.dashscope.failover
        found = [
            engine.readiness(model.upstream_in(engine.region))
            for engine in engines_for(model, self.engines, failover)
        ]
        return next((one for one in found if one.ready), found[0] if found else None)


def services_of(request: Request) -> Services:
    """Return the gateway's services."""
    services: Services = request.app.state.services
    return services

"""How the scorer process opens a version: by the code that every process loads with, golden rows included."""

from __future__ import annotations

from pathlib import Path

from models.repository import ModelReference, ModelRepository
from service.scoring.onnx_session import SessionSettings
from service.scoring.process.settings import ScorerSettings
from service.scoring.process.shelf import OpenedModel, OpenVersion
from service.scoring.process.slot_codec import input_names, output_names
from service.scoring.row_buckets import BoundSettings
from service.scoring.version_loading import LoadRule, open_version, warm_up


def version_opener(settings: ScorerSettings) -> OpenVersion:
    """Opens exact versions of the settings' repository.

    What it returns raises ModelRefusedError, RepositoryError or ProviderUnavailableError, each with its reason.
    """
    repository = ModelRepository(Path(settings.repository))
    bound = BoundSettings(cuda_graphs=settings.cuda_graphs)
    session = SessionSettings(settings.provider, settings.intra_op_threads, bound)
    rule = LoadRule(session, settings.golden_tolerance, settings.collapsed)

    def open_exact(name: str, version: int) -> OpenedModel:
        # Parsed anew, for a name becomes a path.
        opened = open_version(repository.open(ModelReference.parse(f"{name}@{version}")), rule)
        warm_up(opened, settings.batch_rows)
        return OpenedModel(
            run=opened.scorer,
            check=opened.opened.forms.check,
            inputs=input_names(opened.manifest),
            outputs={name: at for at, name in enumerate(output_names(opened.manifest))},
            provider=opened.provider,
            digest=opened.manifest.digest,
        )

    return open_exact

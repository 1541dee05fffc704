"""Tell MLflow and Prefect what went live."""

from registry.errors import ArtifactChanged, ArtifactMissing, ArtifactUnusable, Unproven
from tasks.promotion.events import emit_deployed
from tasks.tracking.alias import mirror_live

UNPROVEN = (ArtifactMissing, ArtifactChanged, ArtifactUnusable, Unproven)


def announce(project_name: str, model_id: int) -> None:
    """MLflow and Prefect, what went live."""
    mirror_live(project_name)
    emit_deployed(project_name, model_id)

"""A fitted pipeline to and from one verified skops file; MLflow's artifact store carries it. No pickle is ever loaded.

Nothing heavy is imported before a file is written or read: `import registry` stays light.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

from registry import settings
from registry.errors import ArtifactChanged, ArtifactMissing
from registry.values import Artifact

# The distances of knn's trees: all but the one that holds a function.
METRICS = (
    *("BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard", "Mahalanobis"),
    *("Manhattan", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean", "SokalSneath"),
)
# What the catalogue's fitted pipelines hold beyond skops' own defaults (a test fits them all). Only this list decides:
# what a file says of itself is never asked.
TRUSTED_TYPES = (
    "catboost.core.CatBoostClassifier",
    "catboost.core.CatBoostRegressor",
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "numpy.max",
    "numpy.min",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    *(f"sklearn.metrics._dist_metrics.{metric}Distance64" for metric in METRICS),
    "sklearn.model_selection._split.KFold",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "skrub._datetime_encoder.DatetimeEncoder",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
)


def describe(path: Path, uri: str) -> Artifact:
    """The file at `path` as it must be found again at `uri`."""
    with path.open("rb") as file:
        return Artifact(uri, hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def load_pipeline(artifact: Artifact) -> Any:
    """The fitted pipeline that was recorded.

    Raises:
        ArtifactMissing: the store does not have it, or cannot be reached.
        ArtifactChanged: its size or digest is another; nothing of it was read.
    """
    import skops.io

    with verified(artifact) as path:
        return skops.io.load(path, trusted=list(TRUSTED_TYPES))


@contextmanager
def verified(artifact: Artifact) -> Iterator[Path]:
    """A local copy of the artifact, checked byte for byte; one that had to be fetched is gone afterwards.

    Raises:
        ArtifactMissing, ArtifactChanged: as `load_pipeline` says.
    """
    with TemporaryDirectory(prefix="frontrunner-") as folder:
        path = _local(artifact.uri) or _fetched(artifact.uri, folder)
        try:
            found = describe(path, artifact.uri)
        except OSError as error:
            raise ArtifactMissing(f"{artifact.uri} cannot be read: {error.strerror}") from error
        if found != artifact:
            raise ArtifactChanged(
                f"{artifact.uri} is not the file that was recorded (sha256 {found.sha256[:12]}…, {found.bytes} bytes;"
                f" recorded {artifact.sha256[:12]}…, {artifact.bytes} bytes): restore it, or train again"
            )
        yield path


def _local(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _fetched(uri: str, folder: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=settings.tracking_uri()))
    except (MlflowException, OSError) as error:
        raise ArtifactMissing(f"{uri} cannot be fetched: {error}") from error

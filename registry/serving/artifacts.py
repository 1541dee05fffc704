"""A fitted pipeline to and from one verified skops file; MLflow's artifact store carries it. No pickle is ever loaded.

Nothing heavy is imported before a file is written or read: `import registry` stays light.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

from registry import settings
from registry.errors import ArtifactChanged, ArtifactMissing, ArtifactUnusable, without_credentials
from registry.values import Artifact

# Its client would wait for 7 and 120 s, and as long as a server asks for, and call home. What it prints of a server's
# pages would stand in our JSON, and a bar for every file in a run's log.
MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
CACHE_BYTES = 2_000_000_000
# Python 3.11 can refuse an array's header when two threads parse one at a time (SystemError, CPython's issue 106905).
_LOADING = Lock()

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
    "numpy.median",
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
        ArtifactUnusable: it holds a type that is not in our list, or was written by libraries too different from these.
    """
    import skops.io

    with verified(artifact) as path, _LOADING:
        try:
            return skops.io.load(path, trusted=list(TRUSTED_TYPES))
        except Exception as error:  # whatever a library raises
            reason = " ".join(str(error).split())[:300]
            raise ArtifactUnusable(f"{artifact.uri} cannot be loaded: {type(error).__name__}: {reason}") from error


@contextmanager
def verified(artifact: Artifact) -> Iterator[Path]:
    """A local file that was checked to be the artifact, byte for byte. One of a remote store is kept by its digest, so
    that it is fetched once and is there when the store is not.

    Raises:
        ArtifactMissing, ArtifactChanged: as `load_pipeline` says.
    """
    local = local_path(artifact.uri)
    if local is None:
        yield _cached(artifact)
    else:
        _check(local, artifact)
        yield local


def is_gone(artifact: Artifact) -> bool | None:
    """Whether a local store has lost the file; None: it is in a remote one, which is not asked."""
    local = local_path(artifact.uri)
    return None if local is None else not local.exists()


def bound_mlflow() -> None:
    """MLflow's client as we want it; what is set already is left."""
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)


def _check(path: Path, artifact: Artifact) -> None:
    try:
        found = describe(path, artifact.uri)
    except OSError as error:
        raise ArtifactMissing(f"{artifact.uri} cannot be read: {error.strerror}") from error
    if found != artifact:
        raise ArtifactChanged(
            f"{artifact.uri} is not the file that was recorded (sha256 {found.sha256[:12]}…, {found.bytes} bytes;"
            f" recorded {artifact.sha256[:12]}…, {artifact.bytes} bytes): restore it, or train again"
        )


def local_path(uri: str) -> Path | None:
    """Where a file of a local store is; None for one that another machine keeps."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _cached(artifact: Artifact) -> Path:
    folder = settings.cache().absolute()
    path = folder / artifact.sha256
    with suppress(ArtifactMissing, ArtifactChanged):
        _check(path, artifact)
        os.utime(path)  # it was used now
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix="fetching-") as beside:
        fetched = _fetched(artifact.uri, beside)
        _check(fetched, artifact)
        fetched.replace(path)
    _make_room(folder, path)
    return path


def _make_room(folder: Path, newest: Path) -> None:
    """The files that were not used for longest go; never the one that is about to be read."""
    files = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir() if path.is_file()]
    taken = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if taken > CACHE_BYTES and path != newest:
            path.unlink(missing_ok=True)
            taken -= size


def _fetched(uri: str, folder: str) -> Path:
    bound_mlflow()
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=settings.tracking_uri()))
    except (MlflowException, OSError) as error:
        reason = " ".join(without_credentials(str(error)).split())[:300]
        raise ArtifactMissing(f"{uri} cannot be fetched: {reason}") from error

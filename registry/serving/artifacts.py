"""Load fitted pipelines from verified skops files in MLflow's artifact store. No pickle is ever loaded."""

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

# MLflow's client would retry too often and too long, honour Retry-After, send telemetry, print run URLs into our JSON
# output, and show a progress bar for every file.
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

# The distance types of knn's trees, except the one that contains a function.
METRICS = (
    *("BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard", "Mahalanobis"),
    *("Manhattan", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean", "SokalSneath"),
)
# The types in fitted pipelines of the catalogue beyond skops' own defaults (a test fits them all). Only this list
# decides; the types that a file declares as trusted are ignored.
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
    """Return the artifact record of the file at `path`, which will be stored at `uri`."""
    with path.open("rb") as file:
        return Artifact(uri, hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def load_pipeline(artifact: Artifact) -> Any:
    """Return the fitted pipeline in a recorded file.

    Raises:
        ArtifactMissing: the store does not have the file, or cannot be reached.
        ArtifactChanged: the file has another size or digest; it was not loaded.
        ArtifactUnusable: the file contains an untrusted type, or was written by incompatible library versions.
    """
    import skops.io  # it loads scikit-learn

    with verified(artifact) as path, _LOADING:
        try:
            return skops.io.load(path, trusted=list(TRUSTED_TYPES))
        except Exception as error:  # whatever a library raises
            reason = " ".join(str(error).split())[:300]
            raise ArtifactUnusable(f"{artifact.uri} cannot be loaded: {type(error).__name__}: {reason}") from error


@contextmanager
def verified(artifact: Artifact) -> Iterator[Path]:
    """Provide a local file that is the artifact, byte for byte. Raises: ArtifactMissing, ArtifactChanged.

    A file of a remote store is cached by its digest, so that it is fetched once and is available during an outage.
    """
    local = local_path(artifact.uri)
    if local is None:
        yield _cached(artifact)
    else:
        _check(local, artifact)
        yield local


def is_gone(artifact: Artifact) -> bool | None:
    """Return True if a local store has lost the file; None if the store is remote, which is not queried."""
    local = local_path(artifact.uri)
    return None if local is None else not local.exists()


def bound_mlflow() -> None:
    """Set our limits for MLflow's client, except those that the environment sets already."""
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
    """Return the path of a file in a local store; None if the store is remote."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _cached(artifact: Artifact) -> Path:
    folder = settings.cache().absolute()
    path = folder / artifact.sha256
    with suppress(ArtifactMissing, ArtifactChanged):
        _check(path, artifact)
        os.utime(path)  # the cache drops the files that were not used for longest
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix="fetching-") as temporary:
        fetched = _fetch(artifact.uri, temporary)
        _check(fetched, artifact)
        fetched.replace(path)
    _make_room(folder, path)
    return path


def _make_room(folder: Path, newest: Path) -> None:
    """Delete the least recently used files beyond CACHE_BYTES, but never the newest."""
    files = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir() if path.is_file()]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total > CACHE_BYTES and path != newest:
            path.unlink(missing_ok=True)
            total -= size


def _fetch(uri: str, folder: str) -> Path:
    bound_mlflow()
    from mlflow.artifacts import download_artifacts  # MLflow is heavy, and only needed for remote stores
    from mlflow.exceptions import MlflowException  # as above

    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=settings.tracking_uri()))
    except (MlflowException, OSError) as error:
        reason = " ".join(without_credentials(str(error)).split())[:300]
        raise ArtifactMissing(f"{uri} cannot be fetched: {reason}") from error

"""The errors that Frontrunner raises on purpose. Each message says what is wrong and how to fix it."""

import re
from collections.abc import Iterable
from typing import Any


class FrontrunnerError(Exception):
    """The root of all errors. Its text is one line, fit for a terminal or a Prefect run page."""

    def __str__(self) -> str:
        """Return the message without line ends, terminal commands or half surrogate pairs, which names may contain."""
        return "".join(character if character.isprintable() else " " for character in super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message itself, because `__init__` may take other arguments."""
        return _recreate, (type(self), self.args), self.__dict__


def _recreate(kind: type[FrontrunnerError], args: tuple[Any, ...]) -> FrontrunnerError:
    return kind.__new__(kind, *args)


class InvalidInput(FrontrunnerError):
    """An argument cannot be used. Nothing was fitted or recorded."""


class UnknownValue(InvalidInput):
    def __init__(self, what: str, value: object, valid: Iterable[str]) -> None:
        super().__init__(f"unknown {what} {value!r}: choose one of {', '.join(valid) or '(there are none)'}")


class InvalidName(InvalidInput):
    pass


class TaskMismatch(InvalidInput):
    def __init__(self, name: str, task: str, requested: str) -> None:
        super().__init__(
            f"project {name!r} is a {task} project, not {requested}: leave task out, or train {requested} under"
            " another name"
        )


class BadData(InvalidInput):
    """The rows cannot be trained on. Nothing was fitted or recorded."""


class UnknownRelation(BadData):
    pass


class UnknownColumn(BadData):
    def __init__(self, column: str, relation: str, columns: Iterable[str]) -> None:
        super().__init__(f"{relation} has no column {column!r}; it has {_quote(columns)}")


class BadHyperparameter(InvalidInput):
    pass


class ExportDamaged(InvalidInput):
    """A file is not an export of Frontrunner, or was changed after it was written. Nothing was imported."""


class ExportTooNew(InvalidInput):
    def __init__(self, file: object, what: str) -> None:
        super().__init__(f"{file} was written by a newer Frontrunner ({what}): upgrade this one, then import it")


class ProjectExists(InvalidInput):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is a project {name!r} already: import it under another name with --as NEW-NAME")


class ProjectImported(InvalidInput):
    def __init__(self, name: str) -> None:
        super().__init__(f"this project is here already, as {name!r}: there is nothing to import")


class MissingExtra(FrontrunnerError):
    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'frontrunner[{extra}]'")


_TRAIN_ONE = "frontrunner train NAME --task … --relation-name …"


class UnknownProject(FrontrunnerError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = _quote(known)
        hint = f"there are {names}" if names else f"train one first: {_TRAIN_ONE}"
        super().__init__(f"there is no project {name!r}; {hint}")


class NoRegistry(UnknownProject):
    def __init__(self, where: str) -> None:
        FrontrunnerError.__init__(
            self,
            f"there is no registry at {where} yet: run this in the project's folder, set REGISTRY_URL, or train a"
            f" project first: {_TRAIN_ONE}",
        )


class UnknownModel(FrontrunnerError):
    def __init__(self, model_id: int) -> None:
        super().__init__(f"there is no model {model_id}; `frontrunner models PROJECT` lists a project's models")


class UnknownSnapshot(FrontrunnerError):
    def __init__(self, snapshot_id: int) -> None:
        super().__init__(
            f"there is no snapshot {snapshot_id}; `frontrunner models PROJECT` lists the snapshot of each model"
        )


class NoCandidate(FrontrunnerError):
    """No model qualifies. The history is unchanged."""


class ChoiceChanged(FrontrunnerError):
    """Another deploy came between a choice and its deployment. Nothing was written: choose again."""


class PlanChanged(FrontrunnerError):
    """The model in a plan is not the one that would be deployed now. Nothing was written."""


class UnknownDecision(FrontrunnerError):
    def __init__(self, decision_id: int) -> None:
        super().__init__(
            f"there is no decision {decision_id}; `frontrunner decisions PROJECT` lists a project's decisions"
        )


class NothingDeployed(FrontrunnerError):
    def __init__(self, name: str) -> None:
        super().__init__(f"project {name!r} has no live model yet: train one, or deploy one by best_score")


class NoProbabilities(FrontrunnerError):
    """The live model does not predict probabilities."""


class BadRows(InvalidInput):
    """The live model cannot predict for these rows."""


class MissingColumns(BadRows):
    def __init__(self, missing: Iterable[str], columns: Iterable[str]) -> None:
        super().__init__(
            f"the rows lack {_quote(missing)}, which the model was trained on; they have {_quote(columns)}"
        )


class Pruned(FrontrunnerError):
    """The files that are needed were deleted when the project was pruned. Their records remain."""


class NotDeleted(FrontrunnerError):
    """Files of a pruned model or snapshot cannot be deleted yet. The message says why."""


class NothingToTrainOn(FrontrunnerError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"project {name!r} has no snapshot to train on again: name a relation_name and a y_column_name"
        )


class CandidateFailed(FrontrunnerError):
    """One candidate could not be fitted, scored or saved. The others are not affected."""


class AllCandidatesFailed(FrontrunnerError):
    def __init__(self, reasons: Iterable[tuple[str, str]]) -> None:
        failures = "; ".join(f"{algorithm}: {reason}" for algorithm, reason in reasons)
        super().__init__(f"no candidate could be trained, so nothing was deployed. {failures}")


class RegistryUnavailable(FrontrunnerError):
    pass


class RegistryOutdated(FrontrunnerError):
    pass


class RegistryConflict(FrontrunnerError):
    """The database refused a row that would have made the record wrong. Nothing was written."""


class TrackingUnavailable(FrontrunnerError):
    """MLflow could not be reached or refused. A training raises this; a deploy never does."""


class ForeignAlias(FrontrunnerError):
    def __init__(self, alias: str, name: str, version: object) -> None:
        super().__init__(
            f"MLflow's alias {alias!r} of {name} names version {version}, which is not one of ours:"
            " run `frontrunner reconcile`"
        )


class ClusterUnavailable(FrontrunnerError):
    """The Dask cluster for the candidates cannot be used. Nothing was recorded."""


class PrefectUnavailable(FrontrunnerError):
    def __init__(self, url: str, why: str = "start it, or unset PREFECT_API_URL to train without") -> None:
        super().__init__(f"the Prefect server {url} does not answer: {why}")


class SourceUnavailable(BadData):
    """The database of a source does not answer."""


class StillTraining(FrontrunnerError):
    def __init__(self, project_name: str, seconds: int, limit: str) -> None:
        super().__init__(
            f"another training of {project_name!r} has not ended after {seconds // 60} minutes; if none is running,"
            f" free its slot: prefect global-concurrency-limit update {limit} --active-slots 0"
        )


class AlreadyUp(FrontrunnerError):
    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__(
            f"`frontrunner up` is up already in this folder ({', '.join(urls)}): stop it with Ctrl-C in its terminal"
        )


class PortTaken(FrontrunnerError):
    def __init__(self, name: str, port: int, holder: str) -> None:
        option = "--port" if name == "predictions" else f"--{name}-port"
        super().__init__(f"port {port} is taken by {holder}: end it, or choose another with {option} (0: any free one)")


class PrefectRefused(FrontrunnerError):
    def __init__(self, url: str, status: int) -> None:
        super().__init__(
            f"the Prefect server {url} refuses the request ({status}): set PREFECT_API_AUTH_STRING to its user:password"
        )


class ArtifactMissing(FrontrunnerError):
    pass


class ArtifactUnusable(FrontrunnerError):
    """A recorded file cannot be loaded, or contains types that are not trusted. Nothing in it was run."""


class Unproven(FrontrunnerError):
    """A model's file could not be shown to answer as it did at training. The model was not deployed."""


class ArtifactChanged(FrontrunnerError):
    """A file is not the one that was recorded. It was not opened."""


def without_credentials(text: str) -> str:
    """Return a library's message without the user names and passwords of the URLs in it."""
    return re.sub(r"//[^/\s]*@", "//", text)


def _quote(names: Iterable[str], limit: int = 20) -> str:
    quoted = [repr(name) for name in names]
    more = f", … ({len(quoted)} in all)" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more

"""Every error that Frontrunner raises on purpose; each message names the thing and the mend."""

import re
from collections.abc import Iterable
from typing import Any


class FrontrunnerError(Exception):
    """The root. Its text is one line, fit for a terminal or a Prefect run page."""

    def __str__(self) -> str:
        """Whatever a name that it quotes has in it: ends of lines, a terminal's commands, half a surrogate pair."""
        return "".join(character if character.isprintable() else " " for character in super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process, whatever `__init__` takes."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[FrontrunnerError], args: tuple[Any, ...]) -> FrontrunnerError:
    return kind.__new__(kind, *args)


class InvalidInput(FrontrunnerError):
    """An argument that cannot be used; nothing was fitted or recorded."""


class UnknownValue(InvalidInput):
    def __init__(self, what: str, value: object, valid: Iterable[str]) -> None:
        super().__init__(f"unknown {what} {value!r}: choose one of {', '.join(valid) or '(there are none)'}")


class InvalidName(InvalidInput):
    pass


class TaskMismatch(InvalidInput):
    def __init__(self, name: str, task: str, wanted: str) -> None:
        super().__init__(
            f"project {name!r} is a {task} project, not {wanted}: leave task out, or train {wanted} under another name"
        )


class BadData(InvalidInput):
    """The rows cannot be trained on; nothing was fitted or recorded."""


class UnknownRelation(BadData):
    pass


class UnknownColumn(BadData):
    def __init__(self, column: str, relation: str, columns: Iterable[str]) -> None:
        super().__init__(f"{relation} has no column {column!r}; it has {_some(columns)}")


class BadHyperparameter(InvalidInput):
    pass


class ExportDamaged(InvalidInput):
    """A file is no export of Frontrunner's, or not as it was written; nothing of it was imported."""


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


class UnknownProject(FrontrunnerError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = _some(known)
        super().__init__(
            f"there is no project {name!r}; "
            + (f"there are {names}" if names else "train one first: frontrunner train NAME --task … --relation-name …")
        )


class NoRegistry(UnknownProject):
    def __init__(self, where: str) -> None:
        FrontrunnerError.__init__(
            self,
            f"there is no registry at {where} yet, and so no project: stand in the folder that has it, set"
            " REGISTRY_URL, or train one first: frontrunner train NAME --task … --relation-name …",
        )


class UnknownModel(FrontrunnerError):
    def __init__(self, model_id: int) -> None:
        super().__init__(f"there is no model {model_id}; `frontrunner models PROJECT` lists a project's models")


class UnknownSnapshot(FrontrunnerError):
    def __init__(self, snapshot_id: int) -> None:
        super().__init__(
            f"there is no snapshot {snapshot_id}; `frontrunner models PROJECT` says which a model was trained on"
        )


class NoCandidate(FrontrunnerError):
    """No model qualifies; the history is unchanged."""


class ChoiceChanged(FrontrunnerError):
    """Another deploy came between a choice and its deployment; nothing was written: choose again."""


class PlanChanged(FrontrunnerError):
    """The model that a plan named is not the one that would be deployed now; nothing was written."""


class UnknownDecision(FrontrunnerError):
    def __init__(self, decision_id: int) -> None:
        super().__init__(f"there is no decision {decision_id}; `frontrunner decisions PROJECT` lists a project's")


class NothingDeployed(FrontrunnerError):
    def __init__(self, name: str) -> None:
        super().__init__(f"project {name!r} has no live model yet: train one, or deploy one by best_score")


class NoProbabilities(FrontrunnerError):
    """The live model has no probabilities to give."""


class BadRows(InvalidInput):
    """Rows that the live model cannot predict for."""


class MissingColumns(BadRows):
    def __init__(self, missing: Iterable[str], columns: Iterable[str]) -> None:
        super().__init__(f"the rows lack {_some(missing)}, which the model was trained on; they have {_some(columns)}")


class Pruned(FrontrunnerError):
    """The files that are needed were deleted when the project was pruned; what is remembered of them stays."""


class NotDeleted(FrontrunnerError):
    """Files of something that was pruned have to stay for now; the message says until when."""


class NothingToTrainOn(FrontrunnerError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"project {name!r} has no snapshot to train on again: name a relation_name and a y_column_name"
        )


class CandidateFailed(FrontrunnerError):
    """One candidate could not be fitted, scored or saved; the others are not touched."""


class AllCandidatesFailed(FrontrunnerError):
    def __init__(self, reasons: Iterable[tuple[str, str]]) -> None:
        said = "; ".join(f"{algorithm}: {reason}" for algorithm, reason in reasons)
        super().__init__(f"no candidate could be trained, so nothing was deployed. {said}")


class RegistryUnavailable(FrontrunnerError):
    pass


class RegistryOutdated(FrontrunnerError):
    pass


class RegistryConflict(FrontrunnerError):
    """The database refused a row that would have made the record wrong; nothing was written."""


class TrackingUnavailable(FrontrunnerError):
    """MLflow could not be reached or refused; a deploy never raises this, a training does."""


class ForeignAlias(FrontrunnerError):
    def __init__(self, alias: str, name: str, version: object) -> None:
        super().__init__(
            f"MLflow's alias {alias!r} of {name} names version {version}, which is not one of ours:"
            " run `frontrunner reconcile`"
        )


class ClusterUnavailable(FrontrunnerError):
    """The Dask cluster that candidates are to be trained on cannot be used; nothing was recorded."""


class PrefectUnavailable(FrontrunnerError):
    def __init__(self, url: str, why: str = "start it, or unset PREFECT_API_URL to train without") -> None:
        super().__init__(f"the Prefect server {url} does not answer: {why}")


class SourceUnavailable(BadData):
    """The database of a source does not answer."""


class StillTraining(FrontrunnerError):
    def __init__(self, project_name: str, seconds: int, limit: str) -> None:
        super().__init__(
            f"another training of {project_name!r} has not ended after {seconds // 60} minutes; where none runs any"
            f" more: prefect global-concurrency-limit update {limit} --active-slots 0"
        )


class AlreadyUp(FrontrunnerError):
    def __init__(self, urls: Iterable[str]) -> None:
        super().__init__(f"it is up already in this folder: {', '.join(urls)}; Ctrl-C where it runs ends it")


class PortTaken(FrontrunnerError):
    def __init__(self, name: str, port: int, holder: str) -> None:
        option = "--port" if name == "predictions" else f"--{name}-port"
        super().__init__(f"port {port} is taken by {holder}: end it, or choose another with {option} (0: any free one)")


class PrefectRefused(FrontrunnerError):
    def __init__(self, url: str, status: int) -> None:
        super().__init__(
            f"the Prefect server {url} refuses ({status}): set PREFECT_API_AUTH_STRING to what it asks for"
        )


class ArtifactMissing(FrontrunnerError):
    pass


class ArtifactUnusable(FrontrunnerError):
    """A file that was recorded cannot be loaded, or holds types that are not ours to trust; nothing of it was run."""


class Unproven(FrontrunnerError):
    """A model's file could not be shown to answer as it did at training; it was not deployed."""


class ArtifactChanged(FrontrunnerError):
    """A file is not the one that was recorded; it was not opened."""


def without_credentials(text: str) -> str:
    """A library's words, without the name and password of an address that it quotes."""
    return re.sub(r"//[^/\s]*@", "//", text)


def _some(names: Iterable[str], limit: int = 20) -> str:
    listed = [repr(name) for name in names]
    more = f", … ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more

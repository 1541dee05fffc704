"""(f) Only verified artifacts are served: a file that is not the recorded one, byte for byte, answers nobody."""

from collections.abc import Callable
from pathlib import Path

import pytest
import skops.io
from sklearn.dummy import DummyClassifier

from registry import Predictor, queries
from registry.errors import ArtifactChanged, ArtifactMissing
from registry.values import Terms
from registry.vocabulary import Compare, Task
from tasks.promotion import automatic, manual
from tasks.promotion.deploy_request import checked_deploy
from tests.support.story import Story


def another_that_answers_the_same(path: Path) -> None:
    skops.io.dump(DummyClassifier(strategy="constant", constant=0).fit([[0.0], [1.0]], [0, 1]), path)


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_longer_end(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def a_lost_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def nothing_in_it(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [another_that_answers_the_same, one_bit, a_longer_end, a_lost_end, nothing_in_it, Path.unlink]
REFUSED = (ArtifactChanged, ArtifactMissing)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("registry_url", ["sqlite"], indirect=True)
def test_a_damaged_file(registry_url: str, workspace: Path, damage: Callable[[Path], None]) -> None:
    story = Story(folder=workspace)
    live, challenger = story.trained_and_promoted(0.7), story.trained(0.9)
    with Predictor("churn") as predictor:
        damage(workspace / "story.skops")
        with pytest.raises(REFUSED):
            Predictor("churn")
        with pytest.raises(REFUSED, match="nothing was changed"):
            manual.deploy(checked_deploy("churn", "best_score"), "by hand")
        decision = automatic.decide(
            "churn", Task.CLASSIFICATION, [queries.model(challenger)], Terms(Compare.RECORDED), "by itself"
        )
        assert (decision.deployed, decision.live_model_id) == (False, live)
        assert story.history == [(1, "new_score", live)]
        story.deploys("best_score")  # without its proof, so that there is another to load
        with pytest.raises(REFUSED):
            predictor.refresh()
        assert predictor.model.id == live, "the model that was verified goes on"
        assert list(predictor.predict([[1.0]])) == [0]

"""Every rule of deployment, in orders that nobody would think of: after each step the history and the live model are
those of the same rules kept in lists (`tests/support/expected_registry.py`)."""

import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from registry import history, lifecycle, queries, schema
from registry.errors import InvalidInput, NoCandidate, NothingDeployed, RegistryConflict
from tests.support.expected_registry import Model, Project, Refused
from tests.support.size import TORTURE, sized, tell
from tests.support.story import Story

ALGORITHMS = st.sampled_from(["svm", "linear"])
FILTERS = st.none() | ALGORITHMS | st.just("knn")  # nobody has that one
TIES = st.sampled_from([0.5, 0.5, 0.25, -0.1, 0.0, -0.0, 9.5e-05, 0.91, 5e-324, -5e-324, 1e308, -1e308])
SCORES = TIES | st.floats(-1e308, 1e308)
NO_SCORES = st.sampled_from([math.nan, math.inf, -math.inf])
PICKS = st.integers(0, 30)
PROJECTS = st.integers(0, 1)

_names = count()


class Clock(datetime):
    """What the registry takes for the time: it may stand still and go back."""

    time = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.time.astimezone(tz)


class Rules(RuleBasedStateMachine):
    """Two projects, so that one never touches the other."""

    steps = 0

    @initialize()
    def two_projects(self) -> None:
        self.stories = [Story(f"project {next(_names)}") for _ in range(2)]
        self.projects = [Project(), Project()]
        self.ids: dict[int, dict[int, int]] = {0: {}, 1: {}}  # of models, by their numbers
        self.done: list[tuple[int, str, dict[str, Any], Any]] = []  # deploys that added a row
        self.decided: list[tuple[int, Model, str, bool]] = []
        self.numbers = count(1)

    @rule(project=PROJECTS, algorithm=ALGORITHMS, score=SCORES, promoted=st.booleans())
    def train(self, project: int, algorithm: str, score: float, promoted: bool) -> None:
        model = self._started(project, algorithm)
        self.stories[project].finish(self.ids[project][model.number], score)
        model.score = score
        if promoted:
            self._promote(project, model)

    @rule(project=PROJECTS, algorithm=ALGORITHMS)
    def begin(self, project: int, algorithm: str) -> None:
        self._started(project, algorithm)

    @rule(project=PROJECTS, pick=PICKS, score=SCORES)
    def finish_late_or_twice(self, project: int, pick: int, score: float) -> None:
        """What is trained never changes; what was not is trained now, whoever was begun after it."""
        if (model := self._pick(project, pick)) is not None:
            self.stories[project].finish(self.ids[project][model.number], score)
            model.score = score if model.score is None else model.score

    @rule(project=PROJECTS, algorithm=ALGORITHMS, score=NO_SCORES)
    def train_without_a_score(self, project: int, algorithm: str, score: float) -> None:
        model = self._started(project, algorithm)
        with pytest.raises(RegistryConflict):
            self.stories[project].finish(self.ids[project][model.number], score)

    @rule(project=PROJECTS, pick=PICKS)
    def fail(self, project: int, pick: int) -> None:
        if (model := self._pick(project, pick)) is not None:
            lifecycle.fail_model(self.ids[project][model.number], "it could not be fitted", None)

    @rule(project=PROJECTS, pick=PICKS)
    def promote(self, project: int, pick: int) -> None:
        if (model := self._pick(project, pick)) is not None:
            self._promote(project, model)

    @rule(project=PROJECTS, algorithm=FILTERS)
    def best_score(self, project: int, algorithm: str | None) -> None:
        self._deploy(project, "best_score", lambda rules: rules.best_score(algorithm), algorithm=algorithm)

    @rule(project=PROJECTS, algorithm=FILTERS)
    def most_recent(self, project: int, algorithm: str | None) -> None:
        self._deploy(project, "most_recent", lambda rules: rules.most_recent(algorithm), algorithm=algorithm)

    @rule(project=PROJECTS, pick=PICKS)
    def specific(self, project: int, pick: int) -> None:
        if (model := self._pick(project, pick)) is not None:
            model_id = self.ids[project][model.number]
            self._deploy(project, "specific", lambda rules: rules.specific(model.number), model_id=model_id)

    @rule(project=PROJECTS, algorithm=FILTERS, steps=st.integers(1, 3), quarantine=st.booleans())
    def rollback(self, project: int, algorithm: str | None, steps: int, quarantine: bool) -> None:
        asked = {"algorithm": algorithm, "steps": steps}
        if quarantine:
            asked |= {"quarantine": True, "reason": "it was bad"}
        live = self.projects[project].live
        if self._deploy(project, "rollback", lambda rules: rules.rollback(algorithm, steps), **asked) and quarantine:
            live.held = True

    @rule(project=PROJECTS, seq=st.integers(0, 12))
    def rollback_to(self, project: int, seq: int) -> None:
        self._deploy(project, "rollback", lambda rules: rules.to_seq(seq), to_seq=seq)

    @rule(project=PROJECTS, pick=PICKS)
    def quarantine_or_release(self, project: int, pick: int) -> None:
        if (model := self._pick(project, pick)) is None:
            return
        model_id = self.ids[project][model.number]
        if model.held:
            with pytest.raises(InvalidInput):
                history.quarantine(model_id, "again", by="me")
            history.release(model_id, by="me")
        else:
            history.quarantine(model_id, "leaks", by="me")
        model.held = not model.held

    @rule(pick=PICKS)
    def deploy_again_with_the_same_key(self, pick: int) -> None:
        if self.done:
            project, strategy, asked, answer = self.done[pick % len(self.done)]
            assert self.stories[project].deploys(strategy, **asked) == answer

    @rule(pick=PICKS)
    def promote_again_with_the_same_key(self, pick: int) -> None:
        if self.decided:
            project, model, key, deployed = self.decided[pick % len(self.decided)]
            live = self.projects[project].live
            again = self.stories[project].promoted(self.ids[project][model.number], key)
            assert again.deployed == deployed
            assert again.live_model_id == (self.ids[project][live.number] if live else None)

    @rule(hours=st.sampled_from([-48, -1, 0, 0, 1]))
    def clock(self, hours: int) -> None:
        Clock.time += timedelta(hours=hours)

    @invariant()
    def the_history_and_the_live_model_are_those_of_the_rules(self) -> None:
        Rules.steps += 1
        for number, (story, rules) in enumerate(zip(self.stories, self.projects, strict=True)):
            ids = self.ids[number]
            expected = [(seq, why, ids[m.number], m.score) for seq, (why, m) in enumerate(rules.history, 1)]
            rows = reversed(queries.history(story.project))
            assert [(row.seq, str(row.strategy), row.model_id, row.score) for row in rows] == expected
            with suppress(NothingDeployed):
                live = queries.live_deployment(story.project)
                assert (live.seq, live.id) == (len(expected), ids[rules.live.number])
            assert (story.live is None) == (rules.live is None)

    def _started(self, project: int, algorithm: str) -> Model:
        model = Model(next(self.numbers), algorithm)
        self.ids[project][model.number] = self.stories[project].started(algorithm).id
        self.projects[project].models.append(model)
        return model

    def _pick(self, project: int, pick: int) -> Model | None:
        models = self.projects[project].models
        return models[pick % len(models)] if models else None

    def _promote(self, project: int, model: Model) -> None:
        key, expected = Story.key(), self.projects[project].promote(model)
        decision = self.stories[project].promoted(self.ids[project][model.number], key)
        assert decision.deployed == expected
        self.decided.append((project, model, key, expected))

    def _deploy(self, project: int, strategy: str, choice: Any, **asked: Any) -> bool:
        """Whether it added a row; by the registry as by the rules."""
        rules, ids, asked = self.projects[project], self.ids[project], asked | {"key": Story.key()}
        try:
            model = choice(rules)
        except Refused:
            with pytest.raises(NoCandidate):
                self.stories[project].deploys(strategy, **asked)
            return False
        live, changed = rules.live, rules.deploy(strategy, model)
        result = self.stories[project].deploys(strategy, **asked)
        assert (result.model_id, result.changed) == (ids[model.number], changed)
        assert result.previous_model_id == (ids[live.number] if live else None)
        if changed:
            self.done.append((project, strategy, asked, result))
        return changed


@pytest.mark.slow
def test_the_registry_keeps_the_rules(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "datetime", Clock)
    monkeypatch.setattr(Rules, "steps", 0)
    run_state_machine_as_test(
        Rules,
        settings=settings(
            max_examples=sized(15),
            stateful_step_count=50 if TORTURE else 25,
            derandomize=not TORTURE,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    tell(test="any order", registry=registry_url.partition(":")[0], steps=Rules.steps)

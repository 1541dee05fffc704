"""The registry's promises, one contract for SQLite and PostgreSQL."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Select, text
from sqlalchemy.exc import IntegrityError

from registry import history, lifecycle, queries, strategies
from registry.choices import DeployRequest
from registry.errors import (
    ChoiceChanged,
    InvalidInput,
    InvalidName,
    NoCandidate,
    RegistryConflict,
    TaskMismatch,
    UnknownDecision,
    UnknownModel,
    UnknownProject,
    UnknownValue,
)
from registry.names import checked_name
from registry.session import transaction
from registry.values import Artifact, DeployResult, Evidence, Terms, Verdict
from registry.vocabulary import Basis, Compare, Strategy, Task, strategy_named
from tasks.promotion.deploy_request import checked_deploy
from tests.support.story import Story


class TestAutomaticDeploy:
    def test_the_first_scored_model_goes_live(self, story: Story) -> None:
        model = story.trained(0.1)
        decision = story.promoted(model)
        assert decision.deployed
        assert decision.previous_model_id is None
        assert story.live == model

    def test_a_better_model_replaces_the_live_one(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        better = story.trained_and_promoted(0.71)
        assert story.live == better
        assert [strategy for _, strategy, _ in story.history] == ["new_score", "new_score"]

    def test_a_tie_keeps_the_live_model(self, story: Story) -> None:
        first = story.trained_and_promoted(0.7)
        decision = story.promoted(story.trained(0.7))
        assert not decision.deployed
        assert decision.live_model_id == story.live == first
        assert "ties with" in decision.reason

    def test_a_worse_model_is_only_recorded(self, story: Story) -> None:
        first = story.trained_and_promoted(0.7)
        decision = story.promoted(story.trained(0.69))
        assert not decision.deployed
        assert "does not beat" in decision.reason
        assert story.history == [(1, "new_score", first)]

    def test_a_negative_score_may_be_the_first_and_is_beaten_by_a_less_negative_one(self, story: Story) -> None:
        assert story.promoted(story.trained(-0.5)).deployed
        better = story.trained(-0.1)
        assert story.promoted(better).deployed
        assert story.live == better

    def test_a_model_without_a_score_never_wins(self, story: Story) -> None:
        decision = story.promoted(story.failed())
        assert not decision.deployed
        assert story.live is None

    @pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_not_a_number_is_refused_by_the_table(self, story: Story, score: float) -> None:
        model = story.started()
        with pytest.raises(RegistryConflict):
            story.finish(model.id, score)
        assert queries.model(model.id).status == "running"

    def test_the_decision_says_when_the_scores_come_from_different_rows(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        story.new_snapshot()
        assert "different rows" in story.promoted(story.trained(0.8)).reason

    def test_what_a_person_deployed_counts_as_live_too(self, story: Story) -> None:
        story.trained_and_promoted(0.9)
        worse = story.trained(0.5)
        story.deploys("most_recent")
        assert story.live == worse
        assert story.promoted(story.trained(0.6)).deployed

    def test_the_same_request_again_deploys_once(self, story: Story) -> None:
        model = story.trained(0.7)
        for _ in range(2):
            decision = story.promoted(model, key="once")
            assert decision.deployed
            assert decision.live_model_id == model
        assert len(story.history) == 1

    def test_a_retry_whose_best_is_another_model_asks_the_rule_about_that_one(self, story: Story) -> None:
        first = story.trained(0.7)
        story.promoted(first, key="run")
        better = story.trained(0.8)
        decision = story.promoted(better, key="run")
        assert decision.deployed
        assert story.live == decision.live_model_id == better
        worse = story.promoted(story.trained(0.6), key="run")
        assert (worse.deployed, worse.live_model_id) == (False, better)

    def test_a_retry_says_what_is_live_now_not_what_was_then(self, story: Story) -> None:
        first = story.trained_and_promoted(0.7)
        second = story.trained(0.8)
        story.promoted(second, key="run")
        story.deploys("rollback")
        decision = story.promoted(second, key="run")
        assert (decision.deployed, decision.live_model_id) == (True, first)
        assert story.live == first
        assert len(story.history) == 3

    def test_an_unknown_model(self, story: Story) -> None:
        with pytest.raises(UnknownModel, match="there is no model 404"):
            story.promoted(404)


class TestBestScore:
    def test_it_is_the_highest_number_not_the_last_in_the_alphabet(self, story: Story) -> None:
        story.trained(9.5e-05)
        best = story.trained(0.91)
        story.trained(-0.1)
        story.trained(-0.5)
        assert story.deploys("best_score").model_id == best

    def test_the_newest_of_equals(self, story: Story) -> None:
        story.trained(0.7)
        newest = story.trained(0.7)
        assert story.deploys("best_score").model_id == newest

    def test_failed_and_running_models_do_not_qualify(self, story: Story) -> None:
        trained = story.trained(0.1)
        story.failed()
        story.started()
        assert story.deploys("best_score").model_id == trained

    def test_of_one_algorithm(self, story: Story) -> None:
        story.trained(0.9, "xgboost")
        svm = story.trained(0.4, "svm")
        result = story.deploys("best_score", "svm")
        assert (result.model_id, result.algorithm_name) == (svm, "svm")

    def test_it_is_the_default(self) -> None:
        import inspect

        from flows.deploy import deploy

        assert inspect.signature(deploy.fn).parameters["strategy"].default == "best_score"


class TestMostRecent:
    def test_the_newest_trained_model(self, story: Story) -> None:
        story.trained(0.9)
        newest = story.trained(0.1)
        story.failed()
        assert story.deploys("most_recent").model_id == newest

    def test_of_one_algorithm(self, story: Story) -> None:
        svm = story.trained(0.4, "svm")
        story.trained(0.9, "xgboost")
        assert story.deploys("most_recent", "svm").model_id == svm

    def test_a_clock_that_goes_back_changes_nothing(self, story: Story) -> None:
        story.trained(0.1)
        newest = story.trained(0.2)
        with transaction(write=True) as session:
            session.execute(text("UPDATE models SET created_at = '1999-01-01 00:00:00' WHERE id = :id"), {"id": newest})
        assert story.deploys("most_recent").model_id == newest


class TestRollback:
    def test_it_makes_a_new_deployment_of_the_model_before(self, story: Story) -> None:
        first = story.trained_and_promoted(0.7)
        second = story.trained_and_promoted(0.8)
        result = story.deploys("rollback")
        [row, *_] = queries.history("churn")
        assert result == DeployResult(
            project_name="churn",
            strategy=Strategy.ROLLBACK,
            algorithm_name="linear",
            model_id=first,
            score=0.7,
            previous_model_id=second,
            previous_score=0.8,
            changed=True,
            seq=3,
            deployed_at=row.deployed_at,
            deployed_by="the story",
        )
        assert story.history == [(1, "new_score", first), (2, "new_score", second), (3, "rollback", first)]

    def test_twice_is_a_round_trip(self, story: Story) -> None:
        first, second, third = (story.trained_and_promoted(score) for score in (0.7, 0.8, 0.9))
        assert [story.deploys("rollback").model_id for _ in range(4)] == [second, third, second, third]
        assert first not in [model for _, _, model in story.history[3:]]

    def test_to_one_algorithm_skips_the_others(self, story: Story) -> None:
        svm = story.trained_and_promoted(0.7, "svm")
        story.trained_and_promoted(0.8, "linear")
        story.trained_and_promoted(0.9, "xgboost")
        assert story.deploys("rollback", "svm").model_id == svm

    def test_to_the_algorithm_that_is_live_finds_another_model_of_it(self, story: Story) -> None:
        old_svm = story.trained_and_promoted(0.7, "svm")
        story.trained_and_promoted(0.8, "linear")
        story.trained_and_promoted(0.9, "svm")
        assert story.deploys("rollback", "svm").model_id == old_svm

    def test_nothing_deployed(self, story: Story) -> None:
        story.trained(0.7)
        with pytest.raises(NoCandidate, match="'churn' has nothing deployed"):
            story.deploys("rollback")
        assert story.history == []

    def test_one_model_only(self, story: Story) -> None:
        model = story.trained_and_promoted(0.7)
        with pytest.raises(NoCandidate, match="'churn' has only ever had one model live.*best_score or most_recent"):
            story.deploys("rollback")
        assert story.history == [(1, "new_score", model)]

    def test_an_algorithm_that_was_never_live(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8)
        story.trained(0.1, "svm")
        with pytest.raises(NoCandidate, match="'svm'"):
            story.deploys("rollback", "svm")
        assert len(story.history) == 2


class TestEveryStrategy:
    @pytest.mark.parametrize("strategy", ["best_score", "most_recent"])
    def test_what_is_live_already_stays_and_it_is_said(self, story: Story, strategy: str) -> None:
        model = story.trained_and_promoted(0.7)
        result = story.deploys(strategy)
        assert not result.changed
        assert result.model_id == result.previous_model_id == model
        assert len(story.history) == 1

    @pytest.mark.parametrize("strategy", ["best_score", "most_recent"])
    def test_no_trained_model(self, story: Story, strategy: str) -> None:
        story.failed()
        with pytest.raises(NoCandidate, match="'churn' has no trained model"):
            story.deploys(strategy)
        assert story.history == []

    @pytest.mark.parametrize("strategy", ["best_score", "most_recent", "rollback"])
    def test_a_filter_that_nothing_passes(self, story: Story, strategy: str) -> None:
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8)
        with pytest.raises(NoCandidate, match="'knn'"):
            story.deploys(strategy, "knn")
        assert len(story.history) == 2

    @pytest.mark.parametrize("strategy", ["best_score", "most_recent", "rollback"])
    def test_an_unknown_project_lists_what_there_is(self, story: Story, strategy: str) -> None:
        with pytest.raises(UnknownProject, match="there is no project 'chrun'; there are 'churn'"):
            history.deploy(DeployRequest("chrun", Strategy(strategy)), request_key="k", deployed_by="me")

    def test_another_project_is_never_touched(self, story: Story) -> None:
        other = Story("other")
        other.trained_and_promoted(0.99)
        model = story.trained(0.1)
        assert story.deploys("best_score").model_id == model
        assert other.history == [(1, "new_score", other.live)]

    def test_the_same_request_again_answers_the_same_and_adds_nothing(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8)
        once, again = (story.deploys("rollback", key="one click") for _ in range(2))
        assert once == again
        assert len(story.history) == 3

    def test_a_request_of_another_project_is_no_answer(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8)
        story.deploys("rollback", key="one click")
        with pytest.raises(RegistryConflict):
            story.deploys("best_score", key="one click")
        assert len(story.history) == 3

    def test_a_specific_model_whatever_its_score(self, story: Story) -> None:
        low = story.trained(0.1, "svm")
        story.trained_and_promoted(0.9)
        result = story.deploys("specific", model_id=low)
        assert (result.model_id, result.algorithm_name, result.strategy, result.changed) == (
            low,
            "svm",
            "specific",
            True,
        )
        assert not story.deploys("specific", model_id=low).changed
        assert story.history[-1] == (2, "specific", low)
        assert story.deploys("rollback").score == 0.9

    def test_a_specific_model_that_cannot_answer(self, story: Story) -> None:
        foreign, failed = Story("other").trained(0.9), story.failed()
        for model_id in (foreign, 99, 0, -1, 2**63):
            with pytest.raises(NoCandidate, match=f"'churn' has no model {model_id}"):
                story.deploys("specific", model_id=model_id)
        with pytest.raises(NoCandidate, match=f"model {failed} of 'churn' is failed, not trained"):
            story.deploys("specific", model_id=failed)
        assert story.history == []

    @pytest.mark.parametrize(
        ("strategy", "algorithm_name", "model_id", "said"),
        [
            ("specific", None, None, "'specific' deploys the model of model_id"),
            ("specific", None, "7", "a number, not '7'"),
            ("specific", "svm", 7, "leave algorithm_name out"),
            ("rollback", None, 7, "rollback chooses the model"),
        ],
    )
    def test_what_does_not_go_together(self, story: Story, strategy, algorithm_name, model_id, said) -> None:
        with pytest.raises(InvalidInput, match=said):
            checked_deploy("churn", strategy, algorithm_name, model_id=model_id)

    def test_a_person_cannot_ask_for_the_automatic_strategy(self) -> None:
        with pytest.raises(UnknownValue, match="choose one of best_score, most_recent, rollback, specific"):
            strategy_named("new_score")


class TestFurtherBack:
    def test_steps_go_back_model_by_model_in_the_order_in_which_they_were_last_live(self, story: Story) -> None:
        first, second, third = (story.trained_and_promoted(score) for score in (0.7, 0.8, 0.9))
        assert story.deploys("rollback", steps=2).model_id == first
        # last live before it: third, then second
        assert story.deploys("rollback", steps=2).model_id == second
        assert story.deploys("rollback", steps=2).model_id == third

    def test_one_step_is_the_plain_rollback(self, story: Story) -> None:
        first, second = (story.trained_and_promoted(score) for score in (0.7, 0.8))
        assert [story.deploys("rollback", steps=1).model_id for _ in range(3)] == [first, second, first]

    def test_steps_of_one_algorithm(self, story: Story) -> None:
        old, _, _, _ = (
            story.trained_and_promoted(score, name)
            for score, name in ((0.5, "svm"), (0.6, "svm"), (0.7, "linear"), (0.8, "knn"))
        )
        assert story.deploys("rollback", "svm", steps=2).model_id == old

    def test_further_than_there_were_models(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8)
        with pytest.raises(NoCandidate, match="'churn' has not had 2 other models live: `frontrunner history`"):
            story.deploys("rollback", steps=2)
        assert len(story.history) == 2

    def test_to_the_model_of_a_deployment(self, story: Story) -> None:
        models = [story.trained_and_promoted(score) for score in (0.7, 0.8, 0.9)]
        assert story.deploys("rollback", to_seq=1).model_id == models[0]
        assert story.history[-1] == (4, "rollback", models[0])
        assert not story.deploys("rollback", to_seq=4).changed
        assert len(story.history) == 4

    @pytest.mark.parametrize("seq", [0, -1, 3, 2**63, 2**70])
    def test_to_a_deployment_that_never_was(self, story: Story, seq: int) -> None:
        story.trained_and_promoted(0.7)
        story.trained_and_promoted(0.8)
        with pytest.raises(NoCandidate, match=f"has no deployment {seq}: its history goes from 1 to 2"):
            story.deploys("rollback", to_seq=seq)


class TestQuarantine:
    def test_no_strategy_chooses_it_until_it_is_released(self, story: Story) -> None:
        good = story.trained_and_promoted(0.7)
        bad = story.trained_and_promoted(0.9)
        story.deploys("rollback")
        history.quarantine(bad, "it knows the answers", by="me")
        assert {story.deploys(strategy).model_id for strategy in ("best_score", "most_recent")} == {good}
        for strategy, wish in (("rollback", {}), ("specific", {"model_id": bad}), ("rollback", {"to_seq": 2})):
            with pytest.raises(NoCandidate, match=r"quarantine.*it knows the answers"):
                story.deploys(strategy, **wish)
        assert story.live == good
        history.release(bad, by="me")
        assert story.deploys("best_score").model_id == bad

    def test_it_is_skipped_on_the_way_back(self, story: Story) -> None:
        first, second, _ = (story.trained_and_promoted(score) for score in (0.7, 0.8, 0.9))
        history.quarantine(second, "slow", by="me")
        assert story.deploys("rollback").model_id == first

    def test_a_rollback_can_put_what_was_live_into_it_at_once(self, story: Story) -> None:
        good, bad = (story.trained_and_promoted(score) for score in (0.7, 0.9))
        story.deploys("rollback", quarantine=True, reason="it refuses everyone")
        assert story.live == good
        assert queries.model(bad).quarantine == "it refuses everyone"
        assert queries.history("churn")[0].reason == "it refuses everyone"
        assert not story.deploys("best_score").changed

    def test_where_only_the_live_model_is_in_it_nobody_is_told_to_release_it(self, story: Story) -> None:
        history.quarantine(story.trained_and_promoted(0.7), "leaks", by="me")
        with pytest.raises(NoCandidate, match="only ever had one model live"):
            story.deploys("rollback")

    def test_a_rollback_that_cannot_be_done_puts_nothing_into_it(self, story: Story) -> None:
        only = story.trained_and_promoted(0.7)
        with pytest.raises(NoCandidate):
            story.deploys("rollback", quarantine=True, reason="bad")
        assert queries.model(only).quarantine is None

    def test_the_automatic_rule_takes_no_challenger_from_it(self, story: Story) -> None:
        live, bad = story.trained_and_promoted(0.5), story.trained(0.9)
        history.quarantine(bad, "leaks", by="me")
        decision = story.promoted(bad)
        assert (decision.deployed, story.live) == (False, live)
        assert "is in quarantine (leaks)" in decision.reason

    def test_a_live_model_in_it_gives_way_to_any_challenger(self, story: Story) -> None:
        bad = story.trained_and_promoted(0.99)
        history.quarantine(bad, "leaks", by="me")
        assert story.live == bad
        decision = story.promoted(honest := story.trained(0.7))
        assert (decision.deployed, story.live) == (True, honest)
        assert "which is in quarantine" in decision.reason

    def test_a_verdict_from_before_it_is_not_carried_out(self, story: Story) -> None:
        model = story.trained(0.9)
        evidence = Evidence(Basis.NOTHING_LIVE, None, (model,), challenger_score=0.9)
        history.quarantine(model, "leaks", by="me")
        with pytest.raises(ChoiceChanged):
            history.promote(
                model, evidence, Terms(), Verdict(True, "it is"), request_key="k", decided_by="me", code_version="0"
            )
        assert story.live is None
        assert queries.decisions("churn") == []

    def test_it_is_shown_in_every_list(self, story: Story) -> None:
        model = story.trained_and_promoted(0.7)
        history.quarantine(model, "leaks", by="me")
        [project], [listed], [deployment] = queries.projects(), queries.models("churn"), queries.history("churn")
        assert project.quarantine == listed.quarantine == deployment.quarantine == "leaks"
        with transaction() as session:
            for view in ("trained_models", "deployed_models"):
                assert session.scalar(text(f"SELECT quarantine FROM {view}")) == "leaks"

    def test_twice_is_refused_and_so_is_the_release_of_what_is_free(self, story: Story) -> None:
        model = story.trained(0.7)
        with pytest.raises(InvalidInput, match="is not in quarantine"):
            history.release(model, by="me")
        history.quarantine(model, "leaks", by="me")
        with pytest.raises(InvalidInput, match="is in quarantine already: leaks"):
            history.quarantine(model, "again", by="me")
        for unknown in (99, 0, -1, 2**63):
            with pytest.raises(UnknownModel):
                history.quarantine(unknown, "leaks", by="me")

    def test_every_one_is_remembered(self, story: Story) -> None:
        model = story.trained(0.7)
        for reason in ("first", "second"):
            history.quarantine(model, reason, by="me")
            history.release(model, by="you")
        with transaction() as session:
            rows = session.execute(text("SELECT reason, placed_by, released_by FROM quarantines ORDER BY id")).all()
        assert rows == [("first", "me", "you"), ("second", "me", "you")]


class TestReceipts:
    def test_every_attempt_has_one_the_rejected_ones_too(self, story: Story) -> None:
        first, better, worse = (story.trained(score) for score in (0.7, 0.8, 0.6))
        decisions = [story.promoted(model) for model in (first, better, worse)]
        receipts = list(reversed(queries.decisions("churn")))
        assert [(each.challenger_id, each.evidence.live_model_id, each.deployed) for each in receipts] == [
            (first, None, True),
            (better, first, True),
            (worse, better, False),
        ]
        assert [each.reason for each in receipts] == [each.reason for each in decisions]
        assert [each.id for each in receipts] == [each.id for each in decisions]
        assert {each.decided_by for each in receipts} == {"the story"}
        assert receipts[1].evidence == Evidence(
            Basis.SAME_ROWS, first, (better,), 0.8, 0.7, rows_compared=38, rows_excluded=0
        )
        assert receipts[1].terms == Terms(Compare.RECORDED)
        assert queries.decision(receipts[2].id) == receipts[2]

    def test_the_same_attempt_again_has_the_same_one(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        worse = story.trained(0.6)
        once, again = (story.promoted(worse, key="run") for _ in range(2))
        assert once == again
        assert len(queries.decisions("churn")) == 2

    def test_a_deployment_and_its_receipt_are_written_together_or_not_at_all(self, story: Story) -> None:
        live, model = story.trained(0.5), story.trained(0.7)
        story.deploys("specific", model_id=live, key=f"k:{model}")  # so that the promotion's own key is taken
        evidence = Evidence(Basis.SAME_ROWS, live, (model,), 0.7, 0.5)
        with pytest.raises(RegistryConflict):
            history.promote(
                model, evidence, Terms(), Verdict(True, "it is"), request_key="k", decided_by="me", code_version="0"
            )
        assert queries.decisions("churn") == []
        assert story.live == live

    def test_a_verdict_about_a_model_that_is_not_live_any_more_is_not_carried_out(self, story: Story) -> None:
        first = story.trained_and_promoted(0.5)
        story.trained_and_promoted(0.6)
        challenger = story.trained(0.55)
        evidence = Evidence(Basis.RECORDED, first, (challenger,), 0.55, 0.5)
        with pytest.raises(ChoiceChanged):
            history.promote(
                challenger,
                evidence,
                Terms(),
                Verdict(True, "it is"),
                request_key="k",
                decided_by="me",
                code_version="0",
            )
        assert len(story.history) == len(queries.decisions("churn")) == 2

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE decisions SET reason = 'another'",
            "DELETE FROM decisions",
            "DELETE FROM quarantines",
            "UPDATE quarantines SET reason = 'another'",
        ],
    )
    def test_they_cannot_be_rewritten(self, story: Story, statement: str) -> None:
        history.quarantine(story.trained_and_promoted(0.7), "leaks", by="me")
        with pytest.raises(RegistryConflict), transaction(write=True) as session:
            session.execute(text(statement))

    def test_an_unknown_one(self, story: Story) -> None:
        for unknown in (1, 0, -1, 2**63):
            with pytest.raises(UnknownDecision, match=f"there is no decision {unknown}"):
                queries.decision(unknown)


class TestAChoiceThatChanges:
    def test_only_the_model_that_was_proven_is_deployed(self, story: Story) -> None:
        story.trained_and_promoted(0.5)
        proven, better = story.trained(0.6), story.trained(0.7)
        with pytest.raises(ChoiceChanged, match=f"best_score chooses model {better}"):
            story.deploys("best_score", seen=(proven, 1))
        with pytest.raises(ChoiceChanged):
            story.deploys("best_score", seen=(better, None))
        assert len(story.history) == 1
        assert story.deploys("best_score", seen=(better, 1)).changed

    def test_a_forced_deployment_says_so_and_why(self, story: Story) -> None:
        model = story.trained(0.7)
        wish = DeployRequest("churn", Strategy.BEST_SCORE)
        history.deploy(wish, forced=True, reason="the store is down", request_key="k", deployed_by="me")
        [row] = queries.history("churn")
        assert (row.model_id, row.forced, row.reason) == (model, True, "the store is down")
        with pytest.raises(RegistryConflict):
            history.deploy(
                DeployRequest("churn", Strategy.SPECIFIC, model_id=story.trained(0.1)),
                forced=True,
                request_key="k2",
                deployed_by="me",
            )

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ({"steps": 0}, "steps is how many models to go back"),
            ({"steps": True}, "steps is how many"),
            ({"to_seq": "3"}, "to_seq is the seq of a deployment"),
            ({"to_seq": 1, "steps": 2}, "leave steps and algorithm_name out"),
            ({"force": True}, "force needs a reason"),
            ({"quarantine": True, "reason": "  "}, "quarantine needs a reason"),
            ({"plan": "yes"}, "plan is true or false"),
            ({"expect_model_id": "7"}, "the model that a plan named"),
            ({"force": True, "reason": 7}, "reason is a text that a database can store, not 7"),
            ({"reason": "a\x00b"}, "reason is a text"),
            ({"reason": "\ud800"}, "reason is a text"),
        ],
    )
    def test_what_does_not_go_together(self, asked, said) -> None:
        with pytest.raises(InvalidInput, match=said):
            checked_deploy("churn", "rollback", **asked)


class TestARetriedTraining:
    def test_a_trained_candidate_comes_back_as_it_is(self, story: Story) -> None:
        model = lifecycle.start_model(story.snapshot, "svm", {}, "run:svm")
        story.finish(model.id, 0.7)
        again = lifecycle.start_model(story.snapshot, "svm", {}, "run:svm")
        assert (again.id, again.status, again.score) == (model.id, "trained", 0.7)

    def test_a_failed_candidate_is_tried_again_on_the_rows_of_the_retry(self, story: Story) -> None:
        model = lifecycle.start_model(story.snapshot, "svm", {}, "run:svm")
        lifecycle.fail_model(model.id, "the worker was killed", None)
        newer = story.new_snapshot()
        again = lifecycle.start_model(newer, "svm", {}, "run:svm")
        assert (again.id, again.status, again.reason, again.snapshot_id) == (model.id, "running", None, newer.id)

    def test_one_that_was_cancelled_is_begun_anew_by_a_retry_and_not_by_the_run_that_ends(self, story: Story) -> None:
        model = lifecycle.start_model(story.snapshot, "svm", {}, "run:svm")
        lifecycle.cancel_models("run:", "Ctrl-C")
        late = lifecycle.start_model(story.snapshot, "svm", {}, "run:svm", again=False)
        assert (late.id, late.status, late.reason) == (model.id, "cancelled", "Ctrl-C")
        again = lifecycle.start_model(story.snapshot, "svm", {}, "run:svm")
        assert (again.id, again.status, again.reason) == (model.id, "running", None)

    def test_a_trained_candidate_never_changes_it_may_be_live(self, story: Story) -> None:
        model = queries.model(story.trained_and_promoted(0.7))
        story.finish(model.id, 0.1, Artifact("file:///elsewhere/model.skops", "1" * 64, 2))
        lifecycle.fail_model(model.id, "a second try of it was killed", "late")
        assert queries.model(model.id) == model

    def test_the_same_candidate_started_twice_at_once_is_one(self, story: Story) -> None:
        both = Barrier(2)

        def start() -> int:
            both.wait(10)
            return lifecycle.start_model(story.snapshot, "svm", {}, "run:svm").id

        with ThreadPoolExecutor(2) as pool:
            one, other = (pool.submit(start) for _ in range(2))
            assert one.result(60) == other.result(60)

    def test_a_retry_of_training_again_takes_the_rows_that_its_first_try_took(self, story: Story) -> None:
        first = story.snapshot
        lifecycle.start_model(first, "svm", {}, "run:svm")
        assert story.new_snapshot() == queries.newest_snapshot("churn")
        assert queries.find_snapshot("run") == first
        assert queries.find_snapshot("r") is None

    def test_the_rows_that_the_first_try_froze_are_found(self, story: Story) -> None:
        assert queries.find_snapshot("never asked") is None
        with transaction() as session:
            key = session.scalar(text("SELECT request_key FROM snapshots"))
        assert queries.find_snapshot(key) == story.snapshot


class TestTheTablesDefendThemselves:
    @pytest.mark.parametrize(
        ("statement", "index"),
        [
            (strategies.live(1), "deployments USING INDEX sqlite_autoindex_deployments_"),
            (strategies.best_score(1), "models USING INDEX ix_models_best "),
            (strategies.best_score(1, "svm"), "models USING INDEX ix_models_best_of_algorithm "),
            (strategies.most_recent(1), "models USING INDEX ix_models_newest "),
            (strategies.most_recent(1, "svm"), "models USING INDEX ix_models_newest_of_algorithm "),
            (strategies.rollback(1), "deployments USING INDEX sqlite_autoindex_deployments_"),
            (strategies.rollback(1, "svm"), "deployments USING INDEX ix_deployments_of_algorithm "),
        ],
    )
    def test_every_choice_goes_by_an_index_in_its_order(
        self, workspace: Path, statement: Select[Any], index: str
    ) -> None:
        """On SQLite, whose plan does not depend on how many rows there are; of PostgreSQL the benchmark prints it."""
        with transaction(write=True) as session:
            sql = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
            plan = [row[-1] for row in session.execute(text(f"EXPLAIN QUERY PLAN {sql}"))]
        assert plan[0].startswith(f"SEARCH {index}"), "the unique one of project and seq has a number for its name"
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)

    @pytest.mark.parametrize(
        "statement",
        ["UPDATE deployments SET model_id = model_id", "DELETE FROM deployments", "DELETE FROM models"],
    )
    def test_the_history_cannot_be_rewritten(self, story: Story, statement: str) -> None:
        model = story.trained_and_promoted(0.7)
        with pytest.raises(RegistryConflict), transaction(write=True) as session:
            session.execute(text(statement))
        assert story.history == [(1, "new_score", model)]

    def test_a_project_deploys_only_its_own_models(self, story: Story) -> None:
        model = story.trained(0.7)
        other = Story("other")
        insert = text(
            "INSERT INTO deployments"
            " (project_id, seq, model_id, algorithm, strategy, forced, deployed_by, request_key, deployed_at)"
            " VALUES (:project, 1, :model, 'linear', 'rollback', false, 'me', 'k', '2026-01-01')"
        )
        with pytest.raises(RegistryConflict, match="(?i)foreign key"), transaction(write=True) as session:
            session.execute(insert, {"project": other.snapshot.project_id, "model": model})

    def test_a_seq_stands_once(self, story: Story) -> None:
        story.trained_and_promoted(0.7)
        insert = text(
            "INSERT INTO deployments"
            " (project_id, seq, model_id, algorithm, strategy, forced, deployed_by, request_key, deployed_at)"
            " SELECT project_id, seq, model_id, algorithm, strategy, forced, deployed_by, 'other', deployed_at"
            " FROM deployments"
        )
        with pytest.raises(RegistryConflict, match="seq") as caught, transaction(write=True) as session:
            session.execute(insert)
        assert isinstance(caught.value.__cause__, IntegrityError)

    def test_a_trained_model_is_complete(self, story: Story) -> None:
        model = story.started()
        with pytest.raises(RegistryConflict), transaction(write=True) as session:
            session.execute(text("UPDATE models SET status = 'trained' WHERE id = :id"), {"id": model.id})

    def test_an_error_in_a_transaction_leaves_nothing(self, story: Story) -> None:
        def half_done() -> None:
            with transaction(write=True) as session:
                session.execute(text("UPDATE projects SET revision = 99"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            half_done()
        with transaction() as session:
            assert session.scalar(text("SELECT revision FROM projects")) == 0


class TestProjects:
    def test_another_task_is_refused(self, story: Story) -> None:
        with pytest.raises(TaskMismatch, match="'churn' is a classification project, not regression"):
            Story("churn", Task.REGRESSION)

    def test_the_list_shows_what_is_live(self, story: Story) -> None:
        Story("empty")
        model = story.trained_and_promoted(0.7, "svm")
        story.failed()
        churn, empty = queries.projects()
        assert (churn.project_name, churn.trained_models, churn.model_id, churn.strategy) == (
            "churn",
            1,
            model,
            "new_score",
        )
        assert (empty.project_name, empty.model_id) == ("empty", None)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("", "not blank"), ("  ", "not blank"), ("a\x00b", "character"), ("\ud800", "character"), ("x" * 201, "200")],
    )
    def test_names_that_cannot_be_stored(self, name: str, reason: str) -> None:
        with pytest.raises(InvalidName, match=reason):
            checked_name(name)

    @pytest.mark.parametrize("name", ["'; DROP TABLE projects; --", "a/b:..", "prix 💶", "e\u0301te\u0301"])
    def test_odd_names_are_stored_as_they_are(self, registry_url: str, name: str) -> None:
        stored = checked_name(name)
        Story(stored)
        assert [project.project_name for project in queries.projects()] == [stored]

    def test_the_views_answer_plain_sql(self, story: Story) -> None:
        story.trained_and_promoted(0.7, "svm")
        best = story.trained_and_promoted(0.8, "linear")
        with transaction() as session:
            assert session.execute(text("SELECT id, name, algorithm FROM deployed_models")).all() == [
                (best, "churn", "linear")
            ]
            deployed = session.execute(text("SELECT id, deployed FROM trained_models ORDER BY id")).all()
            assert [bool(row.deployed) for row in deployed] == [False, True]
            assert session.scalars(text("SELECT algorithm FROM overview ORDER BY seq")).all() == ["svm", "linear"]

"""What an operator does in a browser: go back to the model before, read why, and look at it in MLflow.

`make pictures` keeps what it saw as the pictures of README.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.up import READY, Up, folder, frontrunner, up

pytestmark = pytest.mark.slow

TRAIN = (
    "train",
    "digits",
    "--task",
    "classification",
    "--relation-name",
    "sklearn:digits",
    "--y-column-name",
    "target",
)
PICTURES = os.environ.get("PICTURES")
expect.set_options(timeout=60_000)  # a worker begins a run some ten seconds after it was asked for


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(folder(tmp_path_factory.mktemp("browser") / "here")) as started:
        started.wait_for(READY, 300)
        for algorithms in ("linear,ada_boost", "svm,random_forest,extra_trees"):
            done = frontrunner(started.folder, *TRAIN, "--algorithms", algorithms)
            assert done.returncode == 0, done.stderr
        yield started


@pytest.fixture(scope="module")
def page(running: Up) -> Iterator[Page]:
    """A browser that was let in by both servers."""
    chromium = which("chromium")
    assert chromium, "this test wants Debian's chromium: apt-get install chromium"
    user, password = running.env["PREFECT_API_AUTH_STRING"].split(":")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": 1280, "height": 960}, http_credentials={"username": user, "password": password}
        )
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(running.env["PREFECT_API_URL"].removesuffix("/api") + "/v2/deployments")
        page.get_by_role("textbox").or_(page.locator("input[type=password]")).first.fill(f"{user}:{password}")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="rollback", exact=True).first).to_be_visible()
        yield page
        browser.close()


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(1500)  # what moves has come to rest
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def live(running: Up) -> dict[str, object]:
    return json.loads(frontrunner(running.folder, "show", "digits", "--json").stdout)["live"]


def test_a_rollback_from_the_form_to_the_decision(running: Up, page: Page) -> None:
    before = live(running)
    page.get_by_role("link", name="rollback", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_label("project_name").fill("digits")
    expect(page.get_by_text("Go back to the last live model of this algorithm")).to_be_visible()
    picture(page, "rollback-form")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").or_(page.get_by_role("link", name="View run")).first.click()
    expect(page.get_by_text("Completed").first).to_be_visible()
    expect(page.get_by_text("rollback digits").first).to_be_visible()
    expect(page.get_by_text("project:digits").first).to_be_visible()

    decision = f"went live by rollback, instead of model {before['model_id']}"
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_text(decision).first).to_be_visible()
    picture(page, "rollback-run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("digits-deploy").last.click()
    page.get_by_role("link", name="rollback digits").first.wait_for()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    expect(page.get_by_text("To undo it").first).to_be_visible()
    expect(page.get_by_role("cell", name="was live")).to_be_visible()
    expect(page.get_by_role("img", name="the live model's F1 over time")).to_be_visible()
    picture(page, "rollback-decision")
    after = live(running)
    assert (after["strategy"], after["algorithm_name"]) == ("rollback", "linear")


def test_the_live_model_in_mlflow(running: Up, page: Page) -> None:
    page.goto(running.env["MLFLOW_UI_URL"] + "/#/models/frontrunner-1?workflowType=machine_learning")
    expect(page.get_by_text("@ live").first).to_be_visible()
    row = page.get_by_role("row").filter(has_text="@ live")
    row.get_by_role("link", name="Version").first.click()
    expect(page.get_by_text("rollback by flow run").first).to_be_visible()
    picture(page, "mlflow-live")


def test_a_search_is_started_from_the_form(running: Up, page: Page) -> None:
    page.goto(running.env["PREFECT_API_URL"].removesuffix("/api") + "/v2/deployments")
    page.get_by_role("link", name="train", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_label("project_name").fill("digits")
    choose(page, "algorithms", "svm")
    page.keyboard.press("Escape")
    choose(page, "search", "grid")
    editors = page.locator(".cm-content")
    expect(editors).to_have_count(4)  # hyperparams, search_params, search_args, preprocess
    editors.nth(1).fill('{"svm": {"C": [1, 10]}}')
    editors.nth(2).fill('{"cv": 3}')
    labels = page.locator("label").all_inner_texts()
    names = [label.removesuffix(" (Optional)") for label in labels]
    first = ["project_name", "relation_name", "y_column_name", "algorithms", "task", "hyperparams", "search"]
    assert [name for name in names if name in first] == first
    tabs = page.get_by_role("tab").all_inner_texts()
    assert tabs == ["str", "list", "Now", "Later"], "one target column or several, and the start; no optional parameter"
    expect(page.get_by_text("How to search for better hyperparameters")).to_be_visible()
    picture(page, "train-form")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").or_(page.get_by_role("link", name="View run")).first.click()
    model = newest_model(running)
    while model["status"] == "running" or model["algorithm"] != "svm":  # the test's own timeout ends it
        page.wait_for_timeout(1000)
        model = newest_model(running)
    assert model["status"] == "trained", model["reason"]
    assert model["hyperparams"]["C"] in (1, 10), "the search chose it"
    expect(page.get_by_text("Completed").first).to_be_visible()


def newest_model(running: Up) -> dict[str, Any]:
    return json.loads(frontrunner(running.folder, "models", "digits", "--json").stdout)[0]


def choose(page: Page, parameter: str, value: str) -> None:
    page.get_by_role("button", name=f"Select {parameter}").click()
    page.get_by_role("option", name=value, exact=True).click()


def test_a_training_can_be_read_on_its_page(running: Up, page: Page) -> None:
    page.goto(running.env["PREFECT_API_URL"].removesuffix("/api") + "/v2/artifacts")
    page.get_by_text("digits-leaderboard").first.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    expect(page.get_by_role("cell", name="random_forest").first).to_be_visible()
    expect(page.get_by_text("replaces linear").first).to_be_visible()
    picture(page, "leaderboard")
    page.goto(str(page.get_by_role("link", name="run", exact=True).first.get_attribute("href")))
    expect(page.get_by_text("frontrunner.model_id").first).to_be_visible()
    expect(page.get_by_text("sklearn:digits").first).to_be_visible()

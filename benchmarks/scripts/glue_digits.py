"""The other yardstick of `cold`: Prefect and MLflow put together by hand, as their first pages show it."""

# ruff: noqa: ANN001, ANN201  (as people write it)

import json

import mlflow
import mlflow.sklearn
from prefect import flow, task
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from xgboost import XGBClassifier

MODELS = {
    "linear": LogisticRegression(random_state=0),
    "svm": SVC(random_state=0),
    "random_forest": RandomForestClassifier(random_state=0),
    "extra_trees": ExtraTreesClassifier(random_state=0),
    "xgboost": XGBClassifier(random_state=0),
}


@task
def load():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)


@task
def train(name, X_train, X_test, y_train, y_test):
    model = MODELS[name]
    with mlflow.start_run(run_name=name):
        mlflow.log_params(model.get_params())
        model.fit(X_train, y_train)
        score = f1_score(y_test, model.predict(X_test), average="macro")
        mlflow.log_metric("f1", score)
        # skops, the default, refuses trees and xgboost unless their types are listed.
        mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle")
    return score


@flow
def training():
    rows = load()
    return {name: train(name, *rows) for name in MODELS}


if __name__ == "__main__":
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("digits")
    print(json.dumps(training()))

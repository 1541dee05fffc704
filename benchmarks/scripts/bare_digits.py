"""The yardstick of `cold`: what a training of five models is without anything around it."""

import json

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from xgboost import XGBClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
models = {
    "linear": LogisticRegression(random_state=0),
    "svm": SVC(random_state=0),
    "random_forest": RandomForestClassifier(random_state=0),
    "extra_trees": ExtraTreesClassifier(random_state=0),
    "xgboost": XGBClassifier(random_state=0),
}
scores = {
    name: f1_score(y_test, model.fit(X_train, y_train).predict(X_test), average="macro")
    for name, model in models.items()
}
print(json.dumps(scores))

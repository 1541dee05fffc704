"""The yardstick of `rows`: bare_rows.py ROWS.parquet HYPERPARAMS, these {algorithm: {parameter: value}}."""

import json
import sys

import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from xgboost import XGBRegressor

MODELS = {"linear": LinearRegression, "xgboost": lambda **chosen: XGBRegressor(random_state=0, **chosen)}

frame = pd.read_parquet(sys.argv[1])
X_train, X_test, y_train, y_test = train_test_split(
    frame.drop(columns="target"), frame["target"], test_size=0.25, random_state=0
)
del frame
scores = {}
for name, chosen in json.loads(sys.argv[2]).items():
    model = MODELS[name](**chosen).fit(X_train, y_train)
    scores[name] = r2_score(y_test, model.predict(X_test))
print(json.dumps(scores))

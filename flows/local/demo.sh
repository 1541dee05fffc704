#!/bin/sh
# `make demo`: two trainings on real data, a rollback, the history. Run it again whenever you like.
set -eu

bold='' plain=''
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi

run() {
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  "$BIN/$@"
}

run frontrunner train digits --task classification --relation-name sklearn:digits --y-column-name target \
  --algorithms linear,ada_boost
run frontrunner train digits --algorithms svm,random_forest,extra_trees,xgboost
run frontrunner rollback digits
run frontrunner history digits
run frontrunner projects

cat <<EOF

The model that was live before is live again. To see it in the browser: make up
EOF

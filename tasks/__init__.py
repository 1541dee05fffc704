"""The steps: each a pure function with a thin Prefect task around it where one is needed."""

import logging

# Progress is told at INFO; it is heard where a handler listens: the command line's, or Prefect's (prefect.yaml).
logging.getLogger("frontrunner").setLevel(logging.INFO)

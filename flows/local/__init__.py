"""`frontrunner up`, and the Prefect server of a single command."""

"""The only writers to MLflow: runs, models, the alias and the clean-up."""

"""The results of the flows and the pages of their Prefect runs."""

"""What people read on a Prefect run page."""

"""Reconcile, prune, export and import."""

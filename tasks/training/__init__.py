"""Candidates: how they are requested, where they run, and what is recorded of them."""

"""Algorithms, preprocessing, hyperparameter search, scores and plots."""

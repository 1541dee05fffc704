"""Serving: the Predictor, input conversion, verified artifacts, the proof and the HTTP service."""

"""The metrics that Prometheus collects from the HTTP service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The service's metrics. A project's name becomes a label only once the project is known to exist."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "frontrunner_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "frontrunner_predict_seconds", "From a request's rows to its answers.", ["project"], registry=self.registry
        )
        self.rows = Counter(
            "frontrunner_predicted_rows", "Rows that were answered.", ["project"], registry=self.registry
        )
        self.live = Gauge("frontrunner_live_model", "The id of the model.", ["project"], registry=self.registry)

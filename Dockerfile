# One image for the Prefect server, the MLflow server, the worker and the service: all run what requirements.lock says.
FROM python:3.11.16-slim-trixie AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /app
RUN python -m venv --without-pip .venv
COPY pyproject.toml requirements.lock ./
# The lock holds the packages of development, too. As constraints it gives versions and hashes and installs nothing by
# itself: what is asked for is resolved from pyproject.toml, and a package or file that the lock does not have is refused.
RUN uv pip install --python .venv --require-hashes --compile-bytecode --no-cache \
      --requirements pyproject.toml --extra postgres --extra optuna --extra lightgbm --constraints requirements.lock
COPY . .
# Editable, since Prefect loads flows/ by its path and commands load it by its name: there is one copy of it.
RUN uv pip install --python .venv --no-deps --build-constraints requirements.lock --no-cache --editable . \
    && python -m compileall -q flows tasks registry

FROM python:3.11.16-slim-trixie
# lightgbm loads the system's libgomp, the others bring their own. Debian removes the versions that it replaces, so a pinned
# one could not be installed for long.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home frontrunner \
    && install --directory --owner frontrunner /app/.frontrunner /mlflow
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
CMD ["frontrunner", "--help"]

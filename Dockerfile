# syntax=docker/dockerfile:1.7
# One file for every service: docker build --build-arg SERVICE=registry -t slipway-registry .
# Targets: `service` (the last, read-only root) and `dev` (files owned by its user, reloads on change).

FROM python:3.11-slim-bookworm AS build
ARG SERVICE
# Extras of the service, comma-separated: `torch` gives inference its torch engine.
ARG EXTRAS=""
# Where a CPU build of torch comes from; empty: the package index, which has a CUDA build.
ARG SLIPWAY_TORCH_INDEX=""
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /opt/tools && python -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip install --quiet -c constraints.txt \
        uv hatchling grpcio-tools googleapis-common-protos

# What comes from a package index, before any code of ours: this layer outlives changes of code.
COPY deploy/docker/requirements.py deploy/docker/
COPY libs/protos/pyproject.toml libs/protos/
COPY libs/runtime/pyproject.toml libs/runtime/
COPY libs/slipway/pyproject.toml libs/slipway/
COPY services/${SERVICE}/pyproject.toml services/${SERVICE}/
RUN --mount=type=cache,target=/root/.cache \
    python deploy/docker/requirements.py "${SERVICE}" "${EXTRAS}" > requirements.txt \
    && if [[ -n "${SLIPWAY_TORCH_INDEX}" ]] && grep -qx 'torch' requirements.txt; then \
        /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python -c constraints.txt \
            --no-deps --index-url "${SLIPWAY_TORCH_INDEX}" torch; fi \
    && /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python -c constraints.txt \
        -r requirements.txt

# Our own packages; the protos are compiled here.
COPY proto proto
COPY libs libs
COPY services/${SERVICE} services/${SERVICE}
COPY deploy/docker deploy/docker
RUN --mount=type=cache,target=/root/.cache \
    python deploy/docker/requirements.py "${SERVICE}" --folders > folders.txt \
    && xargs -a folders.txt -I{} /opt/tools/bin/pip wheel --quiet --no-deps --no-build-isolation \
        --wheel-dir /wheels ./{} \
    && /opt/tools/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps /wheels/*.whl \
    && install -m 0755 deploy/docker/service.py /opt/venv/bin/service \
    && install -m 0755 deploy/docker/reload.py /opt/venv/bin/reload

FROM python:3.11-slim-bookworm AS runtime
ARG SERVICE
ARG PACKAGE=slipway_${SERVICE}
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 SLIPWAY_PACKAGE=${PACKAGE} HOME=/tmp
RUN groupadd --gid 10001 slipway \
    && useradd --uid 10001 --gid slipway --no-create-home --shell /usr/sbin/nologin slipway \
    && install -d -o slipway -g slipway /var/lib/slipway
WORKDIR /var/lib/slipway
LABEL org.opencontainers.image.title="slipway-${SERVICE}"
# Kubernetes probes the services; Docker need not.
HEALTHCHECK NONE
EXPOSE 8500 8501

FROM runtime AS dev
COPY --from=build --chown=10001:10001 /opt/venv /opt/venv
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
ENTRYPOINT ["/opt/venv/bin/reload"]
CMD ["serve"]

FROM runtime AS service
COPY --from=build /opt/venv /opt/venv
USER 10001:10001
ENTRYPOINT ["/opt/venv/bin/service"]
CMD ["serve"]

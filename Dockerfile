# Two stages: what builds does not run. Run it with a read-only root and two writable places:
#   docker run --read-only --tmpfs /tmp -v payproxy-data:/var/lib/payproxy -v ./payproxy.toml:/etc/payproxy/payproxy.toml:ro ...
# The base image is named by tag: no digest of it was to be had where this was written. Give the one that you trust:
#   docker build --build-arg PYTHON=python:3.11-slim-bookworm@sha256:... --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) .
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# Debian's mirrors keep no older versions that one could pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Every Python package is in deploy/requirements/, with the hashes of its files; nothing else is fetched, not even for the build.
COPY deploy/requirements ./deploy/requirements
RUN python -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes --no-deps -r deploy/requirements/build.txt -r deploy/requirements/image.txt
# Without pip, by the one in /build: the image has none, and its start script imports less than an older pip's.
RUN python -m venv --without-pip /opt/payproxy \
    && /build/bin/pip --python /opt/payproxy/bin/python install --no-cache-dir --require-hashes --no-deps -r deploy/requirements/image.txt
COPY pyproject.toml setup.py README.md ./
COPY proxy ./proxy
# The time in the wheel's files; the same tree and the same time make the same bytes.
ARG SOURCE_DATE_EPOCH=1764288000
# 1: an image whose hot path can't be compiled is not built; without, it would be slower and nobody would know.
RUN PAYPROXY_COMPILE=1 SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH \
      /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheel . \
    && /build/bin/pip --python /opt/payproxy/bin/python install --no-index --no-deps /build/wheel/*.whl

FROM ${PYTHON}
RUN groupadd --gid 10001 payproxy \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin payproxy \
    && install -d -o payproxy -g payproxy -m 0700 /var/lib/payproxy
COPY --from=build /opt/payproxy /opt/payproxy
ENV PATH=/opt/payproxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/payproxy
USER 10001:10001
VOLUME ["/var/lib/payproxy"]
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
# Some 12 ms of CPU each time (docs/decisions/0026).
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["payproxy", "health"]
ENTRYPOINT ["payproxy"]
CMD ["serve"]

# Two stages: what builds does not run. Run it with a read-only root and two writable places:
#   docker run --read-only --tmpfs /tmp -v payproxy-data:/var/lib/payproxy -v ./payproxy.toml:/etc/payproxy/payproxy.toml:ro ...
FROM python:3.11-slim-bookworm AS build
# Debian's mirrors keep no older versions that one could pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md ./
COPY proxy ./proxy
# 1: an image whose hot path can't be compiled is not built; without, it would be slower and nobody would know.
RUN python -m venv /opt/payproxy && PAYPROXY_COMPILE=1 /opt/payproxy/bin/pip install --no-cache-dir '.[speed,postgres,redis,otel,pkcs11]'

FROM python:3.11-slim-bookworm
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
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["payproxy", "health"]
ENTRYPOINT ["payproxy"]
CMD ["serve"]

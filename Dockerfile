# Two stages: what builds does not run. Run it with a read-only root and two writable places:
#   docker run --read-only --tmpfs /tmp -v payproxy-data:/var/lib/payproxy -v ./payproxy.toml:/etc/payproxy/payproxy.toml:ro ...
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY proxy ./proxy
RUN python -m venv /opt/payproxy && /opt/payproxy/bin/pip install --no-cache-dir '.[speed,redis]'

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

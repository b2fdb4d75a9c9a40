# Two stages: dependencies are installed by hash into a virtual environment, which is all that moves on.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/gateway
COPY requirements/run.txt requirements/run.txt
RUN /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
COPY migrations migrations
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /var/lib/gateway --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
USER 10001
WORKDIR /var/lib/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GATEWAY_DATA_DIR=/var/lib/gateway/data \
    GATEWAY_LOCAL__CACHE_DIR=/var/lib/gateway/data/models \
    GATEWAY_SERVER__HOST=0.0.0.0 \
    GATEWAY_LOG__FORM=json
VOLUME /var/lib/gateway/data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["asr-gateway", "serve"]

# syntax=docker/dockerfile:1
# Two stages: dependencies are installed by hash into a virtual environment, which is all that moves on.
# ffmpeg comes with it, inside the wheel of imageio-ffmpeg.
FROM python:3.13-slim AS build

# cloud: DashScope, servers that speak OpenAI's wire, SQLite and PostgreSQL; the least to fetch and to keep
# up to date, and what most people run in a container, where a CPU is rarely for Whisper.
# local: the engine on this machine's CPU as well (bench/README.md says how much larger). Its model files are
# no part of the image: they are fetched into the volume on the first start.
ARG EXTRAS=cloud

WORKDIR /build
RUN python -m venv /opt/gateway
COPY requirements/cloud.txt requirements/run.txt requirements/
RUN case "$EXTRAS" in cloud) lock=cloud ;; local) lock=run ;; *) echo "EXTRAS is cloud or local" >&2; exit 1 ;; esac && /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements/$lock.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
COPY migrations migrations
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /var/lib/gateway --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
USER 10001:10001
WORKDIR /var/lib/gateway
RUN mkdir -m 700 data
# Nothing but the volume is ever written: the root may be read-only.
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_DATA_DIR=/var/lib/gateway/data \
    GATEWAY_LOCAL__CACHE_DIR=/var/lib/gateway/data/models \
    GATEWAY_SERVER__HOST=0.0.0.0 \
    GATEWAY_LOG__FORMAT=json
VOLUME /var/lib/gateway/data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --start-interval=2s CMD ["asr-gateway", "health"]
CMD ["asr-gateway", "serve"]

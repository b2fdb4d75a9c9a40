# syntax=docker/dockerfile:1
# Two stages: the first installs dependencies with hashes into a virtual environment; the second copies only that
# environment. It includes ffmpeg, in the wheel of imageio-ffmpeg.
FROM python:3.13-slim AS build

# cloud: DashScope, OpenAI-compatible servers, SQLite and PostgreSQL. The smallest image.
# local: the same and the engine for this machine's CPU (bench/README.md has both sizes). Its model files are not
# part of the image: they are downloaded into the volume at the first start.
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
# Only the volume is written, so the root may be read-only.
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

# The serving image: base dependencies and one ONNX Runtime build. No torch, no onnx, no data frames.
# docker build -t rankline .                                        (CPU)
# docker build -t rankline:gpu --build-arg RUNTIME=gpu --build-arg BASE=nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 .
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG RUNTIME=cpu
# A CUDA base has no Python; the slim base has it already.
RUN command -v python3 >/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
WORKDIR /srv/rankline
COPY pyproject.toml constraints.txt README.md ./
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[${RUNTIME}]"
COPY service service
COPY feature_store feature_store
COPY models/__init__.py models/manifest.py models/repository.py models/
RUN useradd --system --no-create-home rankline && mkdir -p /var/lib/rankline && chown rankline /var/lib/rankline
USER rankline
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RANKLINE_MODELS__REPOSITORY=/models \
    RANKLINE_PLAN__PATH=/etc/rankline/plan.yaml \
    RANKLINE_PLAN__STATE_DIRECTORY=/var/lib/rankline \
    RANKLINE_EVENTS__SPOOL_DIRECTORY=/var/lib/rankline/spool
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["python3", "-m", "service", "serve", "--host", "0.0.0.0"]

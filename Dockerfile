# The gateway: no torch, no vLLM. The encoder's ONNX export is made in a stage of its own and copied.
#   docker build -t consilium .
# Where pip needs to be told where PyTorch's CPU wheels are (pytorch.org's Get Started page says):
#   docker build --build-arg PIP_ARGS="--extra-index-url ADDRESS" -t consilium .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS encoder
ARG PIP_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/gateway.txt requirements/encoder.txt requirements/
RUN python -m pip install --no-deps ${PIP_ARGS} -r requirements/gateway.txt -r requirements/encoder.txt
COPY . .
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m router.cli encoder export --cache /cache

FROM python:${PYTHON}-slim AS gateway
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 CONSILIUM_CACHE=/cache
COPY requirements/gateway.txt /tmp/gateway.txt
RUN python -m pip install --no-deps -r /tmp/gateway.txt
COPY --from=encoder /wheels /tmp/wheels
RUN python -m pip install --no-deps /tmp/wheels/*.whl && rm -r /tmp/wheels /tmp/gateway.txt
COPY --from=encoder --chown=10001 /cache /cache
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["consilium"]
CMD ["serve", "--registry", "/registry", "--host", "0.0.0.0", "--port", "8080"]

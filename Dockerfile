# The product, without PyTorch: docs/SERVING.md says how to run it.
FROM python:3.11-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
# In a layer of their own, as the program changes more often than the packages that it needs.
RUN --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    python -c "import tomllib; print(*tomllib.load(open('/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > /tmp/requirements.txt \
    && pip install --requirement /tmp/requirements.txt \
    && rm /tmp/requirements.txt
# More packages: --build-arg EXTRAS=postgres,s3
ARG EXTRAS=""
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install "$(echo /wheels/*.whl)${EXTRAS:+[${EXTRAS}]}" \
    && install --directory --owner 10001 /gallery /store /cache \
    && printf '[serve]\nhost = "0.0.0.0"\n' > /etc/retrieve.toml
ENV RETRIEVE_CACHE=/cache RETRIEVE_CONFIG=/etc/retrieve.toml RETRIEVE_STORE=/store RETRIEVE_TRUST=1
USER 10001
VOLUME ["/gallery", "/store"]
EXPOSE 8000
# The first process of a container ignores SIGTERM unless it handles it, as indexing does not.
STOPSIGNAL SIGINT
HEALTHCHECK --start-period=20s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["retrieve"]
CMD ["serve"]

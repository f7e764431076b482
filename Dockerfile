# docker build -t kamal-sd --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# It runs as user 65532 on a read-only root file system, with a volume at /data and without a shell:
#   docker run --read-only --group-add "$(stat -c %g /var/run/docker.sock)" -p 127.0.0.1:9889:9889 \
#     -v kamal-sd-data:/data -v /var/run/docker.sock:/var/run/docker.sock kamal-sd
#
# The same files and the same BASE give the same layers, whenever and wherever they are built, for the
# dependencies come from the lock and every file has the time SOURCE_DATE_EPOCH. The image's id differs,
# for the builder writes the time of the build into the image's configuration; a BuildKit that honours
# SOURCE_DATE_EPOCH (0.11 and newer) can make that one the same, too. BASE by its digest makes sure that
# it is the same one.
#
# It is built and tested for linux/amd64. The lock has what linux/arm64 needs, and nothing here is of one
# processor, but no test has built that one.

# Python 3.11 or newer, with venv.
ARG BASE=python:3.13-slim
# Where the build needs more to reach the package index, like a certificate or a pip.conf: an image made
# from BASE that has it. Nothing but /image is taken from there.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG SOURCE_DATE_EPOCH=1580601600
ENV PYTHONHASHSEED=0 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# The build backend comes from a lock, too. What serves has no pip.
RUN awk '/^[^ ]/ { on = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } on' \
      requirements-dev.lock > build.lock \
 && python3 -m venv /build \
 && /build/bin/pip install --quiet --require-hashes -r build.lock \
 && python3 -m venv --without-pip /opt/kamal-sd \
 && /build/bin/pip --python /opt/kamal-sd/bin/python3 install --quiet --require-hashes \
      -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
# Compiled files say by themselves that they are never stale; the usual ones hold times.
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/pip --python /opt/kamal-sd/bin/python3 install --quiet --no-deps /wheel/*.whl \
 && rm -rf /opt/kamal-sd/include \
 && find /opt/kamal-sd/bin -type f ! -name kamal-sd -delete \
 && find /opt/kamal-sd -name __pycache__ -prune -exec rm -r {} + \
 && /opt/kamal-sd/bin/python3 -m compileall -q --invalidation-mode unchecked-hash \
      /opt/kamal-sd/lib \
 && mkdir -p /image/opt && mv /opt/kamal-sd /image/opt && mkdir -m 0700 /image/data \
 && chown 65532:65532 /image/data && chmod -R go=u,go-w /image/opt \
 && find /image -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

FROM ${BASE}
COPY --from=build /image /
ENV KAMAL_SD_DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="kamal-sd" \
      org.opencontainers.image.description="Prometheus service discovery for apps deployed with Kamal" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
VOLUME /data
EXPOSE 9889
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["/opt/kamal-sd/bin/kamal-sd", "healthcheck"]
ENTRYPOINT ["/opt/kamal-sd/bin/kamal-sd"]
CMD ["serve"]

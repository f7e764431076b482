# docker build -t kamal-sd .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY app app
RUN python3 -m venv /opt/kamal-sd \
 && /opt/kamal-sd/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && /opt/kamal-sd/bin/pip install --no-cache-dir --no-deps .

FROM ${BASE}
COPY --from=build /opt/kamal-sd /opt/kamal-sd
ENV KAMAL_SD_DATA_DIR=/data
# The user of the engine's socket is the host's business: run with --user 0 or --group-add.
RUN mkdir -m 0700 /data && chown 65532:65532 /data
USER 65532:65532
VOLUME /data
EXPOSE 9889
ENTRYPOINT ["/opt/kamal-sd/bin/kamal-sd"]
CMD ["serve"]

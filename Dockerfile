# syntax=docker/dockerfile:1
# edged in a container: `docker build -t edged:0.1.0 .`; docs/scale.md has what to run it with.
#
# The first stage is scripts/install, into a folder: the files and the checked wheels that every other box has as well.
FROM python:3.13-slim-trixie AS install
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip scripts/install --root /install

FROM python:3.13-slim-trixie
# Numbers that stay the same, and beyond those that hosts give: volumes belong to them, and Kubernetes asks for a number.
RUN groupadd --gid 10001 edged \
    && groupadd --gid 10002 edged-admin \
    && useradd --uid 10001 --gid edged --home-dir /var/lib/edged --no-create-home --shell /usr/sbin/nologin edged \
    && install -d -o edged -g edged -m 0750 /var/lib/edged /var/cache/edged /run/edged
COPY --from=install /install/opt/edged /opt/edged
COPY --from=install /install/etc/edged /etc/edged
COPY --from=install /install/usr/share/edged /usr/share/edged
# What the unit sets.
ENV PATH=/opt/edged/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/var/lib/edged \
    TMPDIR=/run/edged \
    STATE_DIRECTORY=/var/lib/edged \
    CACHE_DIRECTORY=/var/cache/edged \
    RUNTIME_DIRECTORY=/run/edged
USER 10001:10001
VOLUME ["/var/lib/edged", "/var/cache/edged"]
# Healthy while it answers and no configured model has failed.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["edged", "status", "--ready"]
# SIGTERM drains, SIGHUP reads the configuration again.
STOPSIGNAL SIGTERM
ENTRYPOINT ["edged"]
CMD ["run", "--config", "/etc/edged/edged.yaml"]

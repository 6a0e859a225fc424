# syntax=docker/dockerfile:1
# `narthex serve` in a container. The builder makes the files of a release as everywhere, and the image has the content
# of the tarball. `docker build --target files --output type=local,dest=DIR .` gives the files themselves.
FROM --platform=linux/amd64 node:24-bookworm-slim AS node

FROM --platform=linux/amd64 rust:1.95.0-bookworm AS builder
COPY --from=node /usr/local/bin/ /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules/ /usr/local/lib/node_modules/
WORKDIR /narthex
# With .git, which has the commit for /health and the time of the files.
COPY . .
RUN npm run release -- --dry-run --out /release \
  && mkdir -p /opt/narthex \
  && tar -xzf /release/narthex-*-linux-x64.tar.gz --strip-components=1 --no-same-owner -C /opt/narthex

FROM scratch AS files
COPY --from=builder /release/ /

FROM --platform=linux/amd64 debian:12-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates \
  && rm -rf /var/lib/apt/lists/* \
  && groupadd --gid 10001 narthex \
  && useradd --uid 10001 --gid narthex --no-create-home --home-dir /data --shell /usr/sbin/nologin narthex \
  && install -d -o narthex -g narthex -m 0700 /data
COPY --from=builder /opt/narthex/ /opt/narthex/
USER 10001:10001
VOLUME /data
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["/opt/narthex/bin/narthex", "health", "--data", "/data"]
ENTRYPOINT ["/opt/narthex/bin/narthex"]
CMD ["serve", "--data", "/data", "--listen", "0.0.0.0:8787"]

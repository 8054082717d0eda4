# syntax=docker/dockerfile:1
# check=skip=JSONArgsRecommended

ARG DEBIAN=bookworm
ARG NODE=20.11 \
    RUST=1.78 \
    PYTHON=3.12

# What every stage with a compiler starts from.
FROM --platform=$BUILDPLATFORM debian:${DEBIAN}-slim AS toolchain
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive \
    PATH=/opt/tools/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && \
    apt-get update && \
    apt-get install --yes --no-install-recommends \
        build-essential \
        ca-certificates \
        cmake \
        curl \
        # for the sources that are no archives
        git \
        libpq-dev \
        libssl-dev \
        ninja-build \
        pkg-config \
        python3 \
        unzip \
        zstd
ARG TARGETARCH
ARG TARGETVARIANT
ADD --chmod=0755 tools/fetch.sh tools/verify.sh /opt/tools/bin/
RUN <<EOT
case "${TARGETARCH}${TARGETVARIANT:+/$TARGETVARIANT}" in
    amd64) triple=x86_64-unknown-linux-gnu ;;
    arm64*) triple=aarch64-unknown-linux-gnu ;;
    *) echo "no toolchain for $TARGETARCH" >&2; exit 1 ;;
esac
echo "$triple" >/opt/tools/triple
EOT

FROM toolchain AS rust-dependencies
ARG RUST
ENV CARGO_HOME=/opt/cargo RUSTUP_HOME=/opt/rustup
RUN fetch.sh rustup "$RUST" "$(cat /opt/tools/triple)" && verify.sh /opt/rustup
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY --parents crates/*/Cargo.toml ./
RUN for crate in crates/*; do mkdir -p "$crate/src" && touch "$crate/src/lib.rs"; done
RUN --mount=type=cache,id=cargo-registry,target=/opt/cargo/registry \
    --mount=type=secret,id=registry-token,target=/opt/cargo/credentials.toml,mode=0400 \
    cargo build --release --locked --workspace

FROM rust-dependencies AS server
COPY --link --exclude=**/tests --exclude=**/*.md crates crates
ARG REVISION=unknown
ARG FEATURES="metrics,${REVISION:+revision},tls"
RUN --mount=type=cache,id=cargo-registry,target=/opt/cargo/registry \
    --mount=type=cache,id=target-$TARGETARCH,target=/src/target,sharing=private \
    REVISION=$REVISION cargo build --release --locked --features "$FEATURES" --package server \
    && install -D -m 0755 target/release/server /out/server \
    && strip --strip-debug /out/server

FROM server AS server-test
RUN --network=none --mount=type=cache,id=target-$TARGETARCH,target=/src/target \
    cargo test --release --locked --package server -- --test-threads 4

FROM --platform=$BUILDPLATFORM node:${NODE}-alpine AS web-dependencies
WORKDIR /web
COPY web/package.json web/package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund

FROM web-dependencies AS web
COPY web .
ENV NODE_ENV=production
RUN ["npm", "run", "build"]
RUN <<"LIST" cat >dist/robots.txt
User-agent: *
Disallow: /api/
LIST

FROM web AS web-test
RUN npm run lint && npm run test -- --run \
 && npm run typecheck

FROM python:${PYTHON}-slim-${DEBIAN} AS reports
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /reports
COPY reports/requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip,mode=0755 \
    --mount=type=bind,source=reports/wheels,target=/wheels \
    pip install --find-links /wheels --requirement requirements.txt
COPY reports/*.py reports/templates/ ./
RUN python -m compileall -q . && \
    python - <<'PY'
import pathlib
for path in pathlib.Path("templates").glob("*.html"):
    assert "{{" in path.read_text(), path
PY

FROM debian:${DEBIAN}-slim AS base
RUN set -eux; \
    groupadd --system --gid 10001 app; \
    useradd --system --uid 10001 --gid app --home-dir /srv/app --shell /usr/sbin/nologin app; \
    install -d -o app -g app -m 0750 /srv/app /var/log/app /var/lib/app
COPY --from=toolchain /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY <<-CONFIG /etc/app/server.toml
	listen = "0.0.0.0:8080"
	workers = 4
	[log]
	level = "info"
	directory = "/var/log/app"
CONFIG
VOLUME ["/var/log/app", "/var/lib/app"]

FROM base AS debug
RUN apt-get update && apt-get install -y gdb strace lsof && rm -rf /var/lib/apt/lists/*
COPY --from=server /src/target /src/target
COPY --from=server --chown=app:app /out/server /srv/app/server
ENTRYPOINT ["gdb", "--args", "/srv/app/server"]

FROM base AS final
ARG REVISION VERSION=0.0.0-dev
ARG CREATED
LABEL org.opencontainers.image.title="app" \
      org.opencontainers.image.description='Serves "everything" of the project' \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=${REVISION:-unknown} \
      org.opencontainers.image.created="$CREATED"
WORKDIR /srv/app
COPY --from=server --chown=10001:10001 --chmod=0755 /out/server ./
COPY --from=web --chown=10001:10001 /web/dist ./public
COPY --from=reports --chown=app:app /reports ./reports
COPY --chmod=u=rwX,go=rX migrations ./migrations
ENV APP_HOME=/srv/app \
    APP_CONFIG=/etc/app/server.toml \
    APP_VERSION="${VERSION}" \
    APP_PUBLIC="${APP_PUBLIC:-/srv/app/public}" \
    RUST_BACKTRACE=1
USER app:app
EXPOSE 8080/tcp 9090-9092/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=4 \
    CMD ["/srv/app/server", "health", "--quiet"]
ONBUILD COPY plugins /srv/app/plugins
ENTRYPOINT ["/srv/app/server"]
CMD ["serve", "--config", "/etc/app/server.toml"]

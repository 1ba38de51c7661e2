FROM rust:1.95-slim-bookworm AS builder
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY src src
COPY tests/support tests/support
COPY alerts alerts
COPY dashboards dashboards
COPY LICENSE-APACHE LICENSE-MIT ./
COPY scripts/licenses.sh scripts/licenses.sh
# The build context has no Git history, so the revision must be passed with --build-arg.
ARG REDIS_SCRIPT_EXPORTER_REVISION=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin redis-script-exporter \
    && cp target/release/redis-script-exporter redis-script-exporter \
    && scripts/licenses.sh >THIRD-PARTY-LICENSES

# Contains only libc, libgcc and the system's CA certificates: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /build/LICENSE-APACHE /build/LICENSE-MIT /build/THIRD-PARTY-LICENSES /licenses/
COPY --from=builder /build/redis-script-exporter /usr/local/bin/redis-script-exporter
# Numeric, so that Kubernetes can verify that the user is not root.
USER 65532:65532
EXPOSE 10379
HEALTHCHECK --interval=15s --timeout=3s --start-period=3s CMD ["redis-script-exporter", "healthcheck"]
ENTRYPOINT ["redis-script-exporter"]

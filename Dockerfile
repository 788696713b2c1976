# One image with the three services; the command names the one to run:
#   docker run pricing-engine /usr/local/bin/pricing-api

# The manifests with empty targets: what the dependencies' layer depends on, and nothing more.
FROM rust:1.95.0-bookworm AS manifests
WORKDIR /build
COPY . .
RUN find crates -type f ! -name Cargo.toml ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/benches/*.rs' -delete \
 && for file in $(find crates -name '*.rs'); do echo 'fn main() {}' > "$file"; done

FROM rust:1.95.0-bookworm AS build
WORKDIR /build
# Backtraces keep their function names; line tables would double the size of the image.
ENV CARGO_PROFILE_RELEASE_DEBUG=none CARGO_PROFILE_RELEASE_STRIP=debuginfo
COPY --from=manifests /build .
RUN cargo build --release --locked --package pricing-api --package pricing-listener --package pricing-worker
COPY crates crates
# Cargo compares modification times, and the checkout is older than the empty targets built above.
RUN find crates -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --package pricing-api --package pricing-listener --package pricing-worker
# The runtime's file system: the binaries, the libraries that the dynamic loader names for them
# at the paths where it will look, the certificate authorities, and the order of name lookups.
RUN set -eu; \
    mkdir -p /image/usr/local/bin /image/etc/ssl/certs; \
    cd target/release; \
    cp pricing-api pricing-listener pricing-worker /image/usr/local/bin; \
    ldd pricing-api pricing-listener pricing-worker | grep -o '/[^ :]*\.so[^ ]*' | sort -u | \
        xargs -I{} cp --dereference --parents {} /image; \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf

# Volumes that are mounted here for the first time belong to the user below: `pricing-worker secrets` writes to them.
RUN mkdir -p /secrets/own /secrets/api /secrets/listener /secrets/worker /secrets/redis /secrets/postgres

FROM scratch
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /secrets /secrets
ENV PATH=/usr/local/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# A number, because the image has no /etc/passwd.
USER 65532:65532

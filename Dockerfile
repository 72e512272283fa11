# The command `symnorm` on a CPU, without a network; docs/score.md says how to run it.
FROM python:3.11-slim

COPY . /src
# What requirements.txt pins, without the tools of developers.
RUN grep -v "^-e" /src/requirements.txt > /tmp/pinned.txt \
    && pip install --no-cache-dir --constraint /tmp/pinned.txt "/src[dicom]" \
    && rm /tmp/pinned.txt

# A home and a cache that whoever `docker run --user` names can write.
ENV HOME=/tmp JAX_PLATFORMS=cpu \
    JAX_COMPILATION_CACHE_DIR=/tmp/xla JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["symnorm"]

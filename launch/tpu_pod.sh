#!/usr/bin/env bash
# Train one config on every worker of a Cloud TPU slice.
#
#   launch/tpu_pod.sh create  --name=symnorm --zone=us-east5-a --type=v5litepod-16 --spot
#   launch/tpu_pod.sh copy    --name=symnorm --zone=us-east5-a
#   launch/tpu_pod.sh run     --name=symnorm --zone=us-east5-a --workdir=/shared/runs/mets -- --config=configs/mets.py \
#       --config.data.root=/shared/brainmetshare-3 --config.data.store=/shared/store
#   launch/tpu_pod.sh collect --name=symnorm --zone=us-east5-a --workdir=/shared/runs/mets --into=runs
#   launch/tpu_pod.sh delete  --name=symnorm --zone=us-east5-a
#
# What follows -- goes to launch/train.py. Every worker must see --workdir, the scans and the store under the same
# paths, so all three lie on one file system: Filestore over NFS (--nfs), or a bucket through gcsfuse (--bucket), which
# `copy` mounts at --shared. After a spot slice has been taken away, the same create, copy and run go on from the last
# checkpoint. --dry_run prints the commands of gcloud and runs none.
set -euo pipefail

NAME=${TPU_NAME:-symnorm} ZONE=${TPU_ZONE:-us-east5-a} TYPE=${TPU_TYPE:-v5litepod-16}
VERSION=${TPU_VERSION:-v2-alpha-tpuv5-lite} PROJECT=${TPU_PROJECT:-}
SHARED=${TPU_SHARED:-/shared} NFS=${TPU_NFS:-} BUCKET=${TPU_BUCKET:-}
WORKDIR=${TPU_WORKDIR:-} INTO=${TPU_INTO:-runs} SPOT=false QUEUED=false DRY_RUN=false
TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly TREE

fail() {
    echo "error: $*" >&2
    exit 1
}

# Runs a command, or prints it so that a shell would read it back.
call() {
    if [[ $DRY_RUN == true ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

gcloud_tpu() {
    local place=("--zone=$ZONE")
    [[ -z $PROJECT ]] || place+=("--project=$PROJECT")
    call gcloud compute tpus "$@" "${place[@]}"
}

# A shell command on every worker at the same time; without SLURM, JAX finds the pod in the metadata of the TPU.
everywhere() {
    gcloud_tpu tpu-vm ssh "$NAME" --worker=all "--command=$1"
}

create() {
    local spot=()
    [[ $SPOT == false ]] || spot=(--spot)
    if [[ $QUEUED == true ]]; then
        gcloud_tpu queued-resources create "$NAME" "--node-id=$NAME" "--accelerator-type=$TYPE" \
            "--runtime-version=$VERSION" ${spot[@]+"${spot[@]}"}
    else
        gcloud_tpu tpu-vm create "$NAME" "--accelerator-type=$TYPE" "--version=$VERSION" ${spot[@]+"${spot[@]}"}
    fi
}

# The images of TPU machines come with an older Python than this package needs; uv brings one.
copy() {
    local archive
    archive=$(mktemp -d)/symnorm.tar.gz
    # shellcheck disable=SC2064 # the name as it is now
    trap "rm -rf '$(dirname "$archive")'" EXIT
    call tar -czf "$archive" -C "$TREE" --exclude=.git --exclude=./runs --exclude=__pycache__ .
    gcloud_tpu tpu-vm scp "$archive" "$NAME:/tmp/symnorm.tar.gz" --worker=all
    everywhere "mkdir -p ~/symnorm && cd ~/symnorm && tar -xzf /tmp/symnorm.tar.gz && \
python3 -m pip install -q --user uv && { test -d ~/venv || python3 -m uv venv --python 3.12 ~/venv; } && \
python3 -m uv pip install -q --python ~/venv/bin/python -e '.[tpu]'"
    mount_shared
}

mount_shared() {
    local place mounted
    place=$(printf %q "$SHARED")
    mounted="sudo mkdir -p $place && if ! mountpoint -q $place; then"
    if [[ -n $NFS ]]; then
        everywhere "sudo apt-get install -qy nfs-common && $mounted \
sudo mount -t nfs $(printf %q "$NFS") $place && sudo chown \$USER $place; fi"
    elif [[ -n $BUCKET ]]; then
        everywhere "$mounted sudo chown \$USER $place && gcsfuse --implicit-dirs $(printf %q "$BUCKET") $place; fi"
    else
        echo "note: neither --nfs nor --bucket: $SHARED must be mounted on every worker by other means." >&2
    fi
}

run() {
    [[ -n $WORKDIR ]] || fail "run: --workdir is needed, a directory that every worker sees."
    [[ $WORKDIR == /* ]] || fail "run: --workdir=$WORKDIR; an absolute path is allowed, the same on every worker."
    (($#)) || fail "run: the flags of launch/train.py are needed after --, as -- --config=configs/mets.py."
    local flags
    flags=$(printf '%q ' "$@" "--workdir=$WORKDIR" --pod)
    everywhere "cd ~/symnorm && ~/venv/bin/python launch/train.py $flags"
}

collect() {
    [[ -n $WORKDIR ]] || fail "collect: --workdir is needed, the directory of the run."
    call mkdir -p "$INTO"
    gcloud_tpu tpu-vm scp --recurse "$NAME:$WORKDIR" "$INTO" --worker=0
}

delete() {
    if [[ $QUEUED == true ]]; then
        gcloud_tpu queued-resources delete "$NAME" --force --quiet
    else
        gcloud_tpu tpu-vm delete "$NAME" --quiet
    fi
}

COMMAND=${1:-}
case $COMMAND in
    create | copy | run | collect | delete) shift ;;
    *) fail "${COMMAND:-no command}; one of create, copy, run, collect, delete is allowed." ;;
esac
while (($#)); do
    case $1 in
        --name=*) NAME=${1#*=} ;;
        --zone=*) ZONE=${1#*=} ;;
        --type=*) TYPE=${1#*=} ;;
        --version=*) VERSION=${1#*=} ;;
        --project=*) PROJECT=${1#*=} ;;
        --shared=*) SHARED=${1#*=} ;;
        --nfs=*) NFS=${1#*=} ;;
        --bucket=*) BUCKET=${1#*=} ;;
        --workdir=*) WORKDIR=${1#*=} ;;
        --into=*) INTO=${1#*=} ;;
        --spot) SPOT=true ;;
        --queued) QUEUED=true ;;
        --dry_run) DRY_RUN=true ;;
        --)
            shift
            break
            ;;
        *) fail "$1 is no flag of $COMMAND; flags of launch/train.py stand after --." ;;
    esac
    shift
done
[[ $COMMAND == run || $# -eq 0 ]] || fail "$COMMAND: nothing may stand after --."
"$COMMAND" "$@"

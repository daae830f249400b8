#!/bin/bash
# TEvolOp: forecasting of earthquakes, size tiny, on site local, partition local
# Written by kit 0.1.0: kit run tevolop --site local
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
# 1 node x 2 ranks x 1 thread = 2 of 2 cores
set -euo pipefail
cd /work/run
refuse() { # refuse REASON: before the first stage, so that nothing has run
    echo "job.sh: $*" >&2
    exit 69
}
# Drop variables of the submitter's shell that could change results.
for name in $(compgen -e); do
    case $name in
    APPTAINERENV_* | APPTAINER_BIND* | HOROVOD_* | KMP_* | LD_AUDIT | LD_PRELOAD | MKL_* | OMPI_MCA_* | OMP_* | OPENBLAS_* | PMIX_MCA_* | PRTE_MCA_* | PYTHON* | RELION_* | SINGULARITYENV_* | SINGULARITY_BIND* | TF_* | XLA_*) unset "$name" ;;
    esac
done
export OMP_NUM_THREADS=1

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 2 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/horovod.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/horovod.sif \
        mpirun --allow-run-as-root -n 2 --oversubscribe --map-by node --bind-to none "$@"
}

# stages.jsonl is the record of what ran: a line when a stage starts, a line when it ends, whatever way it ends.
stage=
child=
ended() { # ended EXIT_CODE REASON
    printf '{"stage": "%s", "event": "end", "time": %s, "exit": %d, "reason": "%s"}\n' \
        "$stage" "$(date +%s.%3N)" "$1" "$2" >>stages.jsonl
    echo "$stage: ${2:-done}"
}
interrupted() { # interrupted, or interrupted limit where the signal says that the time is up
    local reason=interrupted
    trap '' INT TERM HUP USR1 USR2 XCPU
    if [ -n "$child" ]; then
        kill -TERM -- "-$child" 2>/dev/null || true
        for _ in $(seq 50); do kill -0 -- "-$child" 2>/dev/null || break; sleep 0.1; done
        kill -KILL -- "-$child" 2>/dev/null || true
    fi
    [ -z "$stage" ] || ended 130 "$reason"
    exit 130
}
trap interrupted INT TERM HUP USR2
trap 'interrupted limit' USR1 XCPU

run_stage() { # run_stage NAME COMMAND_AS_JSON OUTPUT...
    local status=0 file why
    if [ -z "${always:-}" ] && grep -qs "^{\"stage\": \"$1\", \"event\": \"end\", .*\"exit\": 0," stages.jsonl; then
        echo "$1: done before, skipped"
        return
    fi
    stage=$1
    printf '{"stage": "%s", "event": "start", "time": %s, "host": "%s", "command": %s}\n' \
        "$stage" "$(date +%s.%3N)" "$(hostname)" "$2" >>stages.jsonl
    shift 2
    for file in "$@"; do mkdir -p "$(dirname "$file")"; done
    touch "logs/$stage.started"
    set -m # a process group of its own, so that all of a stage can be ended
    "stage_$stage" >>"logs/$stage.out" 2>>"logs/$stage.err" </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    child=
    # Who ends a job may reach its steps first, and this script a moment later: then the stage was interrupted.
    [ "$status" -ne 143 ] || sleep 5
    if [ "$status" -gt 128 ] && [ "$status" -le 192 ]; then # 255 is what many launchers say of any failure
        ended "$status" "killed by signal $((status - 128))"
        exit "$status"
    elif [ "$status" -ne 0 ]; then
        why=$(tail -n 20 "logs/$stage.err" | grep -m 1 '^kit-ranks: ' | tr -cd '[:alnum:] .,:;()_/+=-' | cut -c 1-400) || true
        ended "$status" "${why:-exit code $status}"
        exit "$status"
    fi
    for file in "$@"; do
        if [ ! -s "$file" ] || [ "$file" -ot "logs/$stage.started" ]; then
            ended 65 "wrote no $file"
            exit 65
        fi
    done
    ended 0 ""
    stage=
}

mkdir -p logs

# does each rank have the cores and GPUs of the plan, and do they form one job?
stage_ranks() {
    launch kit-ranks --ranks 2 --nodes 1 --ranks-per-node 2 --threads 1 --gpus 0 --bind none >ranks.jsonl
}
always=yes run_stage ranks '"launch kit-ranks --ranks 2 --nodes 1 --ranks-per-node 2 --threads 1 --gpus 0 --bind none >ranks.jsonl"' ranks.jsonl

stage_prepare() {
    in_image /opt/venv/bin/python3 -m kit.stages.tevolop prepare --data data --out series --days 14610 --pixels 250 \
        --split location --seed 1234 --stride 4 --smallest 2.5 --most-outside 0.01
}
run_stage prepare '"in_image /opt/venv/bin/python3 -m kit.stages.tevolop prepare --data data --out series --days 14610 --pixels 250 \\\n    --split location --seed 1234 --stride 4 --smallest 2.5 --most-outside 0.01"' series/prepared.json series/inputs.npy series/targets.npy

stage_train() {
    launch /opt/venv/bin/python3 -m kit.stages.tevolop train --data series --out train --backend horovod \
        --model lstm --units 32 --dropout 0.2 \
        --epochs 4 --batch-size 512 --learning-rate 0.001 \
        --reference-batch 256 --warmup-epochs 0.5 --schedule cosine \
        --patience 0 --precision float32 --seed 1234
}
run_stage train '"launch /opt/venv/bin/python3 -m kit.stages.tevolop train --data series --out train --backend horovod \\\n    --model lstm --units 32 --dropout 0.2 \\\n    --epochs 4 --batch-size 512 --learning-rate 0.001 \\\n    --reference-batch 256 --warmup-epochs 0.5 --schedule cosine \\\n    --patience 0 --precision float32 --seed 1234"' train/model.weights.h5 train/train.json

stage_infer() {
    in_image /opt/venv/bin/python3 -m kit.stages.tevolop infer --data series --trained train --out forecast
}
run_stage infer '"in_image /opt/venv/bin/python3 -m kit.stages.tevolop infer --data series --trained train --out forecast"' forecast/forecasts.npy forecast/infer.json

stage_score() {
    in_image /opt/venv/bin/python3 -m kit.stages.tevolop score --data series --forecast forecast --out score --truth data/truth.npz
}
run_stage score '"in_image /opt/venv/bin/python3 -m kit.stages.tevolop score --data series --forecast forecast --out score --truth data/truth.npz"' score/score.json

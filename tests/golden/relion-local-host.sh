#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site local, partition local
# Written by kit 0.1.0: kit run relion --site local
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
# 1 node x 3 ranks x 1 thread = 3 of 2 cores (oversubscribed: timings are functional only)
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

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 3 ranks of it.
in_image() {
    env OMP_NUM_THREADS=1 "$@"
}
launch() {
    env OMP_NUM_THREADS=1 \
        mpirun --allow-run-as-root -n 3 --oversubscribe --map-by node --bind-to none "$@"
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

# last_iteration ROOT: the optimiser of the newest iteration that is whole. What was cut off while RELION wrote it lacks
# files, or has STAR files that do not end with the empty line behind a table.
last_iteration() {
    local optimiser file named
    while read -r optimiser; do
        mapfile -t named < <(grep -oE '[^ ]+_it[0-9]{3}_[a-z0-9_]+\.star' "$optimiser")
        for file in "$optimiser" "${named[@]}"; do
            if [ ! -s "$file" ] || [ -n "$(tail -n 1 "$file" | tr -d '[:space:]')" ]; then continue 2; fi
        done
        echo "$optimiser"
        return
    done < <(compgen -G "$1_it???_optimiser.star" | sort -r)
}

stage_identify() {
    in_image relion_refine --version >version.txt
}
run_stage identify '"in_image relion_refine --version >version.txt"' version.txt

stage_class2d() {
    local resume=() last
    last=$(last_iteration Class2D/run)
    [ -z "$last" ] || resume=(--continue "$last")
    in_image relion_refine --i data/particles.star --o Class2D/run "${resume[@]}" \
        --iter 10 --K 8 --tau2_fudge 2 --psi_step 12 --offset_range 2 --offset_step 1 \
        --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale \
        --pool 30 --j 2 --dont_combine_weights_via_disc --random_seed 1
}
run_stage class2d '"in_image relion_refine --i data/particles.star --o Class2D/run \"${resume[@]}\" \\\n    --iter 10 --K 8 --tau2_fudge 2 --psi_step 12 --offset_range 2 --offset_step 1 \\\n    --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale \\\n    --pool 30 --j 2 --dont_combine_weights_via_disc --random_seed 1"' Class2D/run_it010_model.star Class2D/run_it010_classes.mrcs

stage_class3d() {
    local resume=() last
    last=$(last_iteration Class3D/run)
    [ -z "$last" ] || resume=(--continue "$last")
    in_image relion_refine --i data/particles.star --o Class3D/run "${resume[@]}" \
        --ref data/reference.mrc --firstiter_cc --ini_high 60 \
        --iter 10 --K 2 --tau2_fudge 2 --healpix_order 1 --offset_range 2 --offset_step 1 --sym C1 \
        --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale \
        --pool 30 --j 2 --dont_combine_weights_via_disc --random_seed 1
}
run_stage class3d '"in_image relion_refine --i data/particles.star --o Class3D/run \"${resume[@]}\" \\\n    --ref data/reference.mrc --firstiter_cc --ini_high 60 \\\n    --iter 10 --K 2 --tau2_fudge 2 --healpix_order 1 --offset_range 2 --offset_step 1 --sym C1 \\\n    --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale \\\n    --pool 30 --j 2 --dont_combine_weights_via_disc --random_seed 1"' Class3D/run_it010_model.star Class3D/run_it010_data.star

stage_select() {
    for class in 1 2; do
        in_image relion_star_handler --i Class3D/run_it010_data.star --o Select/class$class.star \
            --select rlnClassNumber --minval $class --maxval $class
    done
    if [ "$(wc -l <Select/class1.star)" -ge "$(wc -l <Select/class2.star)" ]; then largest=1; else largest=2; fi
    cp Select/class$largest.star Select/particles.star
}
run_stage select '"for class in 1 2; do\n    in_image relion_star_handler --i Class3D/run_it010_data.star --o Select/class$class.star \\\n        --select rlnClassNumber --minval $class --maxval $class\ndone\nif [ \"$(wc -l <Select/class1.star)\" -ge \"$(wc -l <Select/class2.star)\" ]; then largest=1; else largest=2; fi\ncp Select/class$largest.star Select/particles.star"' Select/particles.star

stage_refine3d() {
    local resume=() last
    last=$(last_iteration Refine3D/run)
    [ -z "$last" ] || resume=(--continue "$last")
    launch relion_refine_mpi --i Select/particles.star --o Refine3D/run "${resume[@]}" \
        --auto_refine --split_random_halves --ref data/reference.mrc --firstiter_cc --ini_high 60 \
        --healpix_order 1 --auto_local_healpix_order 2 --offset_range 2 --offset_step 1 --sym C1 --low_resol_join_halves 40 \
        --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale \
        --pool 30 --j 1 --dont_combine_weights_via_disc --random_seed 1
}
run_stage refine3d '"launch relion_refine_mpi --i Select/particles.star --o Refine3D/run \"${resume[@]}\" \\\n    --auto_refine --split_random_halves --ref data/reference.mrc --firstiter_cc --ini_high 60 \\\n    --healpix_order 1 --auto_local_healpix_order 2 --offset_range 2 --offset_step 1 --sym C1 --low_resol_join_halves 40 \\\n    --ctf --particle_diameter 310 --flatten_solvent --zero_mask --oversampling 1 --norm --scale \\\n    --pool 30 --j 1 --dont_combine_weights_via_disc --random_seed 1"' Refine3D/run_model.star Refine3D/run_class001.mrc Refine3D/run_half1_class001_unfil.mrc Refine3D/run_half2_class001_unfil.mrc

stage_maskcreate() {
    in_image relion_mask_create --i Refine3D/run_class001.mrc --o MaskCreate/mask.mrc \
        --lowpass 40 --ini_threshold 0.15 --extend_inimask 1 --width_soft_edge 3 --j 2
}
run_stage maskcreate '"in_image relion_mask_create --i Refine3D/run_class001.mrc --o MaskCreate/mask.mrc \\\n    --lowpass 40 --ini_threshold 0.15 --extend_inimask 1 --width_soft_edge 3 --j 2"' MaskCreate/mask.mrc

stage_postprocess() {
    in_image relion_postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask MaskCreate/mask.mrc \
        --angpix 10.6 --o PostProcess/postprocess
}
run_stage postprocess '"in_image relion_postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask MaskCreate/mask.mrc \\\n    --angpix 10.6 --o PostProcess/postprocess"' PostProcess/postprocess.star PostProcess/postprocess.mrc

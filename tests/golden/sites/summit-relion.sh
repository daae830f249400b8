#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site summit, partition batch
# Written by kit 0.1.0: kit run relion --site summit
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#BSUB -J kitrelion
#BSUB -nnodes 1
#BSUB -alloc_flags "gpumps smt1"
#BSUB -W 0:30
#BSUB -wt 1
#BSUB -wa TERM
#BSUB -q batch
#BSUB -o scheduler.out
exec >>/work/run/job.out 2>&1
# 1 node x 7 ranks x 1 thread = 7 of 42 cores
# 6 of 6 GPUs of a node; every rank sees them all
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

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 7 ranks of it.
in_image() {
    jsrun --nrs 1 --rs_per_host 1 --tasks_per_rs 1 --cpu_per_rs 42 --gpu_per_rs 6 --launch_distribution packed --bind packed:7 \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    jsrun --nrs 1 --rs_per_host 1 --tasks_per_rs 7 --cpu_per_rs 42 --gpu_per_rs 6 --launch_distribution packed --bind packed:1 \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}


#!/bin/bash
#COBALT -n 1
#COBALT -t 30
#COBALT --jobname kitrelion
#COBALT -q full-node
#COBALT --attrs filesystems=home,theta-fs0
#COBALT -o scheduler.out
#COBALT -e scheduler.out
#COBALT --debuglog scheduler.log
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site thetagpu, partition full-node
# Written by kit 0.1.0: kit run relion --site thetagpu
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
exec >>/work/run/job.out 2>&1
# 1 node x 9 ranks x 1 thread = 9 of 128 cores
# 8 of 8 GPUs of a node; every rank sees them all
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
export PATH="/lus/theta-fs0/software/thetagpu/openmpi-4.0.5/bin:$PATH"
export OMPI_MCA_orte_default_hostfile="$COBALT_NODEFILE"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 9 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 9 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site thetagpu, partition sophia
# Written by kit 0.1.0: kit run relion --site thetagpu
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#PBS -N kitrelion
#PBS -S /bin/bash
#PBS -l select=1:ncpus=128:mpiprocs=9:ompthreads=1
#PBS -l place=scatter:excl
#PBS -l walltime=00:30:00
#PBS -q by-node
#PBS -r n
#PBS -j oe
#PBS -o scheduler.out
#PBS -l filesystems=home:eagle
exec >>/work/run/job.out 2>&1
# 1 node x 9 ranks x 1 thread = 9 of 128 cores
# 8 of 8 GPUs of a node; every rank sees them all
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
export OMPI_MCA_orte_default_hostfile="$PBS_NODEFILE"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 9 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 9 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}


#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site juwels-booster, partition booster
# Written by kit 0.1.0: kit run relion --site juwels-booster
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=5
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --gres=gpu:4
#SBATCH --exclusive
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=booster
# 1 node x 5 ranks x 1 thread = 5 of 48 cores
# 4 of 4 GPUs of a node; every rank sees them all
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

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 5 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    srun --nodes=1 --ntasks=5 --ntasks-per-node=5 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pspmix \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site juwels-booster, partition devel
# Written by kit 0.1.0: kit run relion --site juwels-booster
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=5
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --gres=gpu:4
#SBATCH --exclusive
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=develbooster
# 1 node x 5 ranks x 1 thread = 5 of 48 cores
# 4 of 4 GPUs of a node; every rank sees them all
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

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 5 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    srun --nodes=1 --ntasks=5 --ntasks-per-node=5 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pspmix \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}


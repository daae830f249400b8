#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site perlmutter, partition gpu
# Written by kit 0.1.0: kit run relion --site perlmutter
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=5
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --qos=regular
#SBATCH --constraint=gpu
# 1 node x 5 ranks x 1 thread = 5 of 64 cores
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
    podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/relion-cuda:HASH "$@"
}
launch() {
    srun --nodes=1 --ntasks=5 --ntasks-per-node=5 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix \
        podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/relion-cuda:HASH "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site perlmutter, partition cpu
# Written by kit 0.1.0: kit run relion --site perlmutter
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --exclusive
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --qos=regular
#SBATCH --constraint=cpu
# 1 node x 3 ranks x 1 thread = 3 of 128 cores
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
    podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --openmpi-pmix kit/relion-basic:HASH "$@"
}
launch() {
    srun --nodes=1 --ntasks=3 --ntasks-per-node=3 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix \
        podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --openmpi-pmix kit/relion-basic:HASH "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site perlmutter, partition debug
# Written by kit 0.1.0: kit run relion --site perlmutter
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=5
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --qos=debug
#SBATCH --constraint=gpu
# 1 node x 5 ranks x 1 thread = 5 of 64 cores
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
    podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/relion-cuda:HASH "$@"
}
launch() {
    srun --nodes=1 --ntasks=5 --ntasks-per-node=5 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix \
        podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/relion-cuda:HASH "$@"
}


#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site perlmutter, partition gpu
# Written by kit 0.1.0: kit run cloudmask --site perlmutter
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitcloudmask
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
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
# 1 node x 4 ranks x 1 thread = 4 of 64 cores
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

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 4 ranks of it.
in_image() {
    podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/horovod-cuda:HASH "$@"
}
launch() {
    srun --nodes=1 --ntasks=4 --ntasks-per-node=4 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix \
        podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/horovod-cuda:HASH "$@"
}

#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site perlmutter, partition cpu
# Written by kit 0.1.0: kit run cloudmask --site perlmutter
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitcloudmask
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
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
# 1 node x 2 ranks x 1 thread = 2 of 128 cores
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
    podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --openmpi-pmix kit/horovod:HASH "$@"
}
launch() {
    srun --nodes=1 --ntasks=2 --ntasks-per-node=2 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix \
        podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --openmpi-pmix kit/horovod:HASH "$@"
}

#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site perlmutter, partition debug
# Written by kit 0.1.0: kit run cloudmask --site perlmutter
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitcloudmask
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
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
# 1 node x 4 ranks x 1 thread = 4 of 64 cores
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

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 4 ranks of it.
in_image() {
    podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/horovod-cuda:HASH "$@"
}
launch() {
    srun --nodes=1 --ntasks=4 --ntasks-per-node=4 --cpus-per-task=1 --distribution=cyclic --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix \
        podman-hpc shared-run --rm --workdir /work/run --volume /work/run:/work/run --volume /work/data:/work/data --env HOME=/work/run --env OMP_NUM_THREADS=1 --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none --gpu --openmpi-pmix kit/horovod-cuda:HASH "$@"
}


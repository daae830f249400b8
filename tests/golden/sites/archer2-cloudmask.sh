#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site archer2, partition standard
# Written by kit 0.1.0: kit run cloudmask --site archer2
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
#SBATCH --partition=standard
#SBATCH --qos=standard
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
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/horovod.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/horovod.sif \
        mpirun --allow-run-as-root -n 2 --map-by node:PE=1 --bind-to core "$@"
}

#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site archer2, partition long
# Written by kit 0.1.0: kit run cloudmask --site archer2
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
#SBATCH --partition=standard
#SBATCH --qos=long
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
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/horovod.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/horovod.sif \
        mpirun --allow-run-as-root -n 2 --map-by node:PE=1 --bind-to core "$@"
}

#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site archer2, partition highmem
# Written by kit 0.1.0: kit run cloudmask --site archer2
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
#SBATCH --partition=highmem
#SBATCH --qos=highmem
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
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/horovod.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/horovod.sif \
        mpirun --allow-run-as-root -n 2 --map-by node:PE=1 --bind-to core "$@"
}


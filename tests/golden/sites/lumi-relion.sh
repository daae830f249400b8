#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site lumi, partition gpu
# Written by kit 0.1.0: kit run relion --site lumi
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=standard-g
# 1 node x 3 ranks x 1 thread = 3 of 56 cores
# 512 of 512 GB of memory of a node
# WARNING: the 8 GPUs of a node are not used, nor asked for: the image computes on CPUs (--image)
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
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif \
        mpirun --allow-run-as-root -n 3 --map-by node:PE=1 --bind-to core "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site lumi, partition cpu
# Written by kit 0.1.0: kit run relion --site lumi
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=standard
# 1 node x 3 ranks x 1 thread = 3 of 128 cores
# 256 of 256 GB of memory of a node
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
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif \
        mpirun --allow-run-as-root -n 3 --map-by node:PE=1 --bind-to core "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site lumi, partition dev
# Written by kit 0.1.0: kit run relion --site lumi
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
#SBATCH --threads-per-core=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=dev-g
# 1 node x 3 ranks x 1 thread = 3 of 56 cores
# 512 of 512 GB of memory of a node
# WARNING: the 8 GPUs of a node are not used, nor asked for: the image computes on CPUs (--image)
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
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif \
        mpirun --allow-run-as-root -n 3 --map-by node:PE=1 --bind-to core "$@"
}


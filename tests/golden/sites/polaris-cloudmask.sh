#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site polaris, partition debug
# Written by kit 0.1.0: kit run cloudmask --site polaris
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#PBS -N kitcloudmask
#PBS -S /bin/bash
#PBS -l select=1:ncpus=32:mpiprocs=4:ompthreads=1
#PBS -l place=scatter:excl
#PBS -l walltime=00:30:00
#PBS -q debug
#PBS -r n
#PBS -j oe
#PBS -o scheduler.out
#PBS -l filesystems=home:eagle
exec >>/work/run/job.out 2>&1
# 1 node x 4 ranks x 1 thread = 4 of 32 cores
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
set +u # the functions behind `module` read variables that nobody has set
for file in "${MODULESHOME:-/usr/share/modules}/init/bash" /etc/profile.d/{z00_lmod,lmod,modules}.sh; do
    type module >/dev/null 2>&1 && break
    # shellcheck source=/dev/null
    [ ! -r "$file" ] || . "$file"
done
type module >/dev/null 2>&1 || refuse "there is no command 'module' on $(hostname)"
module use /soft/modulefiles || refuse "module use failed:" /soft/modulefiles
module load spack-pe-base || refuse "module load failed:" spack-pe-base
module load apptainer || refuse "module load failed:" apptainer
set -u
export OMP_NUM_THREADS=1
[ -d /local/scratch ] || refuse /local/scratch "is no folder on $(hostname); the site file names it as scratch"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 4 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind /local/scratch --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' --nv /images/horovod-cuda.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind /local/scratch --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' --nv /images/horovod-cuda.sif \
        mpirun --allow-run-as-root -n 4 --map-by node:PE=1 --bind-to core "$@"
}

#!/bin/bash
# CloudMask: cloud masking of Sentinel-3 SLSTR scenes with a Horovod U-Net, size tiny, on site polaris, partition preemptable
# Written by kit 0.1.0: kit run cloudmask --site polaris
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#PBS -N kitcloudmask
#PBS -S /bin/bash
#PBS -l select=1:ncpus=32:mpiprocs=4:ompthreads=1
#PBS -l place=scatter:excl
#PBS -l walltime=00:30:00
#PBS -q preemptable
#PBS -r n
#PBS -j oe
#PBS -o scheduler.out
#PBS -l filesystems=home:eagle
exec >>/work/run/job.out 2>&1
# 1 node x 4 ranks x 1 thread = 4 of 32 cores
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
set +u # the functions behind `module` read variables that nobody has set
for file in "${MODULESHOME:-/usr/share/modules}/init/bash" /etc/profile.d/{z00_lmod,lmod,modules}.sh; do
    type module >/dev/null 2>&1 && break
    # shellcheck source=/dev/null
    [ ! -r "$file" ] || . "$file"
done
type module >/dev/null 2>&1 || refuse "there is no command 'module' on $(hostname)"
module use /soft/modulefiles || refuse "module use failed:" /soft/modulefiles
module load spack-pe-base || refuse "module load failed:" spack-pe-base
module load apptainer || refuse "module load failed:" apptainer
set -u
export OMP_NUM_THREADS=1
[ -d /local/scratch ] || refuse /local/scratch "is no folder on $(hostname); the site file names it as scratch"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 4 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind /local/scratch --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' --nv /images/horovod-cuda.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind /local/scratch --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' --nv /images/horovod-cuda.sif \
        mpirun --allow-run-as-root -n 4 --map-by node:PE=1 --bind-to core "$@"
}


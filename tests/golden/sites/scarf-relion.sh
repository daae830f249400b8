#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site scarf, partition skylake
# Written by kit 0.1.0: kit run relion --site scarf
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=scarf
#SBATCH --constraint=scarf18
# 1 node x 3 ranks x 1 thread = 3 of 24 cores
# 191 of 191 GB of memory of a node
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
module load OpenMPI/4.1.0-iccifort-2018.3.222-GCC-7.3.0-2.30 || refuse "module load failed:" OpenMPI/4.1.0-iccifort-2018.3.222-GCC-7.3.0-2.30
set -u
export OMP_NUM_THREADS=1

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 3 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/relion-basic.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 3 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/relion-basic.sif "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site scarf, partition broadwell
# Written by kit 0.1.0: kit run relion --site scarf
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=3
#SBATCH --cpus-per-task=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=scarf
#SBATCH --constraint=scarf17
# 1 node x 3 ranks x 1 thread = 3 of 24 cores
# 120 of 120 GB of memory of a node
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
module load OpenMPI/4.1.0-iccifort-2018.3.222-GCC-7.3.0-2.30 || refuse "module load failed:" OpenMPI/4.1.0-iccifort-2018.3.222-GCC-7.3.0-2.30
set -u
export OMP_NUM_THREADS=1

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 3 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/relion-basic.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 3 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/relion-basic.sif "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site scarf, partition k80
# Written by kit 0.1.0: kit run relion --site scarf
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=5
#SBATCH --cpus-per-task=1
#SBATCH --gres=gpu:4
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=30
#SBATCH --chdir="/work/run"
#SBATCH --output="/work/run/job.out"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=gpu
# 1 node x 5 ranks x 1 thread = 5 of 16 cores
# 4 of 4 GPUs of a node; every rank sees them all
# 128 of 128 GB of memory of a node
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
module load OpenMPI/4.1.0-iccifort-2018.3.222-GCC-7.3.0-2.30 || refuse "module load failed:" OpenMPI/4.1.0-iccifort-2018.3.222-GCC-7.3.0-2.30
set -u
export OMP_NUM_THREADS=1

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 5 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 5 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}


#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site leonardo, partition booster
# Written by kit 0.1.0: kit run relion --site leonardo
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
#SBATCH --partition=boost_usr_prod
# 1 node x 5 ranks x 1 thread = 5 of 32 cores
# 4 of 4 GPUs of a node; every rank sees them all
# 494 of 494 GB of memory of a node
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
module load openmpi/4.1.6--gcc--12.2.0 || refuse "module load failed:" openmpi/4.1.6--gcc--12.2.0
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

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site leonardo, partition booster-large
# Written by kit 0.1.0: kit run relion --site leonardo
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=65
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
#SBATCH --partition=boost_usr_prod
#SBATCH --qos=boost_qos_bprod
# 65 nodes x at most 5 ranks x 1 thread = 261 of 2080 cores
# 261 ranks in all, dealt to the nodes in turn
# 4 of 4 GPUs of a node; every rank sees them all
# 494 of 494 GB of memory of a node
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
module load openmpi/4.1.6--gcc--12.2.0 || refuse "module load failed:" openmpi/4.1.6--gcc--12.2.0
set -u
export OMP_NUM_THREADS=1

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 261 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 261 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 --nv /images/relion-cuda.sif "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site leonardo, partition booster-debug
# Written by kit 0.1.0: kit run relion --site leonardo
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
#SBATCH --partition=boost_usr_prod
#SBATCH --qos=boost_qos_dbg
# 1 node x 5 ranks x 1 thread = 5 of 32 cores
# 4 of 4 GPUs of a node; every rank sees them all
# 494 of 494 GB of memory of a node
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
module load openmpi/4.1.6--gcc--12.2.0 || refuse "module load failed:" openmpi/4.1.6--gcc--12.2.0
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

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site leonardo, partition dcgp
# Written by kit 0.1.0: kit run relion --site leonardo
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
#SBATCH --partition=dcgp_usr_prod
# 1 node x 3 ranks x 1 thread = 3 of 112 cores
# 494 of 494 GB of memory of a node
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
module load openmpi/4.1.6--gcc--12.2.0 || refuse "module load failed:" openmpi/4.1.6--gcc--12.2.0
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
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site leonardo, partition dcgp-large
# Written by kit 0.1.0: kit run relion --site leonardo
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#SBATCH --job-name=kitrelion
#SBATCH --nodes=17
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
#SBATCH --partition=dcgp_usr_prod
#SBATCH --qos=dcgp_qos_bprod
# 17 nodes x at most 3 ranks x 1 thread = 35 of 1904 cores
# 35 ranks in all, dealt to the nodes in turn
# 494 of 494 GB of memory of a node
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
module load openmpi/4.1.6--gcc--12.2.0 || refuse "module load failed:" openmpi/4.1.6--gcc--12.2.0
set -u
export OMP_NUM_THREADS=1

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 35 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/relion-basic.sif "$@"
}
launch() {
    mpirun --allow-run-as-root -n 35 --map-by node:PE=1 --bind-to core \
        apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --env OMP_NUM_THREADS=1 /images/relion-basic.sif "$@"
}


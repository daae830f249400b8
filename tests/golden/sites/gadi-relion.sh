#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site gadi, partition normal
# Written by kit 0.1.0: kit run relion --site gadi
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#PBS -N kitrelion
#PBS -S /bin/bash
#PBS -l ncpus=48
#PBS -l mem=181198mb
#PBS -l walltime=00:30:00
#PBS -q normal
#PBS -r n
#PBS -j oe
#PBS -o scheduler.out
exec >>/work/run/job.out 2>&1
# 1 node x 3 ranks x 1 thread = 3 of 48 cores
# 190 of 190 GB of memory of a node
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
module load openmpi/4.1.7 || refuse "module load failed:" openmpi/4.1.7
module load singularity || refuse "module load failed:" singularity
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
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site gadi, partition normalsr
# Written by kit 0.1.0: kit run relion --site gadi
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#PBS -N kitrelion
#PBS -S /bin/bash
#PBS -l ncpus=104
#PBS -l mem=476837mb
#PBS -l walltime=00:30:00
#PBS -q normalsr
#PBS -r n
#PBS -j oe
#PBS -o scheduler.out
exec >>/work/run/job.out 2>&1
# 1 node x 3 ranks x 1 thread = 3 of 104 cores
# 500 of 500 GB of memory of a node
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
module load openmpi/4.1.7 || refuse "module load failed:" openmpi/4.1.7
module load singularity || refuse "module load failed:" singularity
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
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site gadi, partition gpuvolta
# Written by kit 0.1.0: kit run relion --site gadi
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
#PBS -N kitrelion
#PBS -S /bin/bash
#PBS -l ncpus=48
#PBS -l ngpus=4
#PBS -l mem=364303mb
#PBS -l walltime=00:30:00
#PBS -q gpuvolta
#PBS -r n
#PBS -j oe
#PBS -o scheduler.out
exec >>/work/run/job.out 2>&1
# 1 node x 5 ranks x 1 thread = 5 of 48 cores
# 4 of 4 GPUs of a node; every rank sees them all
# 382 of 382 GB of memory of a node
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
module load openmpi/4.1.7 || refuse "module load failed:" openmpi/4.1.7
module load singularity || refuse "module load failed:" singularity
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


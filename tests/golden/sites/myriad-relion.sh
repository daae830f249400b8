#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site myriad, partition cpu
# Written by kit 0.1.0: kit run relion --site myriad
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
# To be submitted from this folder. USR1 comes 60 s before the time limit, USR2 from qdel; without -notify only KILL would.
#$ -S /bin/bash
#$ -N kitrelion
#$ -cwd
#$ -o job.out
#$ -j y
#$ -notify
#$ -l h_rt=1800,s_rt=1740
# Slots are cores: all of a node leave none to others
#$ -pe smp 36
#$ -R y
# for each slot
#$ -l mem=5086M
#$ -l tmpfs=200G
# 1 node x 3 ranks x 1 thread = 3 of 36 cores
# 192 of 192 GB of memory of a node
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
[ -d "${TMPDIR:-}" ] || refuse "TMPDIR is no folder on $(hostname); the site file names it as scratch"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 3 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind "$TMPDIR:/node-scratch" --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind "$TMPDIR:/node-scratch" --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' /images/relion-basic.sif \
        mpirun --allow-run-as-root -n 3 --map-by node:PE=1 --bind-to core "$@"
}

#!/bin/bash
# RELION: cryo-EM structure determination, from movies to a refined map, size particles, on site myriad, partition gpu
# Written by kit 0.1.0: kit run relion --site myriad
# If it is interrupted, `kit resume RUN`, or submitting job.sh again, continues it; finished stages are skipped.
# To be submitted from this folder. USR1 comes 60 s before the time limit, USR2 from qdel; without -notify only KILL would.
#$ -S /bin/bash
#$ -N kitrelion
#$ -cwd
#$ -o job.out
#$ -j y
#$ -notify
#$ -l h_rt=1800,s_rt=1740
# Slots are cores: all of a node leave none to others
#$ -pe smp 36
#$ -R y
# for each slot
#$ -l mem=5086M
#$ -l gpu=4
#$ -l tmpfs=200G
#$ -ac allow=L
# 1 node x 5 ranks x 1 thread = 5 of 36 cores
# 4 of 4 GPUs of a node; every rank sees them all
# 192 of 192 GB of memory of a node
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
[ -d "${TMPDIR:-}" ] || refuse "TMPDIR is no folder on $(hostname); the site file names it as scratch"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all 5 ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind "$TMPDIR:/node-scratch" --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' --nv /images/relion-cuda.sif "$@"
}
launch() {
    apptainer exec --no-home --pwd /work/run --bind /work/run --bind /work/data --bind "$TMPDIR:/node-scratch" --env OMP_NUM_THREADS=1 --env 'OMPI_MCA_ras=^gridengine,slurm,tm,lsf' --env 'OMPI_MCA_plm=^slurm,tm,lsf' --env 'OMPI_MCA_pmix=^flux' --env 'PRTE_MCA_ras=^gridengine,slurm,pbs,lsf' --env 'PRTE_MCA_plm=^slurm,pbs,lsf' --nv /images/relion-cuda.sif \
        mpirun --allow-run-as-root -n 5 --map-by node:PE=1 --bind-to core "$@"
}


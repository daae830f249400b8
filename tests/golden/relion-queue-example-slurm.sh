#!/bin/bash
# RELION's template for jobs in a queue, on site example-slurm, partition cpu, for the project /work/project
# Written by kit 0.1.0: kit relion queue example-slurm
# RELION puts a job's numbers in the place of the words between XXX and XXX, and hands the script to the queue.
# It takes these settings from its environment:
#   export RELION_QUEUE_USE=yes
#   export RELION_QSUB_COMMAND=sbatch
#   export RELION_QUEUE_NAME=cpu
#   export RELION_QSUB_NRMPI=16
#   export RELION_QSUB_NRTHREADS=4
#   export RELION_MINIMUM_DEDICATED=64
#   export RELION_QSUB_EXTRA_COUNT=1
#   export RELION_QSUB_EXTRA1='Ranks on each node:'
#   export RELION_QSUB_EXTRA1_DEFAULT=16
#SBATCH --job-name=kitrelion
#SBATCH --nodes=XXXnodesXXX
#SBATCH --ntasks-per-node=XXXextra1XXX
#SBATCH --cpus-per-task=XXXthreadsXXX
#SBATCH --exclusive
#SBATCH --time=2880
#SBATCH --chdir="/work/project"
#SBATCH --output="/work/project/XXXoutfileXXX"
#SBATCH --open-mode=append
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=XXXqueueXXX
#SBATCH --account=project1
# XXXnodesXXX nodes x XXXextra1XXX ranks x XXXthreadsXXX threads, for XXXmpinodesXXX ranks
# RELION waits for a mark in the folder of the job. Its programs leave one, but not when they never start or are killed.
mark=/work/project/XXXnameXXXRELION_JOB_EXIT_
trap '[ $? -eq 0 ] || [ -e "${mark}ABORTED" ] || touch "${mark}FAILURE"' EXIT
set -euo pipefail
cd /work/project
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
export OMP_NUM_THREADS=XXXthreadsXXX
[ -e /scratch ] || refuse /scratch "is not on $(hostname); the site file names it in container.binds"

# in_image PROGRAM ...: one process in the image. launch PROGRAM ...: all XXXmpinodesXXX ranks of it.
in_image() {
    apptainer exec --no-home --pwd /work/project --bind /work/project --bind /scratch --env OMP_NUM_THREADS=XXXthreadsXXX --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none /images/relion-basic.sif "$@"
}
launch() {
    srun --nodes=XXXnodesXXX --ntasks=XXXmpinodesXXX --ntasks-per-node=XXXextra1XXX --cpus-per-task=XXXthreadsXXX --distribution=cyclic --kill-on-bad-exit=1 --mpi=pmix \
        apptainer exec --no-home --pwd /work/project --bind /work/project --bind /scratch --env OMP_NUM_THREADS=XXXthreadsXXX --env PMIX_MCA_gds=hash --env OMPI_MCA_btl_vader_single_copy_mechanism=none /images/relion-basic.sif "$@"
}

exec >>XXXoutfileXXX 2>>XXXerrfileXXX
child=
interrupted() {
    trap '' INT TERM HUP USR1 USR2 XCPU
    if [ -n "$child" ]; then
        kill -TERM -- "-$child" 2>/dev/null || true
        for _ in $(seq 50); do kill -0 -- "-$child" 2>/dev/null || break; sleep 0.1; done
        kill -KILL -- "-$child" 2>/dev/null || true
    fi
    exit 130
}
trap interrupted INT TERM HUP USR1 USR2 XCPU

relion() { # relion PROGRAM ...: in the image, on all ranks if it is one of MPI
    local start=in_image
    [[ $1 != *_mpi ]] || start=launch
    set -m # a process group of its own, so that all of it can be ended
    "$start" "$@" </dev/null &
    child=$!
    set +m
    wait "$child"
    child=
}
# RELION names its programs as `which relion_refine`, and some plainly. Either way they are those of the image, whatever this
# machine has: each is a function of its name here.
which() {
    echo "$1"
}
programs=$(in_image bash -c 'compgen -c relion_' </dev/null | sort -u) || refuse "the image relion-basic does not start"
for program in $programs; do
    [[ ! $program =~ ^relion_[A-Za-z0-9_]+$ ]] || eval "$program() { relion $program \"\$@\"; }"
done

XXXcommandXXX

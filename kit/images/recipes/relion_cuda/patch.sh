#!/bin/sh
# What relion-cuda changes in the source of RELION 3.1.3: patch.sh SOURCE
# Each change is checked: a source that does not look as expected ends the build.
set -eu
cd "$1"

# 1. Device code for several architectures: CUDA_ARCH holds -gencode options instead of one number.
# shellcheck disable=SC2016
sed -i 's|"-arch=sm_${CUDA_ARCH}"|"${CUDA_ARCH}"|' CMakeLists.txt
# shellcheck disable=SC2016
grep -q 'set(CUDARCH "${CUDA_ARCH}")' CMakeLists.txt || { echo "patch.sh: no CUDARCH in CMakeLists.txt" >&2; exit 1; }

# 2. Without a device, one sentence that says what to do.
missing='relion-cuda: no CUDA device is seen; start the container with --nv (Apptainer, Singularity) or --gpus all (Docker) on a node with a GPU and its driver'
files=$(grep -rl 'HANDLE_ERROR(cudaGetDeviceCount(&devCount));' src)
for file in $files; do
    sed -i "s|HANDLE_ERROR(cudaGetDeviceCount(&devCount));|if (cudaGetDeviceCount(\&devCount) != cudaSuccess \|\| devCount < 1) { std::cerr << \"$missing\" << std::endl; std::_Exit(1); }|" "$file"
    sed -i '1i #include <cstdlib>\n#include <iostream>' "$file"
done
grep -q 'no CUDA device is seen' src/acc/cuda/cuda_ml_optimiser.cu ||
    { echo "patch.sh: no cudaGetDeviceCount in cuda_ml_optimiser.cu" >&2; exit 1; }

# 3. A remark behind a macro's value became part of it, which the Thrust of CUDA 11.8 does not take.
cub=src/acc/cuda/cuda_utils_cub.cuh
sed -i 's|^#define CUB_NS_QUALIFIER ::cub .*|#define CUB_NS_QUALIFIER ::cub|' "$cub"
grep -qx '#define CUB_NS_QUALIFIER ::cub' "$cub" || { echo "patch.sh: no CUB_NS_QUALIFIER in $cub" >&2; exit 1; }

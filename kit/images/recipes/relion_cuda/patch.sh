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

# 4. The transform of a reference is computed in a pool of device memory that has no room for its result where that is larger
# than the maps that it takes the place of. So it is at Nyquist for boxes of less than some 40 pixels, in three dimensions:
# "CudaCustomAllocator out of memory", and a crash.
projector=src/projector.cpp
sed -i '/ws_sz + 4096;/a\
		size_t data_sz = (size_t)sizeof(Complex)*(padoridim + 3)*(padoridim/2 + 2)*(ref_dim == 3 ? padoridim + 3 : 1);\
		if (data_sz > (size_t)sizeof(RFLOAT)*(MULTIDIM_SIZE(vol_in) + MULTIDIM_SIZE(Mpad)))\
			mem_req += data_sz;' "$projector"
grep -q 'mem_req += data_sz;' "$projector" || { echo "patch.sh: no ws_sz in $projector" >&2; exit 1; }

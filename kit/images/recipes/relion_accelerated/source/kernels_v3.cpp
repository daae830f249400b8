// SPDX-License-Identifier: GPL-2.0-or-later
// Compiled with -march=x86-64-v3.
#define KERNELS_NAMESPACE v3
#define KERNELS_NAME "avx2"
#include "kernels.inc"

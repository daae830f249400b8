// SPDX-License-Identifier: GPL-2.0-or-later
// Compiled with -march=x86-64-v4.
#define KERNELS_NAMESPACE v4
#define KERNELS_NAME "avx512"
#include "kernels.inc"

// SPDX-License-Identifier: GPL-2.0-or-later
// Chooses the code path before anything else of the program runs, or says why there is none.
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace kernels {

static const Table *chosen;
int threads = 1;

const Table &table() { return *chosen; }

__attribute__((constructor(101))) static void choose()
{
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("x86-64-v3");
    const bool avx512 = __builtin_cpu_supports("x86-64-v4");
    const char *asked = getenv("RELION_KERNELS");
    if (!avx2) {
        fputs("relion-accelerated: this processor has no AVX2 (x86-64-v3), which this image needs; "
              "use the image relion-basic here\n", stderr);
        _Exit(1);
    }
    if (asked && strcmp(asked, "avx2") && strcmp(asked, "avx512")) {
        fprintf(stderr, "relion-accelerated: RELION_KERNELS=%s: known: avx2, avx512\n", asked);
        _Exit(1);
    }
    if (asked && !strcmp(asked, "avx512") && !avx512) {
        fputs("relion-accelerated: RELION_KERNELS=avx512, but this processor has no AVX-512 (x86-64-v4); "
              "unset it to take avx2\n", stderr);
        _Exit(1);
    }
    chosen = avx512 && !(asked && !strcmp(asked, "avx2")) ? &v4::table : &v3::table;
}

}  // namespace kernels

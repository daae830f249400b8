#!/bin/sh
# What relion-accelerated changes in the source of RELION 3.1.3: patch.sh SOURCE FOLDER_OF_THIS_SCRIPT
# Each change is checked: a source that does not look as expected ends the build.
set -eu
source=$1
here=$2
helpers=$source/src/acc/acc_helper_functions_impl.h
apps=$source/src/apps/CMakeLists.txt

# 1. Kernels of our own (kernels.h) beside RELION's. Each code path is compiled for its own processor, the choice between
#    them for any; -O3 unrolls the products, and no trap is asked for, so that floor() is one instruction.
cp "$here"/kernels.h "$here"/*.inc "$here"/hooks.h "$here"/kernels*.cpp "$source/src/acc/cpu/cpu_kernels/"
cat >> "$apps" <<'CMAKE'
set(KERNELS ${CMAKE_SOURCE_DIR}/src/acc/cpu/cpu_kernels)
set_source_files_properties(${KERNELS}/kernels.cpp PROPERTIES COMPILE_OPTIONS "-march=x86-64")
set(FAST -O3 -fno-trapping-math -fno-math-errno -fno-signed-zeros)
set_source_files_properties(${KERNELS}/kernels_v3.cpp PROPERTIES COMPILE_OPTIONS "${FAST};-march=x86-64-v3")
set_source_files_properties(${KERNELS}/kernels_v4.cpp PROPERTIES
    COMPILE_OPTIONS "${FAST};-march=x86-64-v4;-mprefer-vector-width=512")
CMAKE

# 2. RELION's four kernel functions hand over to them.
hook() { # FUNCTION CALL: the first line of the function's body
    sed -i "/^void $1(/,/^{/ s|^{|{\n#ifdef ALTCPU\n\tif ($2) return;\n#endif|" "$helpers"
    grep -qF "if ($2) return;" "$helpers" || { echo "patch.sh: no function $1 in $helpers" >&2; exit 1; }
}
sed -i '0,/^long int makeJobsForDiff2Fine(/ s|^long int makeJobs|#include "src/acc/cpu/cpu_kernels/hooks.h"\n\n&|' "$helpers"
grep -q hooks.h "$helpers" || { echo "patch.sh: no place for the hooks in $helpers" >&2; exit 1; }
hook runDiff2KernelCoarse "kernelsCoarse(projector, trans_x, trans_y, corr_img, Fimg_real, Fimg_imag, d_eulers, diff2s, orientation_num, translation_num, do_CC, data_is_3D)"
hook runDiff2KernelFine "kernelsFine(projector, trans_x, trans_y, corr_img, Fimgs_real, Fimgs_imag, eulers, rot_idx, trans_idx, job_idx, job_num, diff2s, translation_num, job_num_count, op.highres_Xi2_img[img_id] / 2., do_CC, data_is_3D)"
hook runWavgKernel "kernelsWavg(projector, eulers, Fimg_real, Fimg_imag, trans_x, trans_y, sorted_weights, ctfs, wdiff2s_parts, wdiff2s_AA, wdiff2s_XA, op.significant_weight[img_id], op.sum_weight[img_id], orientation_num, translation_num, image_size, part_scale, refs_are_ctf_corrected, ctf_premultiplied, data_is_3D)"
hook runBackProjectKernel "kernelsBackproject(BP, d_img_real, d_img_imag, trans_x, trans_y, d_weights, d_Minvsigma2s, d_ctfs, translation_num, significant_weight, weight_norm, d_eulers, imgX, imgY, imageCount, data_is_3D, do_sgd, ctf_premultiplied)"

# 3. The weights of a particle are sorted by radix.
utilities=$source/src/acc/utilities.h
sed -i '0,/^#include/ s|^#include|#ifdef ALTCPU\n#include "src/acc/cpu/cpu_kernels/kernels.h"\n#endif\n&|' "$utilities"
sed -i 's|^\tstd::vector<T> sortVector(in(), in() + in.getSize());|#ifdef ALTCPU\n\tkernels::table().sort(in(), arr_size, \&out[0]); return;\n#endif\n&|' "$utilities"
grep -q 'kernels::table().sort' "$utilities" || { echo "patch.sh: no sortOnDevice in $utilities" >&2; exit 1; }

# 4. The log says which kernels ran, so that a result can prove it.
optimiser=$source/src/ml_optimiser.cpp
sed -i '0,/^#include/ s|^#include|#ifdef ALTCPU\n#include "src/acc/cpu/cpu_kernels/kernels.h"\n#endif\n&|' "$optimiser"
sed -i 's|^\( *\)std::cout << " Running CPU instructions in double precision. ".*|&\n#ifdef ALTCPU\n\1if (verb > 0 \&\& do_cpu) std::cout << " Accelerated kernels: " << kernels::table().name << std::endl;\n#endif|' "$optimiser"
grep -q 'Accelerated kernels' "$optimiser" || { echo "patch.sh: no place to name the kernels in $optimiser" >&2; exit 1; }

# 5. Local searches look at every direction of a fine grid for every particle, with a dozen small allocations each. Those
#    beyond the cut-off are found without: the angle to the prior, or to its symmetry mates, is one dot product.
sampling=$source/src/healpix_sampling.cpp
sed -i '/^void HealpixSampling::selectOrientationsWithNonZeroPriorProbability(/,/^}/ {
    s|^\t\t// Loop over all directions$|#include "src/acc/cpu/cpu_kernels/mates.inc"\n&|
    s|^\t\t\t// Check if this direction was met before as symmetry mate$|\t\t\tif (near \&\& beyond(rot_angles[idir], tilt_angles[idir], best_ang)) continue;\n\n&|
}' "$sampling"
[ "$(grep -c -e 'beyond(rot_angles' -e 'mates.inc' "$sampling")" = 2 ] ||
    { echo "patch.sh: no loop over directions in $sampling" >&2; exit 1; }

# 6. Every iteration of the MPI program slept for a second behind a barrier that already waits for everyone.
mpi=$source/src/ml_optimiser_mpi.cpp
sed -i '/^\t\/\/ Wait until expected angular errors have been calculated$/,/^#ifdef TIMING$/ s|^\tsleep(1);$||' "$mpi"
if grep -q '^	sleep(1);$' "$mpi"; then echo "patch.sh: the sleep in $mpi is not where it was" >&2; exit 1; fi

# 7. A function that nothing calls names members that its type does not have; Clang looks there, GCC does not.
tensor=$source/src/jaz/tensor2x2.h
sed -i '/^        out\.\(xz\|yz\|zz\) = v0\./d' "$tensor"
[ "$(grep -c '^        out\...  *= v0\.' "$tensor")" = 3 ] ||
    { echo "patch.sh: no dyadicProduct of six members in $tensor" >&2; exit 1; }

# 8. Reconstruction, and the transform of a reference, with the threads of --j (reconstruct.h). RELION's own code remains, to
#    compare with: in relion_refine without --cpu, in relion_reconstruct with --j 0.
cp "$here"/reconstruct.h "$source/src/acc/cpu/cpu_kernels/"
code() { # FILE HEADER FUNCTION LINE CODE: includes the header, and puts the code behind such a line of the function
    grep -q "cpu_kernels/$2" "$source/src/$1" || sed -i "0,/^#include/ s@^#include@#ifdef ALTCPU\n#include \"src/acc/cpu/cpu_kernels/$2\"\n#endif\n&@" "$source/src/$1"
    sed -i "/^$3(/,/^}/ s@^$4.*@&\n#ifdef ALTCPU\n\t$5\n#endif@" "$source/src/$1"
    [ "$(grep -cF "$5" "$source/src/$1")" = 1 ] || { echo "patch.sh: no place for $5 in $1" >&2; exit 1; }
}
code backprojector.cpp reconstruct.h 'void BackProjector::reconstruct' '	const int max_r2 = ' 'if (reconstruction::reconstruct(*this, vol_out, max_iter_preweight, do_map, tau2, tau2_fudge, normalise, minres_map, weight_out != 0)) return;'
code projector.cpp reconstruct.h 'void Projector::computeFourierTransformMap' '	bool do_fourier_mask = ' 'if (reconstruction::transform(*this, vol_in, power_spectrum, current_size, do_gridding, min_ires, do_fourier_mask || !do_heavy)) return;'
code projector.cpp reconstruct.h 'void Projector::griddingCorrect' '	vol_in.setXmippOrigin' 'if (reconstruction::correct(*this, vol_in)) return;'
code ml_optimiser.cpp kernels.h 'void MlOptimiser::initialiseGeneral' '{' 'kernels::threads = do_cpu ? nr_threads : 0;'
code reconstructor.cpp kernels.h 'void Reconstructor::read' '	skip_gridding = ' 'kernels::threads = textToInteger(parser.getOption("--j", "Threads; 0: the code of RELION itself", "1"));'

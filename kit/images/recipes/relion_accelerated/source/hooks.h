// SPDX-License-Identifier: GPL-2.0-or-later
// Where RELION's kernel functions hand over to ours: each returns true when it has done the work. Included by
// src/acc/acc_helper_functions_impl.h, which knows the types. Three-dimensional images (subtomograms), stochastic
// gradient descent in three dimensions and volumes beyond 2^31 voxels stay with RELION's own code.
#pragma once

#ifdef ALTCPU
#include "src/acc/cpu/cpu_kernels/kernels.h"

#include <limits>

static_assert(sizeof(XFLOAT) == sizeof(float), "the kernels are written for single precision");
static_assert(sizeof(tbb::spin_mutex) == 1, "a lock is a byte");

static inline kernels::Model kernelsModel(const AccProjectorKernel &p)
{
	return {reinterpret_cast<const float *>(p.mdlComplex), p.mdlX, p.mdlXY, p.mdlInitY, p.mdlInitZ, p.mdlZ != 0,
	        p.padding_factor, p.maxR2_padded};
}

static inline bool kernelsFit(const AccProjectorKernel &p, bool data_is_3D)
{
	return !data_is_3D && (double)p.mdlXY * (p.mdlZ ? p.mdlZ : 1) < std::numeric_limits<int>::max();
}

static inline bool kernelsCoarse(const AccProjectorKernel &p, float *trans_x, float *trans_y, float *corr, float *real,
                                 float *imag, float *eulers, float *diff2s, unsigned long orientations,
                                 unsigned long translations, bool do_CC, bool data_is_3D)
{
	if (!kernelsFit(p, data_is_3D))
		return false;
	kernels::table().coarse(kernelsModel(p), {p.imgX, p.imgY, real, imag}, corr, {translations, trans_x, trans_y},
	                        eulers, orientations, do_CC, diff2s);
	return true;
}

static inline bool kernelsFine(const AccProjectorKernel &p, float *trans_x, float *trans_y, float *corr, float *real,
                               float *imag, float *eulers, unsigned long *rot_idx, unsigned long *trans_idx,
                               unsigned long *job_idx, unsigned long *job_num, float *diff2s, unsigned long translations,
                               unsigned long jobs, float base, bool do_CC, bool data_is_3D)
{
	if (!kernelsFit(p, data_is_3D))
		return false;
	kernels::table().fine(kernelsModel(p), {p.imgX, p.imgY, real, imag}, corr, {translations, trans_x, trans_y}, eulers,
	                      {jobs, rot_idx, trans_idx, job_idx, job_num}, do_CC, base, diff2s);
	return true;
}

static inline bool kernelsWavg(const AccProjectorKernel &p, float *eulers, float *real, float *imag, float *trans_x,
                               float *trans_y, float *weights, float *ctfs, float *parts, float *AA, float *XA,
                               float significant, float sum, unsigned long orientations, unsigned long translations,
                               unsigned long image_size, float scale, bool refs_are_ctf_corrected,
                               bool ctf_premultiplied, bool data_is_3D)
{
	if (!kernelsFit(p, data_is_3D))
		return false;
	std::vector<float> filter(image_size, scale);
	if (refs_are_ctf_corrected)
		for (unsigned long i = 0; i < image_size; i++)
			filter[i] = ctf_premultiplied ? ctfs[i] * ctfs[i] : ctfs[i];
	kernels::table().wavg(kernelsModel(p), {p.imgX, p.imgY, real, imag}, filter.data(), {translations, trans_x, trans_y},
	                      eulers, orientations, {weights, significant, sum}, parts, XA, AA);
	return true;
}

static inline bool kernelsBackproject(AccBackprojector &b, float *real, float *imag, float *trans_x, float *trans_y,
                                      float *weights, float *Minvsigma2s, float *ctfs, unsigned long translations,
                                      float significant, float sum, float *eulers, int x, int y,
                                      unsigned long orientations, bool data_is_3D, bool do_sgd, bool ctf_premultiplied)
{
	const bool is_3d = b.mdlZ != 1;
	if (data_is_3D || (is_3d && do_sgd))
		return false;
	kernels::table().backproject({b.d_mdlReal, b.d_mdlImag, b.d_mdlWeight, b.mdlX, b.mdlY, b.mdlInitY, b.mdlInitZ, is_3d,
	                              (float)b.padding_factor, b.maxR2, reinterpret_cast<unsigned char *>(b.mutexes)},
	                             {x, y, real, imag}, Minvsigma2s, ctfs, ctf_premultiplied,
	                             {translations, trans_x, trans_y}, eulers, orientations, {weights, significant, sum});
	return true;
}
#endif

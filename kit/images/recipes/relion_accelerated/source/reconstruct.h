// SPDX-License-Identifier: GPL-2.0-or-later
// RELION's reconstruction and its way back, with the threads of --j and few passes over memory: included by
// src/backprojector.cpp and src/projector.cpp. The result is that of RELION's own code but for the rounding of double
// precision, and the same for every number of threads: each piece is computed by one thread, sums over pieces in order.
//
// - The iterations that make the weights of the grid even transform real and even numbers, so that half of each array says
//   all, and do it in two passes over memory: one by planes of kx (product, y and z), one by planes of z (x, kernel, x).
// - Of the transforms between the padded and the unpadded size only what is read later is computed.
// - Functions of the distance are looked up by its square.
// Each function returns true when it has done the work; two-dimensional references and what is rare stay with RELION.
#pragma once

#include "src/acc/cpu/cpu_kernels/kernels.h"
#include "src/backprojector.h"

#include <math.h>
#include <stddef.h>
#include <sys/mman.h>
#include <vector>

namespace reconstruction {

// Zeros, in huge pages where the system has them: a page fault for each 4 KiB cost as much as some of the transforms.
class Zeros {
public:
	explicit Zeros(size_t doubles) : bytes((doubles * sizeof(double) + PAGE - 1) / PAGE * PAGE)
	{
		start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (start == MAP_FAILED)
			REPORT_ERROR("no memory for the reconstruction");
		madvise(start, bytes, MADV_HUGEPAGE);
	}
	~Zeros() { munmap(start, bytes); }
	Zeros(const Zeros &) = delete;
	double *get() const { return static_cast<double *>(start); }

private:
	static constexpr size_t PAGE = 2 << 20;
	size_t bytes;
	void *start;
};

class Line {
public:
	explicit Line(int length) : line(kernels::table().line_new(length)) {}
	~Line() { kernels::table().line_free(line); }
	Line(const Line &) = delete;
	void *const line;
};

template <class Work>
static inline void inThreads(long from, long to, const Work &work)
{
	#pragma omp parallel for num_threads(kernels::threads) schedule(dynamic)
	for (long i = from; i < to; i++)
		work(i);
}

// Divides by what the interpolation did to the map; false where RELION's own code says what is wrong.
static inline bool correct(const Projector &p, MultidimArray<RFLOAT> &map)
{
	const bool nearest = p.interpolator == NEAREST_NEIGHBOUR && p.r_min_nn == 0;
	if (!kernels::threads || ZSIZE(map) == 1 || !(p.interpolator == TRILINEAR || p.interpolator == NEAREST_NEIGHBOUR))
		return false;
	map.setXmippOrigin();
	const long half = XMIPP_MAX(XMIPP_MAX(XSIZE(map), YSIZE(map)), ZSIZE(map)) / 2 + 1;
	std::vector<RFLOAT> divisor(3 * half * half + 1, 1.);
	inThreads(1, divisor.size(), [&](long r2) {
		RFLOAT rval = sqrt((RFLOAT)r2) / (p.ori_size * p.padding_factor);
		RFLOAT sinc = sin(PI * rval) / (PI * rval);
		divisor[r2] = nearest ? sinc : sinc * sinc;
	});
	inThreads(STARTINGZ(map), FINISHINGZ(map) + 1, [&](long k) {
		for (long i = STARTINGY(map); i <= FINISHINGY(map); i++)
			for (long j = STARTINGX(map); j <= FINISHINGX(map); j++)
				A3D_ELEM(map, k, i, j) /= divisor[k * k + i * i + j * j];
	});
	return true;
}

static inline kernels::Window window(Projector &p, const Line &line, int radius, int max_r2,
                                         MultidimArray<RFLOAT> &map)
{
	kernels::Window w;
	w.line = line.line;
	w.radius = radius;
	w.max_r2 = max_r2;
	w.box = p.ori_size;
	w.transform = reinterpret_cast<double *>(MULTIDIM_ARRAY(p.data));
	w.row_size = XSIZE(p.data);
	w.plane_size = YXSIZE(p.data);
	w.origin = -STARTINGY(p.data);
	w.columns = radius + 1;
	w.row = kernels::table().row(w.columns);
	w.map = MULTIDIM_ARRAY(map);
	return w;
}

// The padded size, as RELION computes it in both directions.
static inline int paddedSize(const Projector &p)
{
	const int padded = ROUND(p.padding_factor * p.ori_size);
	return padded + padded % 2;
}

// Projector::computeFourierTransformMap() once it has settled the sizes.
static inline bool transform(Projector &p, MultidimArray<RFLOAT> &map, MultidimArray<RFLOAT> &power_spectrum,
                             int current_size, bool do_gridding, int min_ires, bool otherwise)
{
	const int padded = paddedSize(p);
	if (!kernels::threads || p.ref_dim != 3 || otherwise || XSIZE(map) != p.ori_size || YSIZE(map) != p.ori_size ||
	    ZSIZE(map) != p.ori_size)
		return false;
	if (do_gridding)
		p.griddingCorrect(map);
	map.setXmippOrigin();
	p.initZeros(current_size);
	const int radius = ROUND(p.r_max * p.padding_factor);
	const Line line(padded);
	kernels::Window w = window(p, line, radius, radius * radius, map);
	const Zeros half((size_t)w.box * (2 * radius + 1) * 2 * w.row);
	w.half = half.get();
	// The transforms are normalised for images of the original size; what is left of RELION's two factors.
	const RFLOAT padding = p.padding_factor, volume = (RFLOAT)padded * padded * padded;
	w.scale = padding * padding * padding * (p.data_dim == 3 ? 1 : p.ori_size) / volume;
	inThreads(0, w.box, [&](long z) { kernels::table().pad_xy(w, z); });

	const int min_r = min_ires > 0 ? ROUND(min_ires * padding) : 0, min_r2 = min_ires > 0 ? min_r * min_r : -1;
	const long shells = p.ori_size / 2 + 1;
	std::vector<RFLOAT> sums((2 * radius + 1) * 2 * shells);
	inThreads(-radius, radius + 1, [&](long i) {
		if (2 * radius == padded && i == -radius)  // the frequency of half the size is stored once
			return;
		kernels::table().pad_z(w, i);
		RFLOAT *power = &sums[(i + radius) * 2 * shells], *count = power + shells;
		for (long k = -radius; k <= radius; k++)
			for (long j = 0; k * k + i * i + j * j <= w.max_r2; j++) {
				Complex &voxel = A3D_ELEM(p.data, k, i, j);
				if (2 * radius == padded && k == -radius) {
					voxel = 0.;
					continue;
				}
				const long r2 = k * k + i * i + j * j;
				const int shell = ROUND(sqrt((RFLOAT)r2) / padding);
				power[shell] += norm(voxel) / 2.;
				count[shell] += 1.;
				if (r2 <= min_r2)
					voxel = 0.;
			}
	});
	power_spectrum.initZeros(shells);
	for (long shell = 0; shell < shells; shell++) {
		RFLOAT power = 0., count = 0.;
		for (long i = 0; i <= 2 * radius; i++) {
			power += sums[i * 2 * shells + shell];
			count += sums[(i * 2 + 1) * shells + shell];
		}
		DIRECT_A1D_ELEM(power_spectrum, shell) = count < 1. ? 0. : power / count;
	}
	return true;
}

// softMaskOutsideMap() with its defaults.
static inline void softMask(MultidimArray<RFLOAT> &map)
{
	map.setXmippOrigin();
	const RFLOAT radius = (RFLOAT)XSIZE(map) / 2., width = 3., outer = radius + width;
	const long half = XSIZE(map) / 2 + 1, planes = ZSIZE(map);
	std::vector<RFLOAT> edge(3 * half * half + 1);
	inThreads(0, edge.size(), [&](long r2) {
		const RFLOAT r = sqrt((RFLOAT)r2);
		edge[r2] = r < radius ? 0. : r > outer ? 1. : 0.5 + 0.5 * cos(PI * (outer - r) / width);
	});
	std::vector<RFLOAT> sum(planes), background(planes);
	inThreads(0, planes, [&](long z) {
		const long k = z + STARTINGZ(map);
		for (long i = STARTINGY(map); i <= FINISHINGY(map); i++)
			for (long j = STARTINGX(map); j <= FINISHINGX(map); j++) {
				const RFLOAT weight = edge[k * k + i * i + j * j];
				sum[z] += weight;
				background[z] += weight * A3D_ELEM(map, k, i, j);
			}
	});
	RFLOAT total = 0., mean = 0.;
	for (long k = 0; k < planes; k++) {
		total += sum[k];
		mean += background[k];
	}
	mean /= total;
	inThreads(STARTINGZ(map), FINISHINGZ(map) + 1, [&](long k) {
		for (long i = STARTINGY(map); i <= FINISHINGY(map); i++)
			for (long j = STARTINGX(map); j <= FINISHINGX(map); j++) {
				const RFLOAT weight = edge[k * k + i * i + j * j];
				RFLOAT &voxel = A3D_ELEM(map, k, i, j);
				voxel = (1. - weight) * voxel + weight * mean;
			}
	});
}

// The tiles of a plane [ky][kx] of RELION's for work(i, j), which also goes to [kx][ky]: both stay in the first cache.
template <class Work>
static inline void inTiles(long radius, const Work &work)
{
	for (long i0 = -radius; i0 <= radius; i0 += 16)
		for (long j0 = 0; j0 < radius; j0 += 16)
			for (long j = j0; j < radius && j < j0 + 16; j++)
				for (long i = i0; i <= radius && i < i0 + 16; i++)
					work(i, j);
}

// The weight of a voxel with the term of the prior.
static inline RFLOAT withPrior(const BackProjector &b, RFLOAT weight, long r2, const MultidimArray<RFLOAT> &tau2,
                               RFLOAT tau2_fudge, int minres_map)
{
	const int shell = ROUND(sqrt((RFLOAT)r2) / b.padding_factor);
	if (shell < minres_map)
		return weight;
	const RFLOAT tau = DIRECT_A1D_ELEM(tau2, shell), padding = b.padding_factor;
	if (tau > 0.)
		return weight + 1. / (padding * padding * padding * tau2_fudge * tau);
	return weight > 1e-20 ? weight + 1. / (0.001 * weight) : weight;
}

// Divides the data by their weights, or by a thousandth of the mean weight at their distance if that is more.
template <class Weight>
static inline void divide(BackProjector &b, long radius, const Weight &weight)
{
	const long max_r2 = radius * radius, shells = b.r_max;
	const long outer_r2 = ROUND(b.r_max * b.padding_factor * b.r_max * b.padding_factor);
	std::vector<RFLOAT> sums((2 * radius + 1) * 2 * shells), least(shells);
	inThreads(0, 2 * radius + 1, [&](long plane) {
		const long k = plane - radius;
		for (long i = -radius; i <= radius; i++)
			for (long j = 0; k * k + i * i + j * j < outer_r2; j++) {
				const long r2 = k * k + i * i + j * j;
				const long shell = XMIPP_MIN((long)FLOOR(sqrt((RFLOAT)r2) / b.padding_factor), shells - 1);
				sums[plane * 2 * shells + shell] += r2 <= max_r2 ? weight(k, i, j, r2) : 0.;
				sums[(plane * 2 + 1) * shells + shell] += 1.;
			}
	});
	for (long shell = 0; shell < shells; shell++) {
		RFLOAT sum = 0., count = 0.;
		for (long plane = 0; plane <= 2 * radius; plane++) {
			sum += sums[plane * 2 * shells + shell];
			count += sums[(plane * 2 + 1) * shells + shell];
		}
		least[shell] = sum / (1000. * count);
	}
	inThreads(-radius, radius + 1, [&](long k) {
		for (long i = -radius; i <= radius; i++)
			for (long j = 0; j <= radius; j++) {
				const long r2 = k * k + i * i + j * j;
				const long shell = XMIPP_MIN((long)FLOOR(sqrt((RFLOAT)r2) / b.padding_factor), shells - 1);
				const RFLOAT w = r2 <= max_r2 ? XMIPP_MAX(weight(k, i, j, r2), least[shell]) : 0.;
				if (r2 > max_r2)
					A3D_ELEM(b.data, k, i, j) = 0.;
				else if (w != 0.)
					A3D_ELEM(b.data, k, i, j) /= w;
			}
	});
}

// Makes the weights even by iterations of Pipe and Menon (1999) and multiplies the data by what comes of it.
template <class Weight>
static inline void grid(BackProjector &b, long radius, int iterations, RFLOAT normalise, const Weight &weight)
{
	const kernels::Table &table = kernels::table();
	const long max_r2 = radius * radius, n = b.pad_size, h = n / 2;
	const Line line(n);
	kernels::Grid g;
	g.line = line.line;
	g.planes = radius;
	g.max_r2 = max_r2;
	g.row = table.row(n);
	const Zeros weights(radius * n * g.row), densities(radius * n * g.row);
	const Zeros field((h + table.row(1)) * radius * 2 * g.row);
	g.weight = weights.get();
	g.density = densities.get();
	g.field = field.get();
	const RFLOAT size = b.ori_size * b.padding_factor;
	const long reach = size / 2 + 1;  // the kernel is zero beyond half of the size
	g.kernel_size = XMIPP_MIN(reach * reach, 3 * (h + 1) * (h + 1) + 1);
	std::vector<double> kernel(g.kernel_size + 1);
	for (long r2 = 0; r2 < g.kernel_size; r2++)
		kernel[r2] = b.tab_ftblob(sqrt((RFLOAT)r2) / size) / b.tab_ftblob(0.) / ((double)n * n * n);
	g.kernel = kernel.data();
	const bool uneven = n / 2 < reach;
	const Zeros faces(uneven ? 9 * (n + table.row(1)) * g.row : 1);
	for (int face = 0; face < 3; face++) {
		g.face[face] = uneven ? faces.get() + 3 * face * (n + table.row(1)) * g.row : NULL;
		g.turned[face] = g.face[face] + n * g.row;
	}
	inThreads(-radius, radius + 1, [&](long k) {
		const long plane = (k < 0 ? k + n : k) * g.row;
		inTiles(radius, [&](long i, long j) {
			const long r2 = k * k + i * i + j * j;
			if (r2 >= max_r2)
				return;
			const long at = j * n * g.row + plane + (i < 0 ? i + n : i);
			g.weight[at] = weight(k, i, j, r2) / normalise;
			g.density[at] = 1.;
		});
	});
	for (int iteration = 0; iteration < iterations; iteration++) {
		inThreads(0, radius, [&](long kx) { table.plane_to_real(g, kx); });
		inThreads(0, h + 1, [&](long z) { table.convolve(g, z); });
		inThreads(0, uneven ? 3 : 0, [&](long face) { table.turn_face(g, face); });
		inThreads(0, radius, [&](long kx) { table.plane_from_real(g, kx); });
	}
	inThreads(-radius, radius + 1, [&](long k) {
		const long plane = (k < 0 ? k + n : k) * g.row;
		inTiles(radius, [&](long i, long j) {
			A3D_ELEM(b.data, k, i, j) *= g.density[j * n * g.row + plane + (i < 0 ? i + n : i)] / normalise;
		});
	});
}

// BackProjector::reconstruct(). Its data array is used up, as there.
static inline bool reconstruct(BackProjector &b, MultidimArray<RFLOAT> &map, int iterations, bool do_map,
                               const MultidimArray<RFLOAT> &tau2, RFLOAT tau2_fudge, RFLOAT normalise, int minres_map,
                               bool weight_wanted)
{
	const long radius = ROUND(b.r_max * b.padding_factor), max_r2 = radius * radius, n = b.pad_size;
	const int padded = paddedSize(b);
	if (!kernels::threads || b.ref_dim != 3 || weight_wanted || radius < 2 || n != 2 * radius + 3 ||
	    XSIZE(b.data) != n / 2 + 1 || YSIZE(b.data) != n || ZSIZE(b.data) != n || 2 * radius > padded || b.ori_size > padded)
		return false;
	// Half of the weights says all of them only if they are even: those of kx = 0 could be otherwise.
	for (long k = -radius; k <= radius; k++)
		for (long i = -radius; i <= radius; i++) {
			const RFLOAT one = A3D_ELEM(b.weight, k, i, 0), other = A3D_ELEM(b.weight, -k, -i, 0);
			if (k * k + i * i < max_r2 && !(fabs(one - other) <= 1e-6 * (fabs(one) + fabs(other))))
				return false;
		}
	const auto weight = [&](long k, long i, long j, long r2) {
		const RFLOAT w = A3D_ELEM(b.weight, k, i, j);
		return do_map && r2 < max_r2 ? withPrior(b, w, r2, tau2, tau2_fudge, minres_map) : w;
	};
	if (b.skip_gridding)
		divide(b, radius, weight);
	else
		grid(b, radius, iterations, normalise, weight);

	map.clear();
	map.reshape(b.ori_size, b.ori_size, b.ori_size);
	{
		// Without division, what is on the surface of the sphere is left out.
		const int surface = b.skip_gridding ? 0 : 1;
		const Line line(padded);
		kernels::Window w = window(b, line, radius - surface, max_r2 - surface, map);
		const Zeros half((size_t)w.box * (2 * w.radius + 1) * 2 * w.row);
		w.half = half.get();
		const RFLOAT padding = b.padding_factor;
		w.scale = 1. / (padding * padding * padding * (b.data_dim == 3 ? 1 : b.ori_size));
		inThreads(-w.radius, w.radius + 1, [&](long ky) { kernels::table().window_z(w, ky); });
		inThreads(0, w.box, [&](long z) { kernels::table().window_xy(w, z); });
	}
	softMask(map);
	b.griddingCorrect(map);
	return true;
}

}  // namespace reconstruction

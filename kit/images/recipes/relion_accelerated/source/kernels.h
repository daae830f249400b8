// SPDX-License-Identifier: GPL-2.0-or-later
//
// The inner loops of RELION's expectation step for two-dimensional images, written for vector processors.
//
// Each function stands in for one of RELION 3.1's run...Kernel functions on the CPU and returns the same quantity. They
// are compiled once for AVX2 and once for AVX-512 (kernels.inc), and chosen when the program starts (kernels.cpp).
//
// Images are half Fourier transforms: img_y rows of img_x complex pixels, real and imaginary parts in arrays of their
// own; row y stands for frequency y, or y - img_y above img_y / 2. A shift t multiplies pixel (x, y) by
// exp(i (x tx + y ty)). An orientation is nine numbers, the rows of its matrix.
#pragma once

namespace kernels {

// A padded Fourier transform to project from: interleaved complex voxels, x >= 0 only.
struct Model {
    const float *voxels;
    int x, xy, init_y, init_z;  // length of a row and of a plane, first index of y and z
    bool is_3d;
    float padding;
    int max_r2;  // in padded voxels squared; beyond it the projection is zero
};

struct Image {
    int x, y;
    const float *real, *imag;
};

struct Shifts {
    unsigned long number;
    const float *x, *y;
};

// What each shift of each orientation of one class weighs: number of shifts entries an orientation.
struct Weights {
    const float *weight;
    float significant;  // smaller ones are left out
    float sum;          // what they are divided by
};

// Where projections go back to: three arrays, and one lock a row of voxels (a byte: 0 free, 1 taken).
struct Volume {
    float *real, *imag, *weight;
    int x, y, init_y, init_z;
    bool is_3d;
    float padding;
    int max_r2;  // in unpadded pixels squared
    unsigned char *locks;
};

// The orientations and shifts that are left in the second pass: job j is orientation `orientation[first[j]]` and
// `count[j]` shifts from `shift[first[j]]` on; its results go to [first[j], first[j] + count[j]).
struct Jobs {
    unsigned long number;
    const unsigned long *orientation, *shift, *first, *count;
};

// The weights of a reconstruction, whose convolution with a blob is wanted within a sphere of the padded transform. They
// are real and even, and so is their transform in every direction: of x and kx half is kept, of z after its transform too.
struct Grid {
    const void *line;  // of Table::line_new, of the odd padded size n
    int planes;        // kx from 0 to the radius, which it does not reach
    int max_r2;        // radius squared
    long row;          // doubles of a row, Table::row(n)
    double *weight, *density;  // [kx][kz][ky], frequencies in the order of a transform
    double *field;             // [z][kx][real, imaginary][y], z from 0 to n / 2, and up to Table::row(1) more
    const double *kernel;      // over the squared distance in the padded map; zero from kernel_size on
    int kernel_size;           // kernel has one more
    double *face[3], *turned[3];  // [kz][ky], [kz][kx], [ky][kx] of what makes the kernel uneven; null if nothing does
};

// A map in the middle of a padded one, and the sphere that is wanted of its transform. Both are centred.
struct Window {
    const void *line;   // of the padded size
    int radius, max_r2; // of the sphere: the largest frequency, and the largest distance squared
    int box;            // of the map
    double *transform;  // complex, x >= 0 only, rows and planes of this many complex numbers, origin in y and z
    long row_size, plane_size;
    int origin;
    int columns;        // radius + 1
    long row;           // Table::row(columns)
    double *half;       // [z of the map][ky from -radius to radius][real, imaginary][kx]: transformed in two directions
    double *map;
    double scale;
};

struct Table {
    const char *name;

    // Adds to out[orientation][shift] the squared difference, weighted by corr / 2, of projection and shifted image;
    // or, with `correlate`, writes minus their normalised correlation, weighted by corr.
    void (*coarse)(const Model &, const Image &, const float *corr, const Shifts &, const float *orientations,
                   unsigned long orientations_number, bool correlate, float *out);

    // The same for a list of jobs; `base` is added to each squared difference.
    void (*fine)(const Model &, const Image &, const float *corr, const Shifts &, const float *orientations,
                 const Jobs &, bool correlate, float base, float *out);

    // For each pixel, over orientations and shifts, weighted: |projection * filter - image|^2, projection * image and
    // |projection|^2. `filter` has one value a pixel.
    void (*wavg)(const Model &, const Image &, const float *filter, const Shifts &, const float *orientations,
                 unsigned long orientations_number, const Weights &, float *difference, float *cross, float *power);

    // Adds each image, shifted back, times ctf / sigma^2 to the volume, and ctf^2 / sigma^2 to its weights; the ctf is
    // already in the image if `premultiplied`.
    void (*backproject)(const Volume &, const Image &, const float *inverse_sigma2, const float *ctf, bool premultiplied,
                        const Shifts &, const float *orientations, unsigned long orientations_number, const Weights &);

    // Ascending.
    void (*sort)(const float *in, unsigned long number, float *out);

    // Transforms of one length in double precision, and the doubles that a row of that many numbers takes.
    void *(*line_new)(int length);
    void (*line_free)(void *line);
    long (*row)(long numbers);

    // One step of the convolution, in this order, each for all planes kx, all z from 0 to n / 2, or the three faces; the
    // last divides the densities by the convolution of weight x density.
    void (*plane_to_real)(const Grid &, int kx);
    void (*convolve)(const Grid &, int z);
    void (*turn_face)(const Grid &, int face);
    void (*plane_from_real)(const Grid &, int kx);

    // From the transform to the map: first all ky, then all z. And back: first all z, then all ky.
    void (*window_z)(const Window &, int ky);
    void (*window_xy)(const Window &, int z);
    void (*pad_xy)(const Window &, int z);
    void (*pad_z)(const Window &, int ky);
};

// Of the reconstruction; 0 leaves it to RELION's own code.
extern int threads;

// The table for this processor.
const Table &table();

namespace v3 {
extern const Table table;
}
namespace v4 {
extern const Table table;
}

}  // namespace kernels

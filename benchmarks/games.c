/* The three benchmark games in C: what one core, or all of them, can do.
 *
 * Built as a shared library by cpu.py. kernels.h is the code, once for float and once for double; this file gives it
 * types and the coefficients of the exponential, and holds the references in long double.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <xmmintrin.h>

#define BYTES 64 /* one register, or two where registers are shorter */
#define MAX_THREADS 64

/* Denormal results and operands count as zero for one thread, as in the compiled code of XLA. */
static unsigned flush_to_zero(void) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
}

typedef struct {
    void (*work)(const void *arguments, long from, long to);
    const void *arguments;
    long from, to;
} Slice;

static void *run_slice(void *pointer) {
    Slice *slice = pointer;
    unsigned before = flush_to_zero();
    slice->work(slice->arguments, slice->from, slice->to);
    _mm_setcsr(before);
    return 0;
}

/* Cut the games into one slice per thread, in multiples of `unit`. */
static void share(void (*work)(const void *, long, long), const void *arguments, long games, long unit, int threads) {
    Slice slices[MAX_THREADS];
    pthread_t others[MAX_THREADS];
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    long units = (games + unit - 1) / unit, started = 0;
    for (int i = 0; i < threads; i++) {
        long from = units * i / threads * unit, to = units * (i + 1) / threads * unit;
        slices[i] = (Slice){work, arguments, from, to < games ? to : games};
    }
    for (int i = 1; i < threads; i++, started++)
        if (pthread_create(&others[i], 0, run_slice, &slices[i])) break;
    run_slice(&slices[0]);
    for (int i = 1; i < threads; i++)
        if (i <= started) pthread_join(others[i], 0);
        else run_slice(&slices[i]);
}

/* exp(r) = 1 + r + r^2 q(r) on |r| <= log(2)/2, q interpolated at Chebyshev points. */
#define REAL float
#define WORD int32_t
#define NAME(x) x##_f32
#define MANTISSA 23
#define ROUNDER 0x1.8p23f
#define LARGEST 86.0f
#define LOG2_HIGH 0.693145751953125f
#define LOG2_LOW 1.4286068203094172e-6f
#define COEFFICIENTS \
    {0.5f, 0.16666577025597988f, 0.04166655466205053f, 0.008363173074513711f, 0.0013926176119935579f}
#include "kernels.h"

#define REAL double
#define WORD int64_t
#define NAME(x) x##_f64
#define MANTISSA 52
#define ROUNDER 0x1.8p52
#define LARGEST 700.0
#define LOG2_HIGH 0x1.62e42fefa2p-1
#define LOG2_LOW 7.37100256516779890e-13
#define COEFFICIENTS                                                                                         \
    {0.50000000000000010211,    0.16666666666666667452,   0.041666666666624161903,  0.0083333333333300644495, \
     0.0013888888917196719077,  0.00019841269863040545271, 0.000024801521322368693266, 2.7557268480310025526e-6, \
     2.7620075879983366586e-7,  2.5100375832561233664e-8}
#include "kernels.h"

/* References: the same maps, and the flows behind them by the classical Runge-Kutta method, in long double. */
typedef long double Wide;
enum { DIRAC, BILINEAR, QUADRATIC };

static void field(int game, long size, const Wide *numbers, const Wide *z, Wide *v) {
    if (game == DIRAC) {
        Wide t = z[0] * z[1], e = expl(-fabsl(t)), large = 1 / (1 + e), small = e / (1 + e);
        Wide up = t >= 0 ? large : small, down = t >= 0 ? small : large;
        v[0] = -z[1] * up;
        v[1] = z[0] * down - numbers[0] * z[1];
    } else if (game == BILINEAR) {
        v[0] = -numbers[0] * z[1];
        v[1] = numbers[0] * z[0];
    } else {
        for (long i = 0; i < size; i++) {
            v[i] = 0;
            for (long j = 0; j < size; j++) v[i] -= numbers[i * size + j] * z[j];
        }
    }
}

/* z: (games, size), in place. numbers: the weight, the matrix; `stride` of them per game, 0 for a common one. */
void reference(int game, long games, long size, long steps, long stride, const double *numbers, const double *rates,
               int flow, double *states) {
    Wide z[64], v[64], k[4][64], own[64 * 64];
    for (long g = 0; g < games; g++) {
        for (long i = 0; i < (game == QUADRATIC ? size * size : 1); i++) own[i] = numbers[g * stride + i];
        for (long i = 0; i < size; i++) z[i] = states[g * size + i];
        for (long s = 0; s < steps; s++) {
            if (!flow) {
                field(game, size, own, z, v);
                for (long i = 0; i < size; i++) z[i] += rates[i] * v[i];
                continue;
            }
            for (int stage = 0; stage < 4; stage++) {
                Wide shift = stage == 0 ? 0 : stage == 3 ? 1 : 0.5L;
                for (long i = 0; i < size; i++) v[i] = z[i] + (stage ? shift * k[stage - 1][i] : 0);
                field(game, size, own, v, k[stage]);
                for (long i = 0; i < size; i++) k[stage][i] *= rates[i];
            }
            for (long i = 0; i < size; i++) z[i] += (k[0][i] + 2 * k[1][i] + 2 * k[2][i] + k[3][i]) / 6;
        }
        for (long i = 0; i < size; i++) states[g * size + i] = (double)z[i];
    }
}

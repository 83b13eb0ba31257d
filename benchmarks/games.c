/* The benchmark games in C: what one core, or all of them, can do.
 *
 * Built as a shared library by native.py. kernels.h (functions, fields, steps), watch.h (outcomes) and blocks.h (loops)
 * are the code, once for float and once for double; this file gives them types and the coefficients of the elementary
 * functions, and holds the references in long double.
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define BYTES 64 /* one register */
#define INTRINSIC(name) _mm512_##name
#define NOT_ALL_ZERO(a) (_mm512_test_epi32_mask((__m512i)(a), (__m512i)(a)) != 0)
#elif defined __AVX2__
#define BYTES 32
#define INTRINSIC(name) _mm256_##name
#define NOT_ALL_ZERO(a) (!_mm256_testz_si256((__m256i)(a), (__m256i)(a)))
#else
#define BYTES 16
#endif
#define MAX_THREADS 64
#define MAX_SEGMENTS 128
#define MOST_UNITS 4 /* registers per number of a block, at most */
#define INLINE static inline __attribute__((always_inline))

enum { NON_SATURATING, MINIMAX, WASSERSTEIN, LEAST_SQUARES, HINGE, BILINEAR, TORUS, LORENZ, QUADRATIC };
enum { SIMULTANEOUS, ALTERNATING, EXTRAGRADIENT, CONSENSUS, OPTIMISTIC, CLASSICAL, TSITOURAS };
/* Those of dynamics.Outcome; IN_DOUBT: the library looks a second time, and this program does not. */
enum { CONVERGED, CYCLING, DIVERGED, UNDECIDED, CHAOTIC, STALLED, NOT_A_NUMBER, IN_DOUBT = -2 };
#define CONSENSUS_WEIGHT 0.1

/* Tsitouras 2011, the stages and the solution of order five. */
static const double TSIT5[6][6] = {
    {0.161},
    {-0.008480655492356989, 0.335480655492357},
    {2.8971530571054935, -6.359448489975075, 4.3622954328695815},
    {5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525},
    {5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383},
    {0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774},
};

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

/* exp(r) = 1 + r + r^2 q(r) on |r| <= log(2)/2, and sin(r) = r + r^3 q(r^2) on |r| <= pi/2, with q interpolated at
 * Chebyshev points; the coefficients of the logarithm are those of FreeBSD's mathematical library. */
#define REAL float
#define WORD int32_t
#define NAME(x) x##_f32
#define MANTISSA 23
#define BIAS 127
#define EPSILON 0x1p-23f
#define ROUNDER 0x1.8p23f
#define LARGEST 86.0f
#define LOG2_HIGH 0.693145751953125f
#define LOG2_LOW 1.4286068203094172e-6f
#define PI_PARTS {0x1.92p1f, 0x1.fb4p-11f, 0x1.4442d2p-23f}
#define EXPONENTIAL {0.5f, 0.16666577025597988f, 0.04166655466205053f, 0.008363173074513711f, 0.0013926176119935579f}
#define SINE {-0.166666659632631614f, 0.0083332420809321065f, -0.00019822732180693118f, 2.6347327387187e-6f}
#define LOGARITHM {0.66666662693f, 0.40000972152f, 0.28498786688f, 0.24279078841f}
#ifdef INTRINSIC
#define SMALLER INTRINSIC(min_ps)
#define LARGER INTRINSIC(max_ps)
#define ROOT INTRINSIC(sqrt_ps)
#endif
#include "kernels.h"
#include "watch.h"
#include "blocks.h"
#include "undefine.h"

#define REAL double
#define WORD int64_t
#define NAME(x) x##_f64
#define MANTISSA 52
#define BIAS 1023
#define EPSILON 0x1p-52
#define ROUNDER 0x1.8p52
#define LARGEST 700.0
#define LOG2_HIGH 0x1.62e42fefa2p-1
#define LOG2_LOW 7.37100256516779890e-13
#define PI_PARTS {0x1.921fb544p1, 0x1.0b4611a6p-33, 0x1.3198a2e037073p-68}
#define EXPONENTIAL                                                                                          \
    {0.50000000000000010211,    0.16666666666666667452,   0.041666666666624161903,  0.0083333333333300644495, \
     0.0013888888917196719077,  0.00019841269863040545271, 0.000024801521322368693266, 2.7557268480310025526e-6, \
     2.7620075879983366586e-7,  2.5100375832561233664e-8}
#define SINE                                                                                                \
    {-0.166666666666666666329,  0.00833333333333331584444, -0.000198412698412549559872, 2.75573192191584305707e-6, \
     -2.5052107616384595278e-8, 1.60589772728155060702e-10, -7.64396903105276904269e-13, 2.73142898612261585355e-15}
#define LOGARITHM                                                                                          \
    {6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01, \
     1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01}
#ifdef INTRINSIC
#define SMALLER INTRINSIC(min_pd)
#define LARGER INTRINSIC(max_pd)
#define ROOT INTRINSIC(sqrt_pd)
#endif
#include "kernels.h"
#include "watch.h"
#include "blocks.h"

/* References: the same maps, and the flows by the classical Runge-Kutta method, in long double, one game at a time. */
typedef long double Wide;

static void field(int game, long size, const Wide *own, const Wide *z, Wide *v) {
    Wide t = z[0] * z[1], e = expl(-fabsl(t)), large = 1 / (1 + e), small = e / (1 + e);
    Wide up = t >= 0 ? large : small, down = t >= 0 ? small : large, push = 0, pull = 0;
    switch (game) {
    case NON_SATURATING: push = -z[1] * up, pull = z[0] * down; break;
    case MINIMAX: push = -z[1] * down, pull = z[0] * down; break;
    case WASSERSTEIN: push = -z[1], pull = z[0]; break;
    case LEAST_SQUARES: push = -z[1] * t, pull = z[0] * (1 - t); break;
    case HINGE: push = -z[1], pull = t < 1 ? z[0] : 0; break;
    case BILINEAR: v[0] = -own[1] * z[1], v[1] = own[1] * z[0]; return;
    case TORUS:
        v[0] = -own[1] * sinl(z[0]) + sinl(z[0] - z[1]);
        v[1] = -own[1] * sinl(z[1]) + sinl(z[0] - z[1]);
        return;
    case LORENZ:
        v[0] = 10 * (z[1] - z[0]);
        v[1] = z[0] * (own[1] - z[2]) - z[1];
        v[2] = z[0] * z[1] - own[2] * z[2];
        return;
    default:
        for (long i = 0; i < size; i++) {
            v[i] = 0;
            for (long j = 0; j < size; j++) v[i] -= own[1 + i * size + j] * z[j];
        }
        return;
    }
    v[0] = push, v[1] = pull - own[1] * z[1];
}

/* own: the rate, or the length of a step, and the numbers of the game, `count` per game. states: (games, size). */
void reference(int game, int method, long games, long size, long steps, long count, const double *numbers,
               double *states) {
    Wide z[32], v[32], old[32], k[4][32], own[1024];
    for (long g = 0; g < games; g++) {
        for (long i = 0; i < count; i++) own[i] = numbers[g * count + i];
        for (long i = 0; i < size; i++) z[i] = states[g * size + i];
        field(game, size, own, z, old);
        for (long s = 0; s < steps; s++) {
            if (method >= CLASSICAL) {
                for (int stage = 0; stage < 4; stage++) {
                    Wide shift = stage == 0 ? 0 : stage == 3 ? 1 : 0.5L;
                    for (long i = 0; i < size; i++) v[i] = z[i] + (stage ? shift * k[stage - 1][i] : 0);
                    field(game, size, own, v, k[stage]);
                    for (long i = 0; i < size; i++) k[stage][i] *= own[0];
                }
                for (long i = 0; i < size; i++) z[i] += (k[0][i] + 2 * k[1][i] + 2 * k[2][i] + k[3][i]) / 6;
                continue;
            }
            field(game, size, own, z, v);
            if (method == ALTERNATING) {
                z[0] += own[0] * v[0];
                field(game, size, own, z, v);
                z[1] += own[0] * v[1];
                continue;
            }
            if (method == EXTRAGRADIENT) {
                for (long i = 0; i < size; i++) k[0][i] = z[i] + own[0] * v[i];
                field(game, size, own, k[0], v);
            }
            if (method == CONSENSUS) { /* the slope by a central difference, which long double affords */
                for (long i = 0; i < size; i++) {
                    Wide step = 1e-7L, slope = 0;
                    memcpy(k[2], z, sizeof z);
                    k[2][i] = z[i] + step, field(game, size, own, k[2], k[0]);
                    k[2][i] = z[i] - step, field(game, size, own, k[2], k[1]);
                    for (long j = 0; j < size; j++) slope += (k[0][j] - k[1][j]) / (2 * step) * v[j];
                    k[3][i] = slope;
                }
                for (long i = 0; i < size; i++) v[i] -= (Wide)CONSENSUS_WEIGHT * k[3][i];
            }
            for (long i = 0; i < size; i++) {
                Wide now = v[i];
                if (method == OPTIMISTIC) v[i] = 2 * now - old[i];
                old[i] = now;
                z[i] += own[0] * v[i];
            }
        }
        for (long i = 0; i < size; i++) states[g * size + i] = (double)z[i];
    }
}

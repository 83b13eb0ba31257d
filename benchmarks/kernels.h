/* The kernels for one type, REAL. States stay in registers for all steps; GCC's vector types name the registers. */
#define LANES (BYTES / (long)sizeof(REAL))
#define VECTOR NAME(Vector)
#define WORDS NAME(Words)
#ifndef WIDTH
#define WIDTH 4 /* registers per player and block: enough independent work to hide the latencies */
#endif
#define SIZE 20 /* numbers per game of the quadratic games */

typedef REAL VECTOR __attribute__((vector_size(BYTES)));
typedef WORD WORDS __attribute__((vector_size(BYTES)));

static inline VECTOR NAME(exponential)(VECTOR x) {
    static const REAL c[] = COEFFICIENTS;
    const int degree = sizeof c / sizeof *c - 1;
    VECTOR top = (VECTOR){} + (REAL)LARGEST;
    WORDS low = x < top, high = x > -top;
    x = (VECTOR)(((WORDS)x & low & high) | ((WORDS)top & ~low) | ((WORDS)-top & ~high));
    VECTOR shifted = x * (REAL)1.442695040888963407359925 + (REAL)ROUNDER;
    VECTOR n = shifted - (REAL)ROUNDER;
    VECTOR r = (x - n * (REAL)LOG2_HIGH) - n * (REAL)LOG2_LOW;
    VECTOR q = (VECTOR){} + c[degree];
    for (int i = degree - 1; i >= 0; i--) q = q * r + c[i];
    VECTOR p = (q * r) * r + r + (REAL)1;
    return (VECTOR)((WORDS)p + ((WORDS)shifted << MANTISSA));
}

typedef struct {
    REAL *x, *y;
    long steps;
    REAL rate_x, rate_y, number;
} NAME(Planar);

/* One exponential and one division give both sigma(t) and sigma(-t) = exp(-t) sigma(t), each accurate in its tail. */
static inline void NAME(dirac_step)(VECTOR *theta, VECTOR *psi, const NAME(Planar) * a) {
    VECTOR decay = NAME(exponential)(-(*theta * *psi));
    VECTOR up = (REAL)1 / ((REAL)1 + decay), down = decay * up;
    VECTOR moved = *theta - a->rate_x * (*psi * up);
    *psi += a->rate_y * (*theta * down - a->number * *psi);
    *theta = moved;
}

static inline void NAME(bilinear_step)(VECTOR *x, VECTOR *y, const NAME(Planar) * a) {
    VECTOR moved = *x - a->rate_x * (a->number * *y);
    *y += a->rate_y * (a->number * *x);
    *x = moved;
}

#define PLANAR(GAME)                                                                                        \
    static void NAME(GAME##_slice)(const void *arguments, long from, long to) {                               \
        const NAME(Planar) a = *(const NAME(Planar) *)arguments;                                              \
        for (long at = from; at < to; at += WIDTH * LANES) {                                                  \
            VECTOR x[WIDTH] = {}, y[WIDTH] = {};                                                              \
            long count = to - at < WIDTH * LANES ? to - at : WIDTH * LANES;                                   \
            memcpy(x, a.x + at, count * sizeof(REAL));                                                        \
            memcpy(y, a.y + at, count * sizeof(REAL));                                                        \
            if (count <= LANES)                                                                               \
                for (long s = 0; s < a.steps; s++) NAME(GAME##_step)(&x[0], &y[0], &a);                       \
            else                                                                                              \
                for (long s = 0; s < a.steps; s++)                                                            \
                    for (int i = 0; i < WIDTH; i++) NAME(GAME##_step)(&x[i], &y[i], &a);                      \
            memcpy(a.x + at, x, count * sizeof(REAL));                                                        \
            memcpy(a.y + at, y, count * sizeof(REAL));                                                        \
        }                                                                                                     \
    }                                                                                                         \
    void NAME(GAME)(REAL *x, REAL *y, long games, long steps, double rate_x, double rate_y, double number,    \
                    int threads) {                                                                            \
        NAME(Planar) a = {x, y, steps, (REAL)rate_x, (REAL)rate_y, (REAL)number};                             \
        share(NAME(GAME##_slice), &a, games, WIDTH * LANES, threads);                                         \
    }

PLANAR(dirac)
PLANAR(bilinear)

typedef struct {
    const REAL *matrices;
    REAL *states;
    const REAL *rates;
    long steps;
} NAME(Many);

/* One game per lane: the matrices of a block are turned so that games come last, and fit the nearest cache. */
static void NAME(quadratic_slice)(const void *arguments, long from, long to) {
    const NAME(Many) a = *(const NAME(Many) *)arguments;
    static __thread VECTOR matrix[SIZE][SIZE];
    for (long at = from; at < to; at += LANES) {
        VECTOR z[SIZE] = {}, next[SIZE];
        long count = to - at < LANES ? to - at : LANES;
        for (long lane = 0; lane < count; lane++) {
            const REAL *own = a.matrices + (at + lane) * SIZE * SIZE, *state = a.states + (at + lane) * SIZE;
            for (int i = 0; i < SIZE; i++) {
                z[i][lane] = state[i];
                for (int j = 0; j < SIZE; j++) matrix[i][j][lane] = own[i * SIZE + j];
            }
        }
        for (long s = 0; s < a.steps; s++) {
            for (int i = 0; i < SIZE; i += 2) {
                VECTOR one = matrix[i][0] * z[0], two = matrix[i + 1][0] * z[0];
                for (int j = 1; j < SIZE; j++) one += matrix[i][j] * z[j], two += matrix[i + 1][j] * z[j];
                next[i] = z[i] - a.rates[i] * one, next[i + 1] = z[i + 1] - a.rates[i + 1] * two;
            }
            memcpy(z, next, sizeof z);
        }
        for (long lane = 0; lane < count; lane++)
            for (int i = 0; i < SIZE; i++) a.states[(at + lane) * SIZE + i] = z[i][lane];
    }
}

void NAME(quadratic)(const REAL *matrices, REAL *states, long games, long steps, const REAL *rates, int threads) {
    NAME(Many) a = {matrices, states, rates, steps};
    share(NAME(quadratic_slice), &a, games, LANES, threads);
}

#undef LANES
#undef VECTOR
#undef WORDS
#undef REAL
#undef WORD
#undef NAME
#undef MANTISSA
#undef ROUNDER
#undef LARGEST
#undef LOG2_HIGH
#undef LOG2_LOW
#undef COEFFICIENTS
#undef PLANAR
#undef SIZE

/* The loops: blocks of games stay in registers for all steps. The functions that cpu.py calls. */
typedef struct {
    REAL *states;        /* (numbers per game, games) */
    const REAL *numbers; /* (2, games): the rate, or the length of a step, and the game's number */
    long games, steps, every; /* steps per sample */
    NAME(Found) found;
} NAME(Work);

INLINE VECTOR NAME(load)(const REAL *from, long count) {
    VECTOR found = {};
    memcpy(&found, from, (count < LANES ? count : LANES) * sizeof(REAL));
    return found;
}

/* `units` registers of games from `at` on, none beyond `to`; game, method, size, units and watched are known when this is compiled. */
INLINE void NAME(block)(int game, int method, int size, int units, int watched, const NAME(Work) * a, long at,
                        long to) {
    VECTOR z[MOST_UNITS][3], old[MOST_UNITS][3], rate[MOST_UNITS], own[MOST_UNITS][1];
    const long games = a->games;
    for (int u = 0; u < units; u++) {
        long from = at + u * LANES, count = to - from;
        if (count <= 0) from = at, count = to - at; /* a copy, which is not stored */
        for (int i = 0; i < size; i++) z[u][i] = NAME(load)(a->states + i * games + from, count);
        rate[u] = NAME(load)(a->numbers + from, count), own[u][0] = NAME(load)(a->numbers + games + from, count);
        if (method == OPTIMISTIC) NAME(field)(game, z[u], own[u], old[u]);
    }
    if (!watched) {
        for (long s = 0; s < a->steps; s++)
            NAME(step)(game, method, size, units, z, old, rate, own);
    } else {
        static __thread NAME(Watch) watch[MOST_UNITS];
        VECTOR low[MOST_UNITS][3], high[MOST_UNITS][3], signal[MOST_UNITS], previous[MOST_UNITS][3];
        VECTOR points[POINTS][MOST_NUMBERS], fields[POINTS][MOST_NUMBERS];
        const long segments = a->found.segments, length = a->found.length;
        const long every = method < CLASSICAL ? 1 : a->every;
        const REAL tick = a->found.tick;
        for (int u = 0; u < units; u++) {
            NAME(open_quarter)(&watch[u], z[u], size);
            for (int i = 0; i < size; i++) watch[u].samples[0][i] = z[u][i];
        }
        for (long k = 0; k < segments; k++) {
            for (int u = 0; u < units; u++)
                for (int i = 0; i < size; i++) low[u][i] = high[u][i] = z[u][i];
#define SAMPLE                                                                                                     \
    for (long e = 0; e < every; e++)                                                                               \
        NAME(step)(game, method, size, units, z, old, rate, own);                                                      \
    for (int u = 0; u < units; u++)                                                                                \
        for (int i = 0; i < size; i++)                                                                             \
            low[u][i] = NAME(smaller)(z[u][i], low[u][i]), high[u][i] = NAME(larger)(z[u][i], high[u][i]);
            if (4 * k < 3 * segments) {
                for (long s = 0; s < length; s++) {
                    SAMPLE
                }
            } else {
                WORDS axis[MOST_UNITS][3];
                VECTOR centre[MOST_UNITS];
                for (int u = 0; u < units; u++) {
                    centre[u] = watch[u].centre[0], signal[u] = watch[u].signal;
                    for (int i = 1; i < size; i++) {
                        axis[u][i] = watch[u].axis[i];
                        centre[u] = NAME(pick)(axis[u][i], watch[u].centre[i], centre[u]);
                    }
                }
                for (long s = 0; s < length; s++) {
                    for (int u = 0; u < units; u++)
                        for (int i = 0; i < size; i++) previous[u][i] = z[u][i];
                    SAMPLE
                    for (int u = 0; u < units; u++) {
                        VECTOR now = z[u][0];
                        for (int i = 1; i < size; i++) now = NAME(pick)(axis[u][i], z[u][i], now);
                        now -= centre[u];
                        NAME(turn)(&watch[u], signal[u], now, k * length + s + 1, tick, previous[u], z[u], size);
                        signal[u] = now;
                    }
                }
                for (int u = 0; u < units; u++) watch[u].signal = signal[u];
            }
#undef SAMPLE
            for (int u = 0; u < units; u++)
                NAME(close_stretch)(&watch[u], k, &a->found, z[u], low[u], high[u], size);
        }
        for (int u = 0; u < units; u++) {
            long from = at + u * LANES, count = to - from < LANES ? to - from : LANES;
            if (count <= 0) continue;
            NAME(points)(&watch[u], &a->found, z[u], size, points);
            for (int k = 0; k < POINTS; k++) NAME(field)(game, points[k], own[u], fields[k]);
            NAME(decide)(&watch[u], &a->found, z[u], fields, size, from, count);
        }
    }
    for (int u = 0; u < units; u++) {
        long from = at + u * LANES, count = to - from < LANES ? to - from : LANES;
        if (count > 0)
            for (int i = 0; i < size; i++) memcpy(a->states + i * games + from, &z[u][i], count * sizeof(REAL));
    }
}

#define SLICES(GAME, METHOD, SIZE, WIDTH, WATCHED, NAMED)                                                          \
    static void NAME(GAME##METHOD##NAMED)(const void *arguments, long from, long to) {                             \
        const NAME(Work) *a = arguments;                                                                           \
        for (long at = from; at < to; at += WIDTH * LANES)                                                         \
            if (to - at <= LANES) NAME(block)(GAME, METHOD, SIZE, 1, WATCHED, a, at, to);                          \
            else NAME(block)(GAME, METHOD, SIZE, WIDTH, WATCHED, a, at, to);                                       \
    }
#define KERNEL(GAME, METHOD, SIZE, PLAIN_WIDTH, WATCHED_WIDTH)                                                     \
    SLICES(GAME, METHOD, SIZE, PLAIN_WIDTH, 0, _plain)                                                             \
    SLICES(GAME, METHOD, SIZE, WATCHED_WIDTH, 1, _watched)

/* Numbers per game; registers per number and block, found by trial: enough independent work to hide the latencies.
 * Who watches boxes has fewer registers left. */
#ifdef __AVX512F__
#define CHEAP 3 /* of fields of an operation or two */
#else
#define CHEAP 2
#endif
/* FEW: enough for a quick run, compiled in seconds. */
#define FEW_KERNELS(ONE)                                                                                           \
    ONE(NON_SATURATING, SIMULTANEOUS, 2, 4, 3)  ONE(BILINEAR, ALTERNATING, 2, 4, 3)                                \
    ONE(LORENZ, TSITOURAS, 3, 2, 2)  ONE(BILINEAR, SIMULTANEOUS, 2, 4, CHEAP)
#define MORE_KERNELS(ONE)                                                                                          \
    ONE(MINIMAX, SIMULTANEOUS, 2, 4, 3)  ONE(WASSERSTEIN, SIMULTANEOUS, 2, 4, CHEAP)                                   \
    ONE(LEAST_SQUARES, SIMULTANEOUS, 2, 4, 3)  ONE(HINGE, SIMULTANEOUS, 2, 4, 3)                                   \
    ONE(TORUS, SIMULTANEOUS, 2, 4, 3)                                                                              \
    ONE(NON_SATURATING, ALTERNATING, 2, 4, 3)  ONE(NON_SATURATING, EXTRAGRADIENT, 2, 4, 3)                         \
    ONE(BILINEAR, EXTRAGRADIENT, 2, 4, 3)  ONE(NON_SATURATING, CONSENSUS, 2, 4, 3)                                 \
    ONE(BILINEAR, CONSENSUS, 2, 4, 3)  ONE(NON_SATURATING, OPTIMISTIC, 2, 4, 3)                                    \
    ONE(BILINEAR, OPTIMISTIC, 2, 4, 3)  ONE(NON_SATURATING, CLASSICAL, 2, 4, 4)                                    \
    ONE(NON_SATURATING, TSITOURAS, 2, 4, 4)  ONE(LORENZ, CLASSICAL, 3, 3, 2)
#ifdef FEW
#define ALL_KERNELS(ONE) FEW_KERNELS(ONE)
#else
#define ALL_KERNELS(ONE) FEW_KERNELS(ONE) MORE_KERNELS(ONE)
#endif

ALL_KERNELS(KERNEL)

#define CHOOSE(GAME, METHOD, SIZE, PLAIN_WIDTH, WATCHED_WIDTH)                                                     \
    if (game == GAME && method == METHOD)                                                                          \
        work = found->outcome ? NAME(GAME##METHOD##_watched) : NAME(GAME##METHOD##_plain);

/* Returns 0, or 1 where there is no such game and method. `every`: steps per sample, for flows. */
int NAME(small)(int game, int method, REAL *states, const REAL *numbers, long games, long steps, long every,
                const NAME(Found) * found, int threads) {
    void (*work)(const void *, long, long) = 0;
    ALL_KERNELS(CHOOSE)
    if (!work) return 1;
    NAME(Work) a = {states, numbers, games, steps, every, *found};
    share(work, &a, games, MOST_UNITS * LANES, threads);
    return 0;
}

typedef struct {
    const REAL *matrices; /* (games, MOST_NUMBERS, MOST_NUMBERS) */
    REAL *states;         /* (games, MOST_NUMBERS) */
    REAL rate;
    long steps;
    NAME(Found) found;
} NAME(Many);

typedef VECTOR NAME(Matrix)[MOST_NUMBERS][MOST_NUMBERS];

INLINE void NAME(product)(NAME(Matrix) matrix, const VECTOR *z, VECTOR *found) {
    for (int i = 0; i < MOST_NUMBERS; i += 2) {
        VECTOR one = matrix[i][0] * z[0], two = matrix[i + 1][0] * z[0];
        for (int j = 1; j < MOST_NUMBERS; j++) one += matrix[i][j] * z[j], two += matrix[i + 1][j] * z[j];
        found[i] = one, found[i + 1] = two;
    }
}

/* One game per lane: the matrices of a block are turned so that games come last, and fit the nearest cache. */
static void NAME(quadratic_slice)(const void *arguments, long from, long to) {
    const NAME(Many) *a = arguments;
    static __thread NAME(Matrix) matrix;
    static __thread NAME(Watch) watch;
    const long size = MOST_NUMBERS, segments = a->found.segments, length = a->found.length;
    for (long at = from; at < to; at += LANES) {
        VECTOR points[POINTS][MOST_NUMBERS], fields[POINTS][MOST_NUMBERS], previous[MOST_NUMBERS];
        VECTOR z[MOST_NUMBERS] = {}, v[MOST_NUMBERS], low[MOST_NUMBERS], high[MOST_NUMBERS];
        long count = to - at < LANES ? to - at : LANES;
        for (long lane = 0; lane < count; lane++) {
            const REAL *own = a->matrices + (at + lane) * size * size, *state = a->states + (at + lane) * size;
            for (int i = 0; i < size; i++) {
                z[i][lane] = state[i];
                for (int j = 0; j < size; j++) matrix[i][j][lane] = own[i * size + j];
            }
        }
        if (!a->found.outcome) {
            for (long s = 0; s < a->steps; s++) {
                NAME(product)(matrix, z, v);
                for (int i = 0; i < size; i++) z[i] -= a->rate * v[i];
            }
        } else {
            NAME(open_quarter)(&watch, z, size);
            memcpy(watch.samples[0], z, sizeof z);
            for (long k = 0; k < segments; k++) {
                memcpy(low, z, sizeof z), memcpy(high, z, sizeof z);
                for (long s = 0; s < length; s++) {
                    if (4 * k >= 3 * segments) memcpy(previous, z, sizeof z);
                    NAME(product)(matrix, z, v);
                    for (int i = 0; i < size; i++) {
                        z[i] -= a->rate * v[i];
                        low[i] = NAME(smaller)(z[i], low[i]), high[i] = NAME(larger)(z[i], high[i]);
                    }
                    if (4 * k < 3 * segments) continue;
                    VECTOR now = z[0] - watch.centre[0];
                    for (int i = 1; i < size; i++) now = NAME(pick)(watch.axis[i], z[i] - watch.centre[i], now);
                    NAME(turn)(&watch, watch.signal, now, k * length + s + 1, 1, previous, z, size);
                    watch.signal = now;
                }
                NAME(close_stretch)(&watch, k, &a->found, z, low, high, size);
            }
            NAME(points)(&watch, &a->found, z, size, points);
            for (int k = 0; k < POINTS; k++) NAME(product)(matrix, points[k], fields[k]);
            NAME(decide)(&watch, &a->found, z, fields, size, at, count);
        }
        for (long lane = 0; lane < count; lane++)
            for (int i = 0; i < size; i++) a->states[(at + lane) * size + i] = z[i][lane];
    }
}

int NAME(quadratic)(const REAL *matrices, REAL *states, long games, long steps, double rate,
                    const NAME(Found) * found, int threads) {
    NAME(Many) a = {matrices, states, (REAL)rate, steps, *found};
    share(NAME(quadratic_slice), &a, games, LANES, threads);
    return 0;
}

/* Elementary functions, fields and steps for one type, REAL, on registers of games; all of it is inlined. */
#define LANES (BYTES / (long)sizeof(REAL))
#define VECTOR NAME(Vector)
#define WORDS NAME(Words)

typedef REAL VECTOR __attribute__((vector_size(BYTES)));
typedef WORD WORDS __attribute__((vector_size(BYTES)));

INLINE VECTOR NAME(all)(REAL number) { return (VECTOR){} + number; }

INLINE VECTOR NAME(pick)(WORDS mask, VECTOR yes, VECTOR no) {
    return (VECTOR)(((WORDS)yes & mask) | ((WORDS)no & ~mask));
}

#ifdef SMALLER
INLINE VECTOR NAME(smaller)(VECTOR a, VECTOR b) { return SMALLER(a, b); }
INLINE VECTOR NAME(larger)(VECTOR a, VECTOR b) { return LARGER(a, b); }
INLINE VECTOR NAME(root)(VECTOR a) { return ROOT(a); }
INLINE int NAME(any)(WORDS mask) { return NOT_ALL_ZERO(mask); }
#else
INLINE VECTOR NAME(smaller)(VECTOR a, VECTOR b) { return NAME(pick)(a < b, a, b); }
INLINE VECTOR NAME(larger)(VECTOR a, VECTOR b) { return NAME(pick)(a > b, a, b); }
INLINE VECTOR NAME(root)(VECTOR a) {
    VECTOR found;
    for (int i = 0; i < LANES; i++) found[i] = sizeof(REAL) == 4 ? sqrtf(a[i]) : sqrt(a[i]);
    return found;
}
INLINE int NAME(any)(WORDS mask) {
    WORD found = 0;
    for (int i = 0; i < LANES; i++) found |= mask[i];
    return found != 0;
}
#endif

INLINE VECTOR NAME(exponential)(VECTOR x) {
    static const REAL c[] = EXPONENTIAL;
    const int degree = sizeof c / sizeof *c - 1;
    x = NAME(larger)(NAME(smaller)(x, NAME(all)(LARGEST)), NAME(all)(-LARGEST));
    VECTOR shifted = x * (REAL)1.442695040888963407359925 + (REAL)ROUNDER;
    VECTOR n = shifted - (REAL)ROUNDER;
    VECTOR r = (x - n * (REAL)LOG2_HIGH) - n * (REAL)LOG2_LOW;
    VECTOR q = NAME(all)(c[degree]);
    for (int i = degree - 1; i >= 0; i--) q = q * r + c[i];
    VECTOR p = (q * r) * r + r + (REAL)1;
    return (VECTOR)((WORDS)p + ((WORDS)shifted << MANTISSA));
}

/* Exact to the last digits for |x| up to some thousands. */
INLINE VECTOR NAME(sine)(VECTOR x) {
    static const REAL c[] = SINE, pi[] = PI_PARTS;
    const int degree = sizeof c / sizeof *c - 1;
    VECTOR shifted = x * (REAL)0.318309886183790671538 + (REAL)ROUNDER;
    VECTOR n = shifted - (REAL)ROUNDER;
    VECTOR r = ((x - n * pi[0]) - n * pi[1]) - n * pi[2], square = r * r;
    VECTOR q = NAME(all)(c[degree]);
    for (int i = degree - 1; i >= 0; i--) q = q * square + c[i];
    VECTOR found = (q * square) * r + r;
    return (VECTOR)((WORDS)found ^ ((WORDS)shifted << (8 * sizeof(REAL) - 1)));
}

/* For positive normal numbers. */
INLINE VECTOR NAME(logarithm)(VECTOR x) {
    static const REAL c[] = LOGARITHM;
    const int degree = sizeof c / sizeof *c - 1;
    const WORD half = (WORD)(BIAS - 1) << MANTISSA, mask = ((WORD)1 << MANTISSA) - 1;
    WORDS exponent = ((WORDS)x >> MANTISSA) - (BIAS - 1);
    VECTOR m = (VECTOR)(((WORDS)x & mask) | half); /* in [1/2, 1) */
    WORDS small = m < (REAL)0.70710678118654752440;
    m = NAME(pick)(small, m + m, m);
    exponent += (WORDS)small; /* true is -1 */
    VECTOR e = __builtin_convertvector(exponent, VECTOR), f = m - (REAL)1, s = f / (f + (REAL)2), z = s * s;
    VECTOR q = NAME(all)(c[degree]);
    for (int i = degree - 1; i >= 0; i--) q = q * z + c[i];
    VECTOR square = (REAL)0.5 * f * f;
    return e * (REAL)LOG2_HIGH - ((square - (s * (square + q * z) + e * (REAL)LOG2_LOW)) - f);
}

/* The field of the games of two numbers, own[0] being the weight of the penalty, or the game's number. Who wants one
 * half of it only leaves the other one to the compiler, which drops it. */
INLINE void NAME(field)(int game, const VECTOR *z, const VECTOR *own, VECTOR *v) {
    VECTOR x = z[0], y = z[1], t = x * y, one = NAME(all)(1);
    if (game == BILINEAR) {
        v[0] = -(own[0] * y), v[1] = own[0] * x;
    } else if (game == TORUS) {
        VECTOR both = NAME(sine)(x - y);
        v[0] = both - own[0] * NAME(sine)(x), v[1] = both - own[0] * NAME(sine)(y);
    } else if (game == LORENZ) {
        v[0] = (REAL)10 * (y - x), v[1] = x * (own[0] - z[2]) - y, v[2] = t - (REAL)(8.0 / 3) * z[2];
    } else if (game == NON_SATURATING || game == MINIMAX) {
        /* One exponential and one division give sigma(t) and sigma(-t), each accurate in its tail. */
        VECTOR decay = NAME(exponential)(-t), up = one / (one + decay), down = decay * up;
        v[0] = -(y * (game == MINIMAX ? down : up)), v[1] = x * down - own[0] * y;
    } else if (game == WASSERSTEIN) {
        v[0] = -y, v[1] = x - own[0] * y;
    } else if (game == LEAST_SQUARES) {
        v[0] = -(y * t), v[1] = x * (one - t) - own[0] * y;
    } else if (game == HINGE) {
        v[0] = -y, v[1] = (VECTOR)((WORDS)x & (t < one)) - own[0] * y;
    }
}

/* v minus the weight times the product of the transposed Jacobian with v; for two of the games. */
INLINE void NAME(consensus)(int game, const VECTOR *z, const VECTOR *own, VECTOR *v) {
    const REAL weight = (REAL)CONSENSUS_WEIGHT;
    if (game == BILINEAR) {
        NAME(field)(game, z, own, v);
        VECTOR first = v[0] - weight * (own[0] * v[1]);
        v[1] += weight * (own[0] * v[0]), v[0] = first;
        return;
    }
    VECTOR x = z[0], y = z[1], t = x * y, one = NAME(all)(1);
    VECTOR decay = NAME(exponential)(-t), up = one / (one + decay), down = decay * up, slope = up * down;
    VECTOR push = -(y * up), pull = x * down - own[0] * y, bend = t * slope;
    v[0] = push + weight * (y * y * slope * push - (down - bend) * pull);
    v[1] = pull + weight * ((up + bend) * push + (x * x * slope + own[0]) * pull);
}

#define EACH for (int u = 0; u < units; u++)

/* One step of `units` registers of games, side by side in every stage, so that their latencies overlap; `old` is what
 * the method remembers. */
INLINE void NAME(step)(int game, int method, int size, int units, VECTOR (*z)[3], VECTOR (*old)[3], const VECTOR *rate,
                       const VECTOR (*own)[1]) {
    VECTOR v[MOST_UNITS][3], at[MOST_UNITS][3];
    if (method == CONSENSUS) EACH NAME(consensus)(game, z[u], own[u], v[u]);
    else EACH NAME(field)(game, z[u], own[u], v[u]);
    if (method == ALTERNATING) {
        EACH z[u][0] += rate[u] * v[u][0];
        EACH NAME(field)(game, z[u], own[u], v[u]);
        EACH z[u][1] += rate[u] * v[u][1];
        return;
    }
    if (method == EXTRAGRADIENT) {
        EACH for (int i = 0; i < 2; i++) at[u][i] = z[u][i] + rate[u] * v[u][i];
        EACH NAME(field)(game, at[u], own[u], v[u]);
    } else if (method == OPTIMISTIC) {
        EACH for (int i = 0; i < 2; i++) at[u][i] = v[u][i], v[u][i] = (v[u][i] + v[u][i]) - old[u][i], old[u][i] = at[u][i];
    } else if (method == CLASSICAL) {
        VECTOR sum[MOST_UNITS][3];
        EACH for (int i = 0; i < size; i++) sum[u][i] = v[u][i];
        for (int stage = 1; stage < 4; stage++) {
            EACH for (int i = 0; i < size; i++) at[u][i] = z[u][i] + (stage < 3 ? rate[u] * (REAL)0.5 : rate[u]) * v[u][i];
            EACH NAME(field)(game, at[u], own[u], v[u]);
            EACH for (int i = 0; i < size; i++) sum[u][i] += stage < 3 ? v[u][i] + v[u][i] : v[u][i];
        }
        EACH for (int i = 0; i < size; i++) v[u][i] = (REAL)(1.0 / 6) * sum[u][i];
    } else if (method == TSITOURAS) {
        VECTOR k[6][MOST_UNITS][3];
        EACH for (int i = 0; i < size; i++) k[0][u][i] = v[u][i];
        for (int stage = 1; stage <= 6; stage++) {
            EACH for (int i = 0; i < size; i++) {
                VECTOR sum = (REAL)TSIT5[stage - 1][0] * k[0][u][i];
                for (int j = 1; j < stage; j++) sum += (REAL)TSIT5[stage - 1][j] * k[j][u][i];
                if (stage < 6) at[u][i] = z[u][i] + rate[u] * sum;
                else v[u][i] = sum;
            }
            if (stage < 6) EACH NAME(field)(game, at[u], own[u], k[stage][u]);
        }
    }
    EACH for (int i = 0; i < size; i++) z[u][i] += rate[u] * v[u][i];
}

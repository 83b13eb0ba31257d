/* What simulate gathers along a run, and what outcomes.summarise decides from it, for one register of games. */
#define MOST_NUMBERS 20

#define MOST_PLAYERS 3

/* The players' numbers follow each other, as many for every player. */
INLINE long NAME(players_of)(long size) { return size == 3 ? 3 : 2; }

/* Boxes of stretches and quarters, and turns about the centre of the third quarter's box, counted in the fourth. */
typedef struct {
    VECTOR low[MOST_NUMBERS], high[MOST_NUMBERS]; /* of the quarter so far */
    VECTOR centre[MOST_NUMBERS], quarters[4][MOST_PLAYERS], amplitudes[MAX_SEGMENTS];
    VECTOR ends[2][MOST_NUMBERS]; /* of the second and the third quarter */
    VECTOR least[MOST_NUMBERS], most[MOST_NUMBERS]; /* the box of the points of crossing */
    WORDS axis[MOST_NUMBERS]; /* where the widest coordinate is */
    VECTOR signal, crossings, first, last;
    VECTOR samples[MAX_SEGMENTS + 1][MOST_NUMBERS]; /* the start, and the end of every stretch */
} NAME(Watch);

/* What is written for every game; `outcome` is 0 where only the final state is wanted. */
typedef struct {
    int8_t *outcome;
    REAL *rate, *period, *settled;
    long segments, length; /* samples per stretch */
    REAL tick;             /* steps, or time, between two samples */
    REAL tolerance, limit;
    int flow;
} NAME(Found);

INLINE VECTOR NAME(norm)(const VECTOR *z, long size) {
    VECTOR sum = z[0] * z[0];
    for (long i = 1; i < size; i++) sum += z[i] * z[i];
    return NAME(root)(sum);
}

INLINE VECTOR NAME(distance)(const VECTOR *one, const VECTOR *other, long size) {
    VECTOR sum = {};
    for (long i = 0; i < size; i++) sum += (one[i] - other[i]) * (one[i] - other[i]);
    return NAME(root)(sum);
}

INLINE void NAME(open_quarter)(NAME(Watch) * w, const VECTOR *z, long size) {
    for (long i = 0; i < size; i++) w->low[i] = w->high[i] = z[i];
}

/* Where the widest coordinate of the finished quarter is, and on which side of its centre the players are. */
static void NAME(watch_turns)(NAME(Watch) * w, const VECTOR *z, long size) {
    VECTOR widest = w->high[0] - w->low[0];
    for (long i = 0; i < size; i++) {
        VECTOR width = w->high[i] - w->low[i];
        w->centre[i] = (w->low[i] + w->high[i]) / (REAL)2;
        w->axis[i] = i ? width > widest : (WORDS){} - 1;
        widest = NAME(larger)(width, widest);
    }
    w->signal = z[0] - w->centre[0];
    for (long i = 1; i < size; i++) w->signal = NAME(pick)(w->axis[i], z[i] - w->centre[i], w->signal);
    w->crossings = w->first = w->last = (VECTOR){};
    for (long i = 0; i < size; i++) w->least[i] = w->most[i] = (VECTOR){};
}

INLINE void NAME(turn)(NAME(Watch) * w, VECTOR before, VECTOR now, long sample, REAL tick, const VECTOR *old,
                       const VECTOR *z, long size) {
    WORDS upward = (before < (REAL)0) & (now >= (REAL)0);
    if (!NAME(any)(upward)) return;
    VECTOR part = NAME(pick)(upward, now / (now - before), (VECTOR){}), when = ((REAL)sample - part) * tick;
    WORDS begun = w->crossings > (REAL)0;
    for (long i = 0; i < size; i++) {
        VECTOR point = z[i] - part * (z[i] - old[i]);
        w->least[i] = NAME(pick)(upward & ~(begun & (w->least[i] < point)), point, w->least[i]);
        w->most[i] = NAME(pick)(upward & ~(begun & (w->most[i] > point)), point, w->most[i]);
    }
    w->first = NAME(pick)(upward & (w->crossings == (REAL)0), when, w->first);
    w->last = NAME(pick)(upward, when, w->last);
    w->crossings += NAME(pick)(upward, NAME(all)(1), (VECTOR){});
}

/* A stretch is over: its box joins that of the quarter, and a sample is taken. */
static void NAME(close_stretch)(NAME(Watch) * w, long stretch, const NAME(Found) * found, const VECTOR *z,
                                const VECTOR *low, const VECTOR *high, long size) {
    w->amplitudes[stretch] = NAME(distance)(high, low, size);
    for (long i = 0; i < size; i++) {
        w->low[i] = NAME(smaller)(low[i], w->low[i]), w->high[i] = NAME(larger)(high[i], w->high[i]);
        w->samples[stretch + 1][i] = z[i];
    }
    long quarter = 4 * stretch / found->segments, next = 4 * (stretch + 1) / found->segments;
    if (next == quarter) return;
    for (long p = 0, players = NAME(players_of)(size), own = size / players; p < players; p++)
        w->quarters[quarter][p] = NAME(distance)(w->high + p * own, w->low + p * own, own);
    if (next == 2 || next == 3)
        for (long i = 0; i < size; i++) w->ends[next - 2][i] = z[i];
    if (next == 3) NAME(watch_turns)(w, z, size);
    NAME(open_quarter)(w, z, size);
}

INLINE VECTOR NAME(slope)(const NAME(Watch) * w, const NAME(Found) * found, VECTOR floor, VECTOR ceiling) {
    WORDS leading = (WORDS){} - 1, count = {};
    WORDS valid[MAX_SEGMENTS];
    VECTOR one = NAME(all)(1), total = {}, mean = {}, spread = {}, sum = {};
    const REAL stretch = found->length * found->tick;
    for (long k = 0; k < found->segments; k++) {
        leading &= (w->amplitudes[k] > floor) & (w->amplitudes[k] < ceiling);
        valid[k] = leading, count -= leading;
    }
    WORDS half = count >> 1;
    for (long k = 0; k < found->segments; k++) {
        valid[k] &= half <= (WORD)k;
        VECTOR weight = NAME(pick)(valid[k], one, (VECTOR){});
        total += weight, mean += weight * ((k + (REAL)0.5) * stretch);
    }
    mean /= NAME(larger)(total, one);
    for (long k = 0; k < found->segments; k++) {
        VECTOR time = (k + (REAL)0.5) * stretch - mean;
        VECTOR logs = NAME(logarithm)(NAME(pick)(valid[k], w->amplitudes[k], one));
        spread += NAME(pick)(valid[k], time * time, (VECTOR){});
        sum += NAME(pick)(valid[k], time * logs, (VECTOR){});
    }
    WORDS enough = (total >= (REAL)3) & (spread > (REAL)0);
    return NAME(pick)(enough, sum / spread, NAME(all)(NAN));
}

/* When the distance to the end has fallen for good below the tolerance times its largest value. */
INLINE VECTOR NAME(settling)(const NAME(Watch) * w, const NAME(Found) * found, const VECTOR *end, VECTOR floor,
                             long size) {
    VECTOR distances[MAX_SEGMENTS + 2], most = {}, last = NAME(all)(-1), before = {}, after = {};
    for (long k = 0; k <= found->segments; k++)
        distances[k] = NAME(distance)(w->samples[k], end, size), most = NAME(larger)(distances[k], most);
    distances[found->segments + 1] = (VECTOR){};
    VECTOR level = most * found->tolerance, one = NAME(all)(1);
    for (long k = 0; k <= found->segments; k++) {
        WORDS above = distances[k] > level;
        last = NAME(pick)(above, NAME(all)(k), last);
        before = NAME(pick)(above, distances[k], before), after = NAME(pick)(above, distances[k + 1], after);
    }
    after = NAME(larger)(after, floor);
    WORDS falls = (before > after) & (level > after) & (last >= (REAL)0);
    VECTOR fall = NAME(pick)(falls, before / level, one), whole = NAME(pick)(falls, before / after, one + one);
    VECTOR part = NAME(pick)(falls, NAME(logarithm)(fall) / NAME(logarithm)(whole), one);
    return NAME(larger)((last + part) * (found->length * found->tick), (VECTOR){});
}

/* Where the field is wanted: at the start, at the ends of the last three quarters, and twice beside the last one. */
#define POINTS 6

static void NAME(points)(const NAME(Watch) * w, const NAME(Found) * found, const VECTOR *end, long size,
                         VECTOR points[POINTS][MOST_NUMBERS]) {
    const REAL root = sizeof(REAL) == 4 ? (REAL)(0x1p-11 * 1.4142135623730951 / 4) : (REAL)(0x1p-26 / 4);
    long players = NAME(players_of)(size), own = size / players;
    for (long p = 0; p < players; p++) {
        const VECTOR *here = end + p * own;
        VECTOR reach = NAME(distance)(here, w->samples[0] + p * own, own), norm = NAME(norm)(here, own);
        for (int q = 0; q < 4; q++) reach = NAME(larger)(w->quarters[q][p], reach);
        VECTOR floor = EPSILON * (64 * norm + 4), resolution = 64 * EPSILON * norm + EPSILON;
        if (found->flow) floor = NAME(larger)(30 * EPSILON * (1 + norm), floor);
        REAL fine = found->tolerance < root ? found->tolerance : root;
        VECTOR share = NAME(pick)(w->quarters[3][p] <= floor, NAME(all)(fine), NAME(all)(found->tolerance));
        VECTOR probe = NAME(larger)(share * reach, resolution) / (REAL)sqrt(own);
        for (long i = 0; i < own; i++) {
            long place = p * own + i;
            points[0][place] = w->samples[0][place], points[1][place] = w->ends[0][place];
            points[2][place] = w->ends[1][place], points[3][place] = here[i];
            points[4][place] = here[i] + probe, points[5][place] = place % 2 ? here[i] - probe : here[i] + probe;
        }
    }
}

static void NAME(decide)(const NAME(Watch) * w, const NAME(Found) * found, const VECTOR *end,
                         VECTOR fields[POINTS][MOST_NUMBERS], long size, long at, long count) {
    const VECTOR *begin = w->samples[0];
    long players = NAME(players_of)(size), own = size / players;
    VECTOR one = NAME(all)(1), travelled = NAME(distance)(end, begin, size), quarters[4] = {};
    VECTOR start = NAME(norm)(begin, size), final = NAME(norm)(end, size), bound = found->limit * NAME(larger)(one, start);
    VECTOR floor = EPSILON * (64 * final + 4), early = EPSILON * (64 * start + 4);
    if (found->flow) { /* samples of a solver have its error: here, of steps of a fixed length, only rounding */
        floor = NAME(larger)(30 * EPSILON * (1 + final), floor);
        early = NAME(larger)(30 * EPSILON * (1 + start), early);
    }
    VECTOR late = {}, widest = {};
    for (long k = 0; k < found->segments; k++) {
        widest = NAME(larger)(w->amplitudes[k], widest);
        if (k >= 3 * found->segments / 4) late = NAME(larger)(w->amplitudes[k], late);
    }
    for (int q = 0; q < 4; q++) {
        for (long p = 0; p < players; p++) quarters[q] += w->quarters[q][p] * w->quarters[q][p];
        quarters[q] = NAME(root)(quarters[q]);
    }
    VECTOR first = quarters[0], second = quarters[1], third = quarters[2], fourth = quarters[3];
    VECTOR turns = NAME(larger)(w->crossings - one, one), turn = (w->last - w->first) / turns;
    WORDS whole = (WORDS){} - 1, finite = travelled - travelled == (REAL)0;
    WORDS inside = finite & (travelled <= bound) & (fourth - fourth == (REAL)0), drifting = fourth > (REAL)1.5 * late;
    WORDS converged = whole, resting = whole, stopped = whole, alike = whole, numbers = whole, apart = {};
    WORDS closed = size > 1 ? turn >= (REAL)10 * found->tick : (WORDS){};
    for (long p = 0; p < players; p++) {
        const VECTOR *z = end + p * own, q3 = w->quarters[2][p], q4 = w->quarters[3][p];
        VECTOR reach = NAME(distance)(z, begin + p * own, own), norm = NAME(norm)(z, own), norms[POINTS], change = {};
        for (int q = 0; q < 4; q++) reach = NAME(larger)(w->quarters[q][p], reach);
        VECTOR low = EPSILON * (64 * norm + 4);
        if (found->flow) low = NAME(larger)(30 * EPSILON * (1 + norm), low);
        for (int k = 0; k < POINTS; k++) {
            norms[k] = NAME(norm)(fields[k] + p * own, own);
            if (k < 4) continue;
            VECTOR moved = NAME(distance)(fields[k] + p * own, fields[3] + p * own, own);
            change = NAME(larger)(NAME(pick)(moved - moved == (REAL)0, moved, (VECTOR){}), change);
        }
        VECTOR d3 = NAME(distance)(w->ends[1] + p * own, w->ends[0] + p * own, own);
        VECTOR d4 = NAME(distance)(z, w->ends[1] + p * own, own);
        WORDS rests = q4 <= low, shrunk = (q4 <= found->tolerance * reach) & (q4 < (REAL)0.9 * q3);
        WORDS creeping = ~rests & (d4 >= (REAL)0.9 * q4) & (q4 >= (REAL)0.3 * q3) & (norms[3] <= (REAL)0.95 * norms[2]);
        creeping &= (norms[3] * d4) * (norms[1] - norms[2]) >= (REAL)0.98 * (norms[2] * d3) * (norms[2] - norms[3]);
        VECTOR difference = q4 - q3, width = (REAL)0.05 * q3;
        resting &= rests | shrunk, numbers &= norms[3] - norms[3] == (REAL)0;
        converged &= (rests | shrunk) & (norms[3] <= 4 * change) & ~creeping;
        stopped &= (rests & ~drifting) | (shrunk & (norms[3] >= (REAL)0.95 * norms[2]));
        alike &= ((difference <= width) & (-difference <= width)) | rests | shrunk;
        VECTOR section = NAME(distance)(w->most + p * own, w->least + p * own, own);
        closed &= section <= (REAL)0.02 * q4 + low, apart |= section > (REAL)0.1 * q4 + low;
    }
    stopped &= numbers;
    WORDS growing = (fourth > (REAL)1.2 * third) & (fourth > (REAL)2 * first), several = w->crossings >= (REAL)3;
    WORDS steady = alike & several & ~resting, cycling = steady & closed;
    VECTOR change = fourth - third, quarter = (REAL)0.25 * third;
    WORDS wandering = (change <= quarter) & (-change <= quarter) & (apart | (change * (third - second) <= (REAL)0));
    WORDS failed = ~finite & ((widest <= bound) | (widest - widest != (REAL)0));
    WORDS outcome = (WORDS){} + UNDECIDED, doubt = (steady | wandering) & several;
    outcome = (outcome & ~doubt) | (IN_DOUBT & doubt);
    outcome = (outcome & ~cycling) | (CYCLING & cycling);
    outcome = (outcome & ~growing) | (DIVERGED & growing);
    outcome = (outcome & ~stopped) | (STALLED & stopped);
    outcome = outcome & ~converged;
    outcome = (outcome & inside) | (DIVERGED & ~inside);
    outcome = (outcome & ~failed) | (IN_DOUBT & failed);
    VECTOR none = NAME(all)(NAN);
    VECTOR period = NAME(pick)(outcome == CYCLING, turn, none);
    VECTOR rate = NAME(slope)(w, found, NAME(pick)(fourth <= first, floor, early), bound);
    VECTOR rounding = EPSILON * (64 * final + 4);
    VECTOR settled = NAME(pick)(outcome == CONVERGED, NAME(settling)(w, found, end, rounding, size), none);
    for (long lane = 0; lane < count; lane++) found->outcome[at + lane] = (int8_t)outcome[lane];
    memcpy(found->rate + at, &rate, count * sizeof(REAL));
    memcpy(found->period + at, &period, count * sizeof(REAL));
    memcpy(found->settled + at, &settled, count * sizeof(REAL));
}

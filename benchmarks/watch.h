/* What simulate gathers along a run, and what outcomes.summarise decides from it, for one register of games. */
#define MOST_NUMBERS 20

/* Boxes of stretches and quarters, and turns about the centre of the third quarter's box, counted in the fourth. */
typedef struct {
    VECTOR low[MOST_NUMBERS], high[MOST_NUMBERS]; /* of the quarter so far */
    VECTOR centre[MOST_NUMBERS], quarters[4], amplitudes[MAX_SEGMENTS];
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
}

INLINE void NAME(turn)(NAME(Watch) * w, VECTOR before, VECTOR now, long sample, REAL tick) {
    WORDS upward = (before < (REAL)0) & (now >= (REAL)0);
    if (!NAME(any)(upward)) return;
    VECTOR when = ((REAL)sample - now / (now - before)) * tick;
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
    w->quarters[quarter] = NAME(distance)(w->high, w->low, size);
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

static void NAME(decide)(const NAME(Watch) * w, const NAME(Found) * found, const VECTOR *end, VECTOR before,
                         VECTOR after, long size, long at, long count) {
    const VECTOR *begin = w->samples[0], *quarters = w->quarters;
    VECTOR one = NAME(all)(1), travelled = NAME(distance)(end, begin, size);
    VECTOR start = NAME(norm)(begin, size), final = NAME(norm)(end, size), bound = found->limit * NAME(larger)(one, start);
    VECTOR floor = EPSILON * (64 * final + 4), early = EPSILON * (64 * start + 4);
    if (found->flow) { /* samples of a solver have its error: here, of steps of a fixed length, only rounding */
        floor = NAME(larger)(30 * EPSILON * (1 + final), floor);
        early = NAME(larger)(30 * EPSILON * (1 + start), early);
    }
    VECTOR reach = NAME(larger)(NAME(larger)(quarters[0], quarters[1]), NAME(larger)(quarters[2], quarters[3])), late = {};
    for (long k = 0; k < found->segments; k++) {
        reach = NAME(larger)(reach, w->amplitudes[k]);
        if (k >= 3 * found->segments / 4) late = NAME(larger)(late, w->amplitudes[k]);
    }
    VECTOR first = quarters[0], third = quarters[2], fourth = quarters[3];
    WORDS inside = (travelled <= bound) & (fourth - fourth == (REAL)0);
    WORDS calmed = after <= (REAL)0.1 * before, drifting = fourth > (REAL)1.5 * late;
    WORDS converged = (fourth <= floor) & (calmed | ~drifting);
    converged |= (fourth <= found->tolerance * reach) & (fourth < (REAL)0.9 * third) & calmed;
    WORDS growing = (fourth > (REAL)1.2 * third) & (fourth > (REAL)2 * first);
    VECTOR change = fourth - third, width = (REAL)0.05 * third;
    WORDS steady = (change <= width) & (-change <= width) & (w->crossings >= (REAL)3);
    WORDS outcome = (WORDS){} + UNDECIDED;
    outcome = (outcome & ~steady) | (CYCLING & steady);
    outcome = (outcome & ~growing) | (DIVERGED & growing);
    outcome = outcome & ~converged;
    outcome = (outcome & inside) | (DIVERGED & ~inside);
    VECTOR turns = NAME(larger)(w->crossings - one, one), none = NAME(all)(NAN);
    VECTOR period = NAME(pick)(outcome == CYCLING, (w->last - w->first) / turns, none);
    VECTOR rate = NAME(slope)(w, found, NAME(pick)(fourth <= first, floor, early), bound);
    VECTOR rounding = EPSILON * (64 * final + 4);
    VECTOR settled = NAME(pick)(outcome == CONVERGED, NAME(settling)(w, found, end, rounding, size), none);
    for (long lane = 0; lane < count; lane++) found->outcome[at + lane] = (int8_t)outcome[lane];
    memcpy(found->rate + at, &rate, count * sizeof(REAL));
    memcpy(found->period + at, &period, count * sizeof(REAL));
    memcpy(found->settled + at, &settled, count * sizeof(REAL));
}

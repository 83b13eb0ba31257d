/* The benchmark games in CUDA, written by hand: one thread owns one game for its whole life, state in registers, one
 * store at the end. Compiled on the spot by gpu.py. Every trajectory also runs on the host, for the tests.
 */
#include <cmath>
#include <cuda_runtime.h>

enum { DIRAC, BILINEAR, LORENZ };
/* Those of dynamics.Outcome; IN_DOUBT: the library looks a second time, and this program does not. */
enum { CONVERGED, CYCLING, DIVERGED, UNDECIDED, CHAOTIC, STALLED, NOT_A_NUMBER, IN_DOUBT = -2 };
#define BOTH __host__ __device__ __forceinline__
#define STRETCHES 64
#define THREADS 128

/* Arrays of all games: states (numbers, games), rate and number (games,), the rest only where outcomes are wanted. */
template <typename T> struct Work {
    T *states;
    const T *rate, *number;
    long games, steps;
    T *amplitudes; /* (64, games) */
    signed char *outcome;
    T *slope, *period;
    T tolerance, limit;
};

template <typename T> BOTH T decay_of(T t) { return exp(-t); }
template <> BOTH float decay_of<float>(float t) { return expf(-t); }

template <typename T, int GAME> BOTH void field(const T *z, T number, T *v) {
    if (GAME == LORENZ) {
        v[0] = T(10) * (z[1] - z[0]);
        v[1] = z[0] * (number - z[2]) - z[1];
        v[2] = z[0] * z[1] - T(8.0 / 3) * z[2];
    } else if (GAME == BILINEAR) {
        v[0] = -number * z[1], v[1] = number * z[0];
    } else { /* one exponential and one division give both tails of the logistic function */
        T t = z[0] * z[1], top = T(sizeof(T) == 4 ? 86 : 700), decay = decay_of(t > top ? top : t < -top ? -top : t);
        T up = T(1) / (T(1) + decay), down = decay * up;
        v[0] = -z[1] * up, v[1] = z[0] * down - number * z[1];
    }
}

/* One step of the method of Tsitouras 2011. */
template <typename T, int GAME, int SIZE> BOTH void tsit5(T *z, T rate, T number) {
    T k[6][SIZE], at[SIZE];
    field<T, GAME>(z, number, k[0]);
#define STAGE(TARGET, SUM) _Pragma("unroll") for (int i = 0; i < SIZE; i++) TARGET[i] = z[i] + rate * (SUM);
    STAGE(at, T(0.161) * k[0][i])
    field<T, GAME>(at, number, k[1]);
    STAGE(at, T(-0.008480655492356989) * k[0][i] + T(0.335480655492357) * k[1][i])
    field<T, GAME>(at, number, k[2]);
    STAGE(at, T(2.8971530571054935) * k[0][i] + T(-6.359448489975075) * k[1][i] + T(4.3622954328695815) * k[2][i])
    field<T, GAME>(at, number, k[3]);
    STAGE(at,
          T(5.325864828439257) * k[0][i] + T(-11.748883564062828) * k[1][i] + T(7.4955393428898365) * k[2][i] +
              T(-0.09249506636175525) * k[3][i])
    field<T, GAME>(at, number, k[4]);
    STAGE(at,
          T(5.86145544294642) * k[0][i] + T(-12.92096931784711) * k[1][i] + T(8.159367898576159) * k[2][i] +
              T(-0.071584973281401) * k[3][i] + T(-0.028269050394068383) * k[4][i])
    field<T, GAME>(at, number, k[5]);
    STAGE(z,
          T(0.09646076681806523) * k[0][i] + T(0.01) * k[1][i] + T(0.4798896504144996) * k[2][i] +
              T(1.379008574103742) * k[3][i] + T(-3.290069515436081) * k[4][i] + T(2.324710524099774) * k[5][i])
#undef STAGE
}

/* Lorenz: a step of length `rate`; otherwise simultaneous descent. */
template <typename T, int GAME, int SIZE> BOTH void step(T *z, T rate, T number) {
    if constexpr (GAME != LORENZ) {
        T v[SIZE];
        field<T, GAME>(z, number, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) z[i] += rate * v[i];
    } else tsit5<T, GAME, SIZE>(z, rate, number);
}

template <typename T, int SIZE> BOTH T norm(const T *a, const T *b) {
    T sum = 0;
    for (int i = 0; i < SIZE; i++) sum += b ? (a[i] - b[i]) * (a[i] - b[i]) : a[i] * a[i];
    return sqrt(sum);
}

template <typename T, int GAME, int SIZE> BOTH void plain(const Work<T> &a, long game) {
    T z[SIZE], rate = a.rate[game], number = a.number[game];
#pragma unroll
    for (int i = 0; i < SIZE; i++) z[i] = a.states[i * a.games + game];
    for (long s = 0; s < a.steps; s++) step<T, GAME, SIZE>(z, rate, number);
#pragma unroll
    for (int i = 0; i < SIZE; i++) a.states[i * a.games + game] = z[i];
}

/* Likewise, with the outcome, the rate and the period by the rules of dynamics.simulate; two numbers per game. */
template <typename T, int GAME> BOTH void watched(const Work<T> &a, long game) {
    const T epsilon = sizeof(T) == 4 ? T(0x1p-23) : T(0x1p-52);
    const long length = a.steps / STRETCHES;
    T z[2] = {a.states[game], a.states[a.games + game]}, rate = a.rate[game], number = a.number[game];
    T begin[2] = {z[0], z[1]}, quarters[4], widths[4][2], ends[2][2], largest = 0, late = 0, centre = 0, signal = 0;
    T least[2] = {0, 0}, most[2] = {0, 0};
    T first_turn = 0, last_turn = 0;
    int turns = 0, second = 0;
    T box[4];
    for (int k = 0; k < STRETCHES; k++) {
        if (k % 16 == 0) {
            if (k >= 32) ends[k / 16 - 2][0] = z[0], ends[k / 16 - 2][1] = z[1];
            if (k == 48) {
                second = box[3] - box[2] > box[1] - box[0];
                centre = second ? (box[2] + box[3]) / 2 : (box[0] + box[1]) / 2;
                signal = (second ? z[1] : z[0]) - centre;
            }
            box[0] = box[1] = z[0], box[2] = box[3] = z[1];
        }
        T low0 = z[0], high0 = z[0], low1 = z[1], high1 = z[1];
        for (long s = 0; s < length; s++) {
            const T old[2] = {z[0], z[1]};
            step<T, GAME, 2>(z, rate, number);
            low0 = z[0] < low0 ? z[0] : low0, high0 = z[0] > high0 ? z[0] : high0;
            low1 = z[1] < low1 ? z[1] : low1, high1 = z[1] > high1 ? z[1] : high1;
            if (k >= 48) {
                T now = (second ? z[1] : z[0]) - centre;
                if (signal < 0 && now >= 0) {
                    const T part = now / (now - signal);
                    for (int i = 0; i < 2; i++) {
                        const T point = z[i] - part * (z[i] - old[i]);
                        least[i] = turns && least[i] < point ? least[i] : point;
                        most[i] = turns && most[i] > point ? most[i] : point;
                    }
                    last_turn = T(k * length + s + 1) - part;
                    if (turns++ == 0) first_turn = last_turn;
                }
                signal = now;
            }
        }
        T amplitude = sqrt((high0 - low0) * (high0 - low0) + (high1 - low1) * (high1 - low1));
        a.amplitudes[k * a.games + game] = amplitude;
        largest = amplitude > largest ? amplitude : largest;
        if (k >= 48) late = amplitude > late ? amplitude : late;
        box[0] = box[0] < low0 ? box[0] : low0, box[1] = box[1] > high0 ? box[1] : high0;
        box[2] = box[2] < low1 ? box[2] : low1, box[3] = box[3] > high1 ? box[3] : high1;
        if (k % 16 == 15) {
            T width = box[1] - box[0], height = box[3] - box[2];
            widths[k / 16][0] = width, widths[k / 16][1] = height;
            quarters[k / 16] = sqrt(width * width + height * height);
        }
    }
    const T start = norm<T, 2>(begin, (T *)0), end = norm<T, 2>(z, (T *)0), travelled = norm<T, 2>(z, begin);
    const T bound = a.limit * (start > 1 ? start : T(1)), third = quarters[2], fourth = quarters[3];
    const T floor = epsilon * (64 * end + 4), early = epsilon * (64 * start + 4);
    /* The field at the start, at the ends of the last three quarters, and twice beside the last one. */
    const T root = sizeof(T) == 4 ? T(0x1p-11 * 1.4142135623730951 / 4) : T(0x1p-26 / 4);
    T points[6][2], fields[6][2];
    for (int i = 0; i < 2; i++) {
        T size = fabs(z[i]), reach = fabs(z[i] - begin[i]), low = epsilon * (64 * size + 4);
        for (int q = 0; q < 4; q++) reach = widths[q][i] > reach ? widths[q][i] : reach;
        T share = widths[3][i] <= low && root < a.tolerance ? root : a.tolerance, resolution = 64 * epsilon * size + epsilon;
        T probe = share * reach > resolution ? share * reach : resolution;
        points[0][i] = begin[i], points[1][i] = ends[0][i], points[2][i] = ends[1][i], points[3][i] = z[i];
        points[4][i] = z[i] + probe, points[5][i] = i ? z[i] - probe : z[i] + probe;
    }
    for (int k = 0; k < 6; k++) field<T, GAME>(points[k], number, fields[k]);
    const bool drifting = fourth > T(1.5) * late, finite = travelled - travelled == 0;
    const T turn = (last_turn - first_turn) / (turns > 1 ? turns - 1 : 1);
    bool converged = true, settled = true, stopped = true, alike = true, closed = turn >= 10, apart = false;
    for (int i = 0; i < 2; i++) {
        T size = fabs(z[i]), reach = fabs(z[i] - begin[i]), low = epsilon * (64 * size + 4), change = 0, f[4];
        for (int q = 0; q < 4; q++) reach = widths[q][i] > reach ? widths[q][i] : reach, f[q] = fabs(fields[q][i]);
        for (int k = 4; k < 6; k++) {
            T moved = fabs(fields[k][i] - fields[3][i]);
            change = moved > change && moved - moved == 0 ? moved : change;
        }
        const T q3 = widths[2][i], q4 = widths[3][i], d3 = fabs(ends[1][i] - ends[0][i]), d4 = fabs(z[i] - ends[1][i]);
        const bool rests = q4 <= low, shrunk = q4 <= a.tolerance * reach && q4 < T(0.9) * q3;
        const bool creeping = !rests && d4 >= T(0.9) * q4 && q4 >= T(0.3) * q3 && f[3] <= T(0.95) * f[2] &&
                              (f[3] * d4) * (f[1] - f[2]) >= T(0.98) * (f[2] * d3) * (f[2] - f[3]);
        settled = settled && (rests || shrunk);
        converged = converged && (rests || shrunk) && f[3] <= 4 * change && !creeping;
        stopped = stopped && f[3] - f[3] == 0 && ((rests && !drifting) || (shrunk && f[3] >= T(0.95) * f[2]));
        alike = alike && (fabs(q4 - q3) <= T(0.05) * q3 || rests || shrunk);
        closed = closed && most[i] - least[i] <= T(0.02) * q4 + low;
        apart = apart || most[i] - least[i] > T(0.1) * q4 + low;
    }
    const bool steady = alike && turns >= 3 && !settled;
    const bool wandering = fabs(fourth - third) <= T(0.25) * third && (apart || (fourth - third) * (third - quarters[1]) <= 0);
    int outcome = UNDECIDED;
    if (!finite && (largest <= bound || largest - largest != 0)) outcome = IN_DOUBT;
    else if (!(travelled <= bound && fourth - fourth == 0)) outcome = DIVERGED;
    else if (converged) outcome = CONVERGED;
    else if (stopped) outcome = STALLED;
    else if (fourth > T(1.2) * third && fourth > 2 * quarters[0]) outcome = DIVERGED;
    else if (steady && closed) outcome = CYCLING;
    else if ((steady || wandering) && turns >= 3) outcome = IN_DOUBT;
    const T lowest = fourth <= quarters[0] ? floor : early;
    int count = 0;
    while (count < STRETCHES) {
        T amplitude = a.amplitudes[count * a.games + game];
        if (!(amplitude > lowest && amplitude < bound)) break;
        count++;
    }
    T mean = 0, spread = 0, sum = 0;
    for (int k = count / 2; k < count; k++) mean += (k + T(0.5)) * length;
    mean /= count > count / 2 ? count - count / 2 : 1;
    for (int k = count / 2; k < count; k++) {
        T time = (k + T(0.5)) * length - mean;
        spread += time * time, sum += time * T(log(a.amplitudes[k * a.games + game]));
    }
    a.outcome[game] = (signed char)outcome;
    a.slope[game] = count - count / 2 >= 3 && spread > 0 ? sum / spread : T(NAN);
    a.period[game] = outcome == CYCLING ? turn : T(NAN);
    a.states[game] = z[0], a.states[a.games + game] = z[1];
}

template <typename T, int GAME, int SIZE, bool WATCHED> __global__ void __launch_bounds__(THREADS) kernel(Work<T> a) {
    long game = (long)blockIdx.x * THREADS + threadIdx.x;
    if (game >= a.games) return;
    if constexpr (WATCHED) watched<T, GAME>(a, game);
    else plain<T, GAME, SIZE>(a, game);
}

template <typename T, int GAME, int SIZE, bool WATCHED> int run(Work<T> a, int repeats, int on_host, float *times) {
    if (on_host) {
        for (long game = 0; game < a.games; game++)
            if constexpr (WATCHED) watched<T, GAME>(a, game);
            else plain<T, GAME, SIZE>(a, game);
        return 0;
    }
    Work<T> device = a;
    T *begin = 0;
    size_t row = a.games * sizeof(T);
    cudaEvent_t from, to;
    cudaEventCreate(&from), cudaEventCreate(&to);
    cudaMalloc(&begin, SIZE * row), cudaMalloc(&device.states, SIZE * row);
    cudaMalloc((void **)&device.rate, row), cudaMalloc((void **)&device.number, row);
    cudaMemcpy(begin, a.states, SIZE * row, cudaMemcpyHostToDevice);
    cudaMemcpy((void *)device.rate, a.rate, row, cudaMemcpyHostToDevice);
    cudaMemcpy((void *)device.number, a.number, row, cudaMemcpyHostToDevice);
    if (WATCHED) {
        cudaMalloc(&device.amplitudes, STRETCHES * row), cudaMalloc(&device.outcome, a.games);
        cudaMalloc(&device.slope, row), cudaMalloc(&device.period, row);
    }
    for (int i = 0; i <= repeats; i++) { /* the first one warms up */
        cudaMemcpy(device.states, begin, SIZE * row, cudaMemcpyDeviceToDevice);
        cudaEventRecord(from);
        kernel<T, GAME, SIZE, WATCHED><<<(a.games + THREADS - 1) / THREADS, THREADS>>>(device);
        cudaEventRecord(to), cudaEventSynchronize(to);
        if (i) cudaEventElapsedTime(&times[i - 1], from, to);
    }
    cudaMemcpy(a.states, device.states, SIZE * row, cudaMemcpyDeviceToHost);
    if (WATCHED) {
        cudaMemcpy(a.outcome, device.outcome, a.games, cudaMemcpyDeviceToHost);
        cudaMemcpy(a.slope, device.slope, row, cudaMemcpyDeviceToHost);
        cudaMemcpy(a.period, device.period, row, cudaMemcpyDeviceToHost);
        cudaFree(device.amplitudes), cudaFree(device.outcome), cudaFree(device.slope), cudaFree(device.period);
    }
    cudaFree(begin), cudaFree(device.states), cudaFree((void *)device.rate), cudaFree((void *)device.number);
    cudaEventDestroy(from), cudaEventDestroy(to);
    return (int)cudaGetLastError();
}

/* Returns 0, or the number of an error of CUDA. times: milliseconds of every repetition. */
#define EXPORT(NAME, T)                                                                                            \
    extern "C" int NAME(int game, T *states, const T *rate, const T *number, long games, long steps, T *amplitudes, \
                        signed char *outcome, T *slope, T *period, int repeats, int on_host, float *times) {       \
        Work<T> a = {states, rate, number, games, steps, amplitudes, outcome, slope, period, T(1e-3), T(1e6)};     \
        if (game == LORENZ) return run<T, LORENZ, 3, false>(a, repeats, on_host, times);                           \
        if (game == BILINEAR)                                                                                      \
            return outcome ? run<T, BILINEAR, 2, true>(a, repeats, on_host, times)                                 \
                           : run<T, BILINEAR, 2, false>(a, repeats, on_host, times);                               \
        return outcome ? run<T, DIRAC, 2, true>(a, repeats, on_host, times)                                        \
                       : run<T, DIRAC, 2, false>(a, repeats, on_host, times);                                      \
    }

EXPORT(run_f32, float)
EXPORT(run_f64, double)

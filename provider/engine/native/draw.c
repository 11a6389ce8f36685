/* What a draw needs of a row of logits, in two passes over it. */

#include "lanes.h"

#define BLOCK 256 /* tokens whose weights are summed up together */
#define SIDE 4    /* vectors at a time, so that none waits for another */

/* The rest of a row that ends within a vector, minus infinity beyond it. */
INLINE f32 rest(const float *from, int64_t count) {
    f32 lanes = all(-__builtin_inff());
    for (int64_t lane = 0; lane < count; lane++) lanes[lane] = from[lane];
    return lanes;
}

static float maximum(const float *x, int64_t count) {
    f32 most[SIDE];
    int64_t at = 0;
    for (int n = 0; n < SIDE; n++) most[n] = all(-__builtin_inff());
    for (; at + SIDE * LANES <= count; at += SIDE * LANES)
        for (int n = 0; n < SIDE; n++) most[n] = larger(*(const f32 *)(x + at + LANES * n), most[n]);
    for (; at + LANES <= count; at += LANES) most[0] = larger(*(const f32 *)(x + at), most[0]);
    most[0] = larger(rest(x + at, count - at), most[0]);
    for (int n = 1; n < SIDE; n++) most[0] = larger(most[n], most[0]);
    return largest(most[0]);
}

/* Sums by blocks of exp((x[i] - m) * scale) for `count` numbers, and their maximum m as the result.
 * NaN makes its block's sum NaN, infinity that of its block. */
float weigh(const float *x, float *sums, int64_t count, float scale) {
    float most = maximum(x, count);
    for (int64_t start = 0; start < count; start += BLOCK, sums++) {
        int64_t at = start, end = count - start < BLOCK ? count : start + BLOCK;
        f32 totals[SIDE];
        for (int n = 0; n < SIDE; n++) totals[n] = all(0.0f);
        for (; at + SIDE * LANES <= end; at += SIDE * LANES)
            for (int n = 0; n < SIDE; n++)
                totals[n] += power((*(const f32 *)(x + at + LANES * n) - most) * scale);
        for (; at + LANES <= end; at += LANES)
            totals[0] += power((*(const f32 *)(x + at) - most) * scale);
        if (at < end) totals[0] += power((rest(x + at, end - at) - most) * scale);
        *sums = sum((totals[0] + totals[1]) + (totals[2] + totals[3]));
    }
    return most;
}

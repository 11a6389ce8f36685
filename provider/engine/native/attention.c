/* Attention of a packed step in bfloat16: each row's new tokens over the row's own keys and values.
 *
 * Sums, softmax and weights are float32. A query's result depends on its own row up to its own
 * position and on nothing else, to the last bit: not on how many tokens the row has in this step,
 * nor on other rows. Keys and values are widened once per block for all queries that read them. */

#include <stddef.h>
#include <string.h>

#include "lanes.h"

#define BLOCK 32    /* tokens whose keys and values lie in the nearest cache */
#define WIDEST 256  /* of a head */
#define TOGETHER 16 /* queries of one key/value head that share the widened block */

/* One row of the step. Keys and values are those of the first layer, `[token][kv_heads][dim]`. */
typedef struct {
    int64_t offset;   /* of the first new token in the step */
    int64_t count;    /* new tokens */
    int64_t position; /* of the first new token in the row */
    const bf16 *keys, *values;
    int64_t layer; /* elements from one layer to the next */
} Row;

typedef struct {
    const bf16 *query; /* of this head's first query head, at the row's first token */
    bf16 *out;
    int64_t query_stride, out_stride, token_stride;
    int groups, dim;
    float scale;
    int64_t window; /* tokens that a query sees, itself included; 0 is all */
} Head;

/* Halves the lanes of two vectors: sums of neighbours, a's and b's in turn at a distance. */
#define EVEN 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define ODD 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define EVEN2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define ODD2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define EVEN4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define ODD4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LOW 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define HIGH 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define JOIN(a, b, first, second) (SHUFFLE(a, b, first) + SHUFFLE(a, b, second))

/* The sums of 16 vectors, one per lane. */
INLINE f32 sums(f32 *v) {
    for (int i = 0; i < 16; i += 2) v[i / 2] = JOIN(v[i], v[i + 1], EVEN, ODD);
    for (int i = 0; i < 8; i += 2) v[i / 2] = JOIN(v[i], v[i + 1], EVEN2, ODD2);
    for (int i = 0; i < 4; i += 2) v[i / 2] = JOIN(v[i], v[i + 1], EVEN4, ODD4);
    return JOIN(v[0], v[1], LOW, HIGH);
}

/* What one query has gathered so far: `out` is the weighted sum of values so far. */
typedef struct {
    float query[WIDEST], out[WIDEST];
    float most, total;
} State;

/* Scores of the block's tokens `[first, last)`, which lie at `keys`; -inf beyond. */
INLINE void score(const State *state, const float *keys, int parts, int first, int last,
                  f32 *scores) {
    static const i32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int group = 0; group < BLOCK / LANES; group++) {
        f32 dots[LANES];
        const float *key = keys + group * LANES * parts * LANES;
        for (int token = 0; token < LANES; token++) {
            f32 dot = *(const f32 *)state->query * *(const f32 *)key;
            for (int part = 1; part < parts; part++)
                dot += *(const f32 *)(state->query + LANES * part) *
                       *(const f32 *)(key + LANES * part);
            dots[token] = dot;
            key += parts * LANES;
        }
        i32 at = lane + group * LANES;
        i32 seen = (at >= first) & (at < last);
        scores[group] = choose(seen, sums(dots), all(-__builtin_inff()));
    }
}

/* Adds a block to what a query has gathered (softmax whose maximum is corrected on the way). */
INLINE void gather(State *state, const float *keys, const float *values, int parts, int first,
                   int last) {
    f32 scores[BLOCK / LANES];
    score(state, keys, parts, first, last, scores);
    f32 most = scores[0];
    for (int group = 1; group < BLOCK / LANES; group++) most = larger(most, scores[group]);
    float maximum = largest(most);
    if (maximum > state->most) {
        float shrink = power(all(state->most - maximum))[0];
        state->most = maximum;
        state->total *= shrink;
        for (int part = 0; part < parts; part++) *(f32 *)(state->out + LANES * part) *= shrink;
    }
    float weights[BLOCK];
    f32 total = all(0.0f);
    for (int group = 0; group < BLOCK / LANES; group++) {
        f32 weight = power(scores[group] - state->most);
        *(f32 *)(weights + LANES * group) = weight;
        total += weight;
    }
    state->total += sum(total);
    for (int part = 0; part < parts; part++) {
        f32 out = *(f32 *)(state->out + LANES * part);
        const float *value = values + LANES * part;
        for (int token = 0; token < BLOCK; token++)
            out += weights[token] * *(const f32 *)(value + token * parts * LANES);
        *(f32 *)(state->out + LANES * part) = out;
    }
}

/* Up to TOGETHER queries from `first`; query n is token n / groups, query head n % groups. */
INLINE void some(const Head *head, const Row *row, const bf16 *keys, const bf16 *values, int first,
                 int last, const int parts) {
    static __thread State states[TOGETHER];
    static __thread float wide_keys[BLOCK * WIDEST], wide_values[BLOCK * WIDEST];
    for (int n = first; n < last; n++) {
        State *state = &states[n - first];
        const bf16 *query =
            head->query + n / head->groups * head->query_stride + n % head->groups * head->dim;
        for (int part = 0; part < parts; part++) {
            *(f32 *)(state->query + LANES * part) = widen(query + LANES * part) * head->scale;
            *(f32 *)(state->out + LANES * part) = all(0.0f);
        }
        state->most = -__builtin_inff();
        state->total = 0;
    }
    int64_t begin = row->position + first / head->groups + 1 - head->window;
    if (head->window == 0 || begin < 0) begin = 0;
    int64_t end = row->position + (last - 1) / head->groups + 1;
    for (int64_t start = begin / BLOCK * BLOCK; start < end; start += BLOCK) {
        int here = end - start < BLOCK ? (int)(end - start) : BLOCK;
        for (int token = 0; token < here; token++) {
            const bf16 *key = keys + (start + token) * head->token_stride;
            const bf16 *value = values + (start + token) * head->token_stride;
            for (int line = 0; line < parts; line += 2) {
                __builtin_prefetch(key + BLOCK * head->token_stride + LANES * line);
                __builtin_prefetch(value + BLOCK * head->token_stride + LANES * line);
            }
            for (int part = 0; part < parts; part++) {
                int to = (token * parts + part) * LANES;
                *(f32 *)(wide_keys + to) = widen(key + LANES * part);
                *(f32 *)(wide_values + to) = widen(value + LANES * part);
            }
        }
        size_t rest = (size_t)(BLOCK - here) * parts * LANES * sizeof(float);
        memset(wide_keys + here * parts * LANES, 0, rest);
        memset(wide_values + here * parts * LANES, 0, rest);
        for (int n = first; n < last; n++) {
            int64_t at = row->position + n / head->groups;
            int64_t from = head->window && at + 1 > head->window ? at + 1 - head->window : 0;
            if (at < start || from >= start + BLOCK) continue;
            gather(&states[n - first], wide_keys, wide_values, parts,
                   from > start ? (int)(from - start) : 0,
                   at + 1 - start < BLOCK ? (int)(at + 1 - start) : BLOCK);
        }
    }
    for (int n = first; n < last; n++) {
        const State *state = &states[n - first];
        bf16 *out = head->out + n / head->groups * head->out_stride + n % head->groups * head->dim;
        for (int i = 0; i < parts * LANES; i++) {
            float y = state->out[i] / state->total;
            uint32_t bits;
            memcpy(&bits, &y, sizeof bits);
            out[i] = (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        }
    }
}

static void one_head(const Head *head, const Row *row, const bf16 *keys, const bf16 *values) {
    int queries = (int)row->count * head->groups;
    for (int first = 0; first < queries; first += TOGETHER) {
        int last = first + TOGETHER < queries ? first + TOGETHER : queries;
        switch (head->dim / LANES) {
            case 4: some(head, row, keys, values, first, last, 4); break;
            case 5: some(head, row, keys, values, first, last, 5); break;
            case 6: some(head, row, keys, values, first, last, 6); break;
            case 8: some(head, row, keys, values, first, last, 8); break;
            default: some(head, row, keys, values, first, last, head->dim / LANES);
        }
    }
}

/* query and out: [tokens of the step][heads][dim], tokens `query_stride` and `out_stride` apart;
 * `dim` divides by 16 and is at most 256. */
void attend(const Row *rows, int64_t count, int64_t layer, const bf16 *query, int64_t query_stride,
            bf16 *out, int64_t out_stride, int64_t heads, int64_t kv_heads, int64_t dim,
            float scale, int64_t window, int64_t threads) {
    int64_t groups = heads / kv_heads;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (int64_t task = 0; task < count * kv_heads; task++) {
        const Row *row = &rows[task / kv_heads];
        int64_t kv_head = task % kv_heads, first = kv_head * groups * dim;
        Head head = {query + row->offset * query_stride + first,
                     out + row->offset * out_stride + first,
                     query_stride, out_stride, kv_heads * dim, (int)groups, (int)dim,
                     scale, window};
        one_head(&head, row, row->keys + layer * row->layer + kv_head * dim,
                 row->values + layer * row->layer + kv_head * dim);
    }
}

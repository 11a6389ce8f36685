/* Attention of a packed step in bfloat16: each row's new tokens over the row's own keys and values.
 *
 * Sums and softmax are float32, weights are rounded to bfloat16 for their product with the values.
 * A query's result depends on its own row up to its own position and on nothing else, to the last
 * bit: not on how many tokens the row has in this step, nor on other rows. Values are paired once
 * per block for all queries that read them: the processor multiplies numbers two by two. */

#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#include "lanes.h"

#define BLOCK 32    /* tokens whose keys and values lie in the nearest cache */
#define WIDEST 256  /* of a head */
#define TOGETHER 16 /* queries of one key/value head that share a block */

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

/* What one query has gathered so far: `out` is the weighted sum of values, `total` the weights'. */
typedef struct {
    float out[WIDEST];
    f32 total;
    float most;
} State;

/* 32 numbers of a head whose last 32 may be 16. */
INLINE __m512bh line(const bf16 *from, int part, int parts) {
    __mmask32 whole = part + 1 < parts ? 0xffffffff : 0xffff;
    return (__m512bh)_mm512_maskz_loadu_epi16(whole, from + LANES * part);
}

/* Scores of the block's tokens `[first, last)`, which lie at `keys`; -inf beyond. */
INLINE void score(const bf16 *query, const bf16 *const *keys, int parts, float scale, int first,
                  int last, f32 *scores) {
    static const i32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    __m512bh lines[WIDEST / 32];
    for (int part = 0; part < parts; part += 2) lines[part / 2] = line(query, part, parts);
    for (int group = 0; group < BLOCK / LANES; group++) {
        f32 dots[LANES];
        for (int token = 0; token < LANES; token++) {
            const bf16 *key = keys[group * LANES + token];
            __m512 dot = _mm512_setzero_ps();
            for (int part = 0; part < parts; part += 2)
                dot = _mm512_dpbf16_ps(dot, lines[part / 2], line(key, part, parts));
            dots[token] = (f32)dot;
        }
        i32 at = lane + group * LANES;
        i32 seen = (at >= first) & (at < last);
        scores[group] = choose(seen, sums(dots) * scale, all(-__builtin_inff()));
    }
}

/* Adds a block to what a query has gathered (softmax whose maximum is corrected on the way).
 * `pairs` are the values of two tokens each, `[pair][part][16][2]`. */
INLINE void gather(State *state, const f32 *scores, const bf16 *pairs, int parts) {
    float maximum = _mm512_reduce_max_ps((__m512)larger(scores[0], scores[1]));
    if (maximum > state->most) {
        float shrink = power(all(state->most - maximum))[0];
        state->most = maximum;
        state->total *= shrink;
        for (int part = 0; part < parts; part++) *(f32 *)(state->out + LANES * part) *= shrink;
    }
    int32_t weights[BLOCK / 2]; /* two each */
    __m512bh rounded = _mm512_cvtne2ps_pbh((__m512)power(scores[1] - state->most),
                                           (__m512)power(scores[0] - state->most));
    memcpy(weights, &rounded, sizeof weights);
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    state->total = (f32)_mm512_dpbf16_ps((__m512)state->total, rounded, ones);
    __m512 out[WIDEST / LANES];
    for (int part = 0; part < parts; part++) out[part] = _mm512_loadu_ps(state->out + LANES * part);
    for (int pair = 0; pair < BLOCK / 2; pair++) {
        __m512bh weight = (__m512bh)_mm512_set1_epi32(weights[pair]);
        for (int part = 0; part < parts; part++) {
            const bf16 *value = pairs + (pair * parts + part) * 2 * LANES;
            out[part] = _mm512_dpbf16_ps(out[part], weight, (__m512bh)_mm512_loadu_si512(value));
        }
    }
    for (int part = 0; part < parts; part++) _mm512_storeu_ps(state->out + LANES * part, out[part]);
}

/* 16 values of each of two tokens in turn; the second may be missing. */
INLINE __m512i in_turn(const bf16 *even, const bf16 *odd, int both) {
    __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even));
    if (!both) return low;
    __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* Where the block's keys lie, and its values as `gather` takes them; `here` of its tokens are
 * there: the keys of the others are the last one's, their values 0. */
INLINE void read_block(const bf16 *keys, const bf16 *values, int64_t stride, int here, int parts,
                 const bf16 **places, bf16 *pairs) {
    for (int token = 0; token < BLOCK; token++) {
        const bf16 *key = keys + (token < here ? token : here - 1) * stride;
        places[token] = key;
        for (int part = 0; part < parts; part += 2)
            _mm_prefetch((const char *)(key + BLOCK * stride + LANES * part), _MM_HINT_T0);
    }
    for (int pair = 0; pair < BLOCK / 2; pair++) {
        const bf16 *value = values + 2 * pair * stride;
        for (int part = 0; part < parts; part += 2) {
            _mm_prefetch((const char *)(value + BLOCK * stride + LANES * part), _MM_HINT_T0);
            _mm_prefetch((const char *)(value + (BLOCK + 1) * stride + LANES * part), _MM_HINT_T0);
        }
        for (int part = 0; part < parts; part++) {
            const bf16 *even = value + LANES * part;
            __m512i both = _mm512_setzero_si512();
            if (2 * pair < here) both = in_turn(even, even + stride, 2 * pair + 1 < here);
            _mm512_storeu_si512(pairs + (pair * parts + part) * 2 * LANES, both);
        }
    }
}

INLINE void finish(const State *state, bf16 *out, int parts) {
    float total = sum(state->total);
    for (int part = 0; part < parts; part++) {
        f32 y = *(const f32 *)(state->out + LANES * part) / total;
        _mm256_storeu_si256((__m256i *)(out + LANES * part),
                            (__m256i)_mm512_cvtneps_pbh((__m512)y));
    }
}

/* Up to TOGETHER queries from `first`; query n is token n / groups, query head n % groups. */
INLINE void some(const Head *head, const Row *row, const bf16 *keys, const bf16 *values, int first,
                 int last, const int parts) {
    static __thread State states[TOGETHER];
    static __thread bf16 pairs[BLOCK * WIDEST];
    const bf16 *places[BLOCK];
    for (int n = first; n < last; n++) {
        State *state = &states[n - first];
        memset(state, 0, sizeof *state);
        state->most = -__builtin_inff();
    }
    int64_t begin = row->position + first / head->groups + 1 - head->window;
    if (head->window == 0 || begin < 0) begin = 0;
    int64_t end = row->position + (last - 1) / head->groups + 1;
    for (int64_t start = begin / BLOCK * BLOCK; start < end; start += BLOCK) {
        int here = end - start < BLOCK ? (int)(end - start) : BLOCK;
        int64_t place = start * head->token_stride;
        read_block(keys + place, values + place, head->token_stride, here, parts, places,
                   pairs);
        for (int n = first; n < last; n++) {
            int64_t at = row->position + n / head->groups;
            int64_t from = head->window && at + 1 > head->window ? at + 1 - head->window : 0;
            if (at < start || from >= start + BLOCK) continue;
            const bf16 *query =
                head->query + n / head->groups * head->query_stride + n % head->groups * head->dim;
            f32 scores[BLOCK / LANES];
            score(query, places, parts, head->scale, from > start ? (int)(from - start) : 0,
                  at + 1 - start < BLOCK ? (int)(at + 1 - start) : BLOCK, scores);
            gather(&states[n - first], scores, pairs, parts);
        }
    }
    for (int n = first; n < last; n++)
        finish(&states[n - first],
               head->out + n / head->groups * head->out_stride + n % head->groups * head->dim,
               parts);
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

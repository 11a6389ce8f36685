/* y = x W^T in bfloat16 for a weight in oneDNN's layout AB16b64a2b, few or many rows of x.
 *
 * The layout is [outputs / 64][inputs / 2][64][2]: what one block of 64 outputs needs lies back to
 * back. Every output is one sum in float32 over the inputs in their order, whatever the number of
 * rows, so a row's result does not depend on the rows beside it. Weights are asked for ahead of
 * their use: that is what makes a product with few rows read memory at its full speed. */

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define AHEAD 1536 /* bytes */
#define MOST 12    /* rows at a time: 24 sums of 16 outputs fill the registers */

typedef uint16_t bf16;

/* `rows` x (16 * `width`) outputs. Prefetches `lines` cache lines per pair of inputs. */
INLINE void tile(const int rows, const int width, const bf16 *x, size_t x_stride, const bf16 *w,
                 size_t pairs, bf16 *y, size_t y_stride, const char *ahead, const int lines) {
    __m512 sums[MOST][4];
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < width; part++) sums[row][part] = _mm512_setzero_ps();
    for (size_t pair = 0; pair < pairs; pair++) {
        __m512bh weights[4];
        for (int part = 0; part < width; part++)
            weights[part] = (__m512bh)_mm512_loadu_si512(w + 128 * pair + 32 * part);
        for (int line = 0; line < lines; line++)
            _mm_prefetch(ahead + 64 * (lines * pair + line), _MM_HINT_T1);
        for (int row = 0; row < rows; row++) {
            __m512bh input =
                (__m512bh)_mm512_set1_epi32(*(const int32_t *)(x + row * x_stride + 2 * pair));
            for (int part = 0; part < width; part++)
                sums[row][part] = _mm512_dpbf16_ps(sums[row][part], weights[part], input);
        }
    }
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < width; part++)
            _mm256_storeu_si256((__m256i *)(y + row * y_stride + 16 * part),
                                (__m256i)_mm512_cvtneps_pbh(sums[row][part]));
}

#define WHOLE(n)                                                                            \
    case n:                                                                                 \
        tile(n, 4, x, x_stride, w, pairs, y, y_stride, (const char *)w + AHEAD, 4);         \
        break;
#define HALVES(n)                                                                           \
    case n:                                                                                 \
        for (int half = 0; half < 2; half++)                                                \
            tile(n, 2, x, x_stride, w + 64 * half, pairs, y + 32 * half, y_stride,          \
                 next + 128 * pairs * half, 2);                                             \
        break;

/* Up to 12 rows x 64 outputs; `next` is the block that will be needed then. */
static void block(int rows, const bf16 *x, size_t x_stride, const bf16 *w, size_t pairs, bf16 *y,
                  size_t y_stride, const char *next) {
    switch (rows) {
        WHOLE(1) WHOLE(2) WHOLE(3) WHOLE(4) WHOLE(5) WHOLE(6)
        HALVES(7) HALVES(8) HALVES(9) HALVES(10) HALVES(11) HALVES(12)
    }
}

/* x [rows, inputs], w as above, y [rows, 64 * count]: all blocks of 64 outputs in their order, or
 * those that are `listed`. inputs divides by 2. */
void product(const bf16 *x, const bf16 *w, bf16 *y, int64_t rows, int64_t inputs,
             const int64_t *listed, int64_t count, int64_t threads) {
    int64_t chunks = (rows + MOST - 1) / MOST;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        int64_t following = n + 1 < count ? n + 1 : n;
        const bf16 *weights = w + (listed ? listed[n] : n) * inputs * 64;
        const bf16 *next = w + (listed ? listed[following] : following) * inputs * 64;
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            int64_t first = chunk * rows / chunks, last = (chunk + 1) * rows / chunks;
            block((int)(last - first), x + first * inputs, inputs, weights, inputs / 2,
                  y + 64 * (first * count + n), 64 * count, (const char *)next);
        }
    }
}

/* Vectors of 16 numbers, in the compiler's own vector types. */

#pragma once

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16

typedef uint16_t bf16;
typedef float f32 __attribute__((vector_size(64), aligned(4)));
typedef int32_t i32 __attribute__((vector_size(64), aligned(4)));

/* Lanes of a (0 to 15) and b (16 to 31). GCC has had the first name since version 12, clang has no
 * other. */
#ifndef __has_builtin
#define __has_builtin(x) 0
#endif
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (i32){__VA_ARGS__})
#endif

INLINE f32 all(float x) { return x - (f32){}; }

INLINE f32 choose(i32 which, f32 yes, f32 no) {
    return (f32)(((i32)yes & which) | ((i32)no & ~which));
}

INLINE f32 larger(f32 a, f32 b) { return choose(a > b, a, b); }

/* exp(x) for x <= 0, within 2 units in the last place; 0 below -87, NaN for what is none. */
INLINE f32 power(f32 x) {
    i32 tiny = x < all(-87.0f);
    x = choose(tiny, all(-87.0f), x);
    f32 turns = x * 1.44269504f + 12582912.0f; /* rounds to an integer in the low bits */
    i32 exponent = (i32)turns << 23;
    turns -= 12582912.0f;
    f32 rest = x - turns * 0.693145752f - turns * 1.42860677e-6f;
    f32 y = all(1.98756913e-4f);
    y = y * rest + 1.39819994e-3f;
    y = y * rest + 8.33345205e-3f;
    y = y * rest + 4.16657962e-2f;
    y = y * rest + 1.66666657e-1f;
    y = y * rest + 5.00000000e-1f;
    y = y * rest * rest + rest + 1.0f;
    return choose(tiny, all(0.0f), (f32)((i32)y + exponent));
}

INLINE float sum(f32 x) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}

INLINE float largest(f32 x) {
    float most = x[0];
    for (int lane = 1; lane < LANES; lane++) most = x[lane] > most ? x[lane] : most;
    return most;
}

// The two kinds of vector the kernels are written in, one definition per instruction set.
//
// int_lanes: INT_LANES int32 sums. dot_quads adds, in every lane, the product of four 8-bit activations (one
// "quad", the same in all lanes) with four int8 weights of that lane's own output row. It is exact: no intermediate
// saturates, so a sum does not depend on the order or the batch it is computed in (design, I4).
// float_lanes: 16 floats, split by the compiler where registers are narrower.
#ifndef GREENCODE_LANES_H
#define GREENCODE_LANES_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512VNNI__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

// VNNI multiplies unsigned by signed: activations are stored with 128 added, and 128 x the row's weight sum is
// taken off afterwards.
#if defined(__AVX512VNNI__)

#define INT_LANES 16
#define TILE_ROWS 8
#define ACTIVATION_OFFSET 128
typedef __m512i int_lanes;
static inline int_lanes zero_lanes(void) { return _mm512_setzero_si512(); }
static inline int_lanes add_lanes(int_lanes a, int_lanes b) { return _mm512_add_epi32(a, b); }
static inline int_lanes dot_quads(int_lanes sums, int32_t quad, const int8_t *weights) {
  return _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(quad), _mm512_loadu_si512(weights));
}

#elif defined(__AVXVNNI__)

#define INT_LANES 8
#define TILE_ROWS 4
#define ACTIVATION_OFFSET 128
typedef __m256i int_lanes;
static inline int_lanes zero_lanes(void) { return _mm256_setzero_si256(); }
static inline int_lanes add_lanes(int_lanes a, int_lanes b) { return _mm256_add_epi32(a, b); }
static inline int_lanes dot_quads(int_lanes sums, int32_t quad, const int8_t *weights) {
  return _mm256_dpbusd_avx_epi32(sums, _mm256_set1_epi32(quad), _mm256_loadu_si256((const __m256i *)weights));
}

#elif defined(__AVX2__)

#define INT_LANES 8
#define TILE_ROWS 4
#define ACTIVATION_OFFSET 0
typedef __m256i int_lanes;
static inline int_lanes zero_lanes(void) { return _mm256_setzero_si256(); }
static inline int_lanes add_lanes(int_lanes a, int_lanes b) { return _mm256_add_epi32(a, b); }
static inline int_lanes dot_quads(int_lanes sums, int32_t quad, const int8_t *weights) {
  // |w| x (a with w's sign): 2 x 127 x 127 fits in the 16 bits of the pairs, so nothing saturates
  __m256i w = _mm256_loadu_si256((const __m256i *)weights);
  __m256i pairs = _mm256_maddubs_epi16(_mm256_sign_epi8(w, w), _mm256_sign_epi8(_mm256_set1_epi32(quad), w));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#elif defined(__ARM_FEATURE_DOTPROD)

#define INT_LANES 4
#define TILE_ROWS 8
#define ACTIVATION_OFFSET 0
typedef int32x4_t int_lanes;
static inline int_lanes zero_lanes(void) { return vdupq_n_s32(0); }
static inline int_lanes add_lanes(int_lanes a, int_lanes b) { return vaddq_s32(a, b); }
static inline int_lanes dot_quads(int_lanes sums, int32_t quad, const int8_t *weights) {
  return vdotq_s32(sums, vld1q_s8(weights), vreinterpretq_s8_s32(vdupq_n_s32(quad)));
}

#else

#define INT_LANES 4
#define TILE_ROWS 4
#define ACTIVATION_OFFSET 0
typedef int32_t int_lanes __attribute__((vector_size(16)));
static inline int_lanes zero_lanes(void) { return (int_lanes){0}; }
static inline int_lanes add_lanes(int_lanes a, int_lanes b) { return a + b; }
static inline int_lanes dot_quads(int_lanes sums, int32_t quad, const int8_t *weights) {
  int8_t a[4];
  memcpy(a, &quad, sizeof a);
  for (int lane = 0; lane < INT_LANES; lane++)
    for (int i = 0; i < 4; i++) sums[lane] += a[i] * weights[4 * lane + i];
  return sums;
}

#endif

#define FLOAT_LANES 16
typedef float float_lanes __attribute__((vector_size(4 * FLOAT_LANES), aligned(4)));
typedef int32_t bit_lanes __attribute__((vector_size(4 * FLOAT_LANES), aligned(4)));

static inline float_lanes load_floats(const float *from) { return *(const float_lanes *)from; }
static inline void store_floats(float *to, float_lanes x) { *(float_lanes *)to = x; }
static inline float_lanes all_floats(float x) { return (float_lanes){0} + x; }
static inline float_lanes choose(bit_lanes mask, float_lanes yes, float_lanes no) {
  return (float_lanes)(((bit_lanes)yes & mask) | ((bit_lanes)no & ~mask));
}
static inline float_lanes larger(float_lanes a, float_lanes b) { return choose(a > b, a, b); }
static inline float_lanes smaller(float_lanes a, float_lanes b) { return choose(a < b, a, b); }

static inline float_lanes absolute(float_lanes x) { return (float_lanes)((bit_lanes)x & 0x7fffffff); }

static inline float sum_floats(float_lanes x) {
  float sum = 0;
  for (int lane = 0; lane < FLOAT_LANES; lane++) sum += x[lane];
  return sum;
}

static inline float largest_float(float_lanes x) {
  float largest = x[0];
  for (int lane = 1; lane < FLOAT_LANES; lane++) largest = x[lane] > largest ? x[lane] : largest;
  return largest;
}

// e^x within 2 units of the last place (Cephes' polynomial after x = n ln 2 + r); 0 below -87, capped above 88.
static inline float_lanes exp_floats(float_lanes x) {
  bit_lanes vanishes = x < all_floats(-87.0f);
  x = smaller(larger(x, all_floats(-87.0f)), all_floats(88.0f));
  const float round = 12582912.0f;  // 1.5 x 2^23: adding it leaves the nearest integer in the low bits
  float_lanes shifted = x * 1.44269504f + round;
  float_lanes n = shifted - round;
  float_lanes r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float_lanes p = all_floats(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  bit_lanes scaled = (bit_lanes)p + ((bit_lanes)shifted << 23);
  return (float_lanes)(scaled & ~vanishes);
}

#endif

// Attention over the KV cache, one row at a time. Letters as in decoder.c.
//
// Keys are stored [layers][G][N / 16][C][16], values [layers][G][C / 16][N][16]: both are read in whole vectors.
#ifndef GREENCODE_ATTENTION_H
#define GREENCODE_ATTENTION_H

#include "matrix.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
#endif

#define KEY_TILE 64  // keys scored together; the cache's length is a multiple of it

typedef struct {
  int32_t hidden, heads, groups, head_size, inner, max_positions;
  int32_t gated;       // silu(gate) x up, else ReLU
  int32_t norm_first;  // norms before attention and feed-forward, else after (OPT-350M)
  float eps;
  const float *cosines, *sines;  // [max_positions][C] or NULL: positions enter by RoPE
} Shape;

static void rotate(float *x, const float *cosines, const float *sines, int size) {
  for (int i = 0; i < size / 2; i++) {
    float first = x[i], second = x[i + size / 2];
    x[i] = first * cosines[i] - second * sines[i];
    x[i + size / 2] = second * cosines[i + size / 2] + first * sines[i + size / 2];
  }
}

// Rotate one row's queries and keys, and write its keys and values into the cache of its layer.
static void append_row(const Shape *s, float *qkv, int position, float *keys, float *values) {
  int size = s->head_size, n = s->max_positions;
  if (s->cosines)
    for (int h = 0; h < s->heads + s->groups; h++)
      rotate(qkv + h * size, s->cosines + (size_t)position * size, s->sines + (size_t)position * size, size);
  for (int g = 0; g < s->groups; g++) {
    const float *key = qkv + (s->heads + g) * size, *value = key + s->groups * size;
    float *key_at = keys + (size_t)g * n * size + (size_t)(position / FLOAT_LANES) * size * FLOAT_LANES;
    float *value_at = values + (size_t)g * n * size + (size_t)position * FLOAT_LANES;
    for (int c = 0; c < size; c++) {
      key_at[c * FLOAT_LANES + position % FLOAT_LANES] = key[c];
      value_at[(size_t)(c / FLOAT_LANES) * n * FLOAT_LANES + c % FLOAT_LANES] = value[c];
    }
  }
}

// Scores of `heads` (a constant where it is inlined) queries against KEY_TILE keys, masked beyond `length`.
static inline __attribute__((always_inline)) void score_tile(
    const float *queries, const float *keys, int size, int heads, int masked_from, float scale, int stride, float *to) {
  float_lanes acc[heads][KEY_TILE / FLOAT_LANES];
  for (int h = 0; h < heads; h++)
    for (int b = 0; b < KEY_TILE / FLOAT_LANES; b++) acc[h][b] = all_floats(0);
  for (int c = 0; c < size; c++)
    for (int b = 0; b < KEY_TILE / FLOAT_LANES; b++) {
      float_lanes key = load_floats(keys + ((size_t)b * size + c) * FLOAT_LANES);
      for (int h = 0; h < heads; h++) acc[h][b] += queries[h * size + c] * key;
    }
  for (int h = 0; h < heads; h++) {
    for (int b = 0; b < KEY_TILE / FLOAT_LANES; b++) store_floats(to + h * stride + b * FLOAT_LANES, acc[h][b] * scale);
    for (int j = masked_from; j < KEY_TILE; j++) to[h * stride + j] = -INFINITY;
  }
}

// Weighted sums of the values, for `heads` heads and `blocks` vectors of channels.
static inline __attribute__((always_inline)) void mix_tile(
    const float *weights, const float *values, int n, int length, int heads, int blocks, const float *inverse, int size,
    float *to) {
  float_lanes acc[heads][blocks];
  for (int h = 0; h < heads; h++)
    for (int b = 0; b < blocks; b++) acc[h][b] = all_floats(0);
  for (int at = 0; at < length; at++)
    for (int b = 0; b < blocks; b++) {
      float_lanes value = load_floats(values + ((size_t)b * n + at) * FLOAT_LANES);
      for (int h = 0; h < heads; h++) acc[h][b] += weights[h * n + at] * value;
    }
  for (int h = 0; h < heads; h++)
    for (int b = 0; b < blocks; b++) store_floats(to + h * size + b * FLOAT_LANES, acc[h][b] * inverse[h]);
}

// softmax(q k / sqrt(C)) v of one row, for query heads that share keys.
static inline __attribute__((always_inline)) void attend_heads(
    const Shape *s, const float *queries, const float *keys, const float *values, int length, int heads, float *scores,
    float *to) {
  int size = s->head_size, n = s->max_positions, padded = (length + KEY_TILE - 1) / KEY_TILE * KEY_TILE;
  float inverse[heads];
  for (int at = 0; at < padded; at += KEY_TILE)
    score_tile(queries, keys + (size_t)at * size, size, heads, length - at, 1.0f / sqrtf((float)size), n, scores + at);
  for (int h = 0; h < heads; h++) {
    float *row = scores + h * n;
    float_lanes sums = all_floats(0), tops = load_floats(row);
    for (int at = FLOAT_LANES; at < padded; at += FLOAT_LANES) tops = larger(tops, load_floats(row + at));
    float top = largest_float(tops);
    for (int at = 0; at < padded; at += FLOAT_LANES) {
      float_lanes weights = exp_floats(load_floats(row + at) - top);
      sums += weights;
      store_floats(row + at, weights);
    }
    inverse[h] = 1.0f / sum_floats(sums);
  }
  for (int c = 0; c < size;) {
    int left = (size - c) / FLOAT_LANES;
    const float *v = values + (size_t)c * n;
    if (left >= 4) mix_tile(scores, v, n, length, heads, 4, inverse, size, to + c), c += 4 * FLOAT_LANES;
    else if (left >= 2) mix_tile(scores, v, n, length, heads, 2, inverse, size, to + c), c += 2 * FLOAT_LANES;
    else mix_tile(scores, v, n, length, heads, 1, inverse, size, to + c), c += FLOAT_LANES;
  }
}

static void attend(const Shape *s, const Workspace *w, int rows, int start, const float *keys, const float *values) {
  int shared = s->heads / s->groups, size = s->head_size, row_size = (s->heads + 2 * s->groups) * size;
  float *scores = w->scores + (size_t)omp_get_thread_num() * shared * s->max_positions;
#pragma omp for schedule(static) collapse(2)
  for (int r = 0; r < rows; r++)
    for (int g = 0; g < s->groups; g++) {
      const float *queries = w->qkv + (size_t)r * row_size + g * shared * size;
      const float *k = keys + (size_t)g * s->max_positions * size, *v = values + (size_t)g * s->max_positions * size;
      float *to = w->mixed + (size_t)r * s->heads * size + g * shared * size;
      int length = start + r + 1;
      switch (shared) {
        case 1: attend_heads(s, queries, k, v, length, 1, scores, to); break;
        case 2: attend_heads(s, queries, k, v, length, 2, scores, to); break;
        case 3: attend_heads(s, queries, k, v, length, 3, scores, to); break;
        case 4: attend_heads(s, queries, k, v, length, 4, scores, to); break;
        default:
          for (int h = 0; h < shared; h++) attend_heads(s, queries + h * size, k, v, length, 1, scores, to + h * size);
      }
    }
}

#endif

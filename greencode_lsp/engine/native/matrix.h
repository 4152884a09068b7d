// Quantised rows times packed int8 matrices. Letters as in decoder.c.
#ifndef GREENCODE_MATRIX_H
#define GREENCODE_MATRIX_H

#include <math.h>
#include <stddef.h>

#include "lanes.h"

#define PANEL (2 * INT_LANES)  // output rows of a matrix that are packed and computed together
#define UNROLL 4               // quads; a packed row is a multiple of UNROLL quads long

typedef struct {
  const int8_t *packed;   // [panels][quads][PANEL][4]
  const float *scale;     // [panels x PANEL], 0 in padding
  const int32_t *offset;  // [panels x PANEL], ACTIVATION_OFFSET x the row's sum
  const float *bias;      // [panels x PANEL] or NULL
  int32_t rows, panels, quads;
} Matrix;

typedef struct {
  uint8_t *quantised;  // [T][4 x the largest quads], zeros beyond what is written
  float *row_scale;    // [T]
  float *qkv;          // [T][(H + 2 G) C]
  float *mixed;        // [T][larger of H C and I]
  float *scores;       // [threads][H / G][max_positions]
  int32_t stride;      // of quantised
} Workspace;

static void quantise_row(const float *x, int size, uint8_t *to, float *scale) {
  float_lanes tops = all_floats(0);
  int whole = size - size % FLOAT_LANES;
  for (int i = 0; i < whole; i += FLOAT_LANES) tops = larger(tops, absolute(load_floats(x + i)));
  float largest = largest_float(tops);
  for (int i = whole; i < size; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  float inverse = largest > 0 ? 127.0f / largest : 0;
  for (int i = 0; i < size; i++) to[i] = (uint8_t)((int)rintf(x[i] * inverse) + ACTIVATION_OFFSET);
  *scale = largest / 127.0f;
}

static void quantise_rows(const float *x, int rows, int size, const Workspace *w) {
#pragma omp for schedule(static)
  for (int r = 0; r < rows; r++)
    quantise_row(x + (size_t)r * size, size, w->quantised + (size_t)r * w->stride, w->row_scale + r);
}

// Integer products of `rows` (a constant where it is inlined) quantised rows with one panel of a matrix.
static inline __attribute__((always_inline)) void multiply_tile(
    const Matrix *m, int panel, const uint8_t *quantised, int stride, int rows, int32_t sums[TILE_ROWS][PANEL]) {
  const int8_t *weights = m->packed + (size_t)panel * m->quads * PANEL * 4;
  const int streams = rows == 1 ? UNROLL : rows == 2 ? 2 : 1;  // enough independent sums to hide latency
  int_lanes acc[UNROLL][TILE_ROWS][2];
  for (int u = 0; u < streams; u++)
    for (int r = 0; r < rows; r++) acc[u][r][0] = acc[u][r][1] = zero_lanes();
  for (int q = 0; q < m->quads; q += streams)
    for (int u = 0; u < streams; u++, weights += PANEL * 4)
      for (int r = 0; r < rows; r++) {
        int32_t quad;
        memcpy(&quad, quantised + (size_t)r * stride + 4 * (q + u), sizeof quad);
        acc[u][r][0] = dot_quads(acc[u][r][0], quad, weights);
        acc[u][r][1] = dot_quads(acc[u][r][1], quad, weights + INT_LANES * 4);
      }
  for (int r = 0; r < rows; r++)
    for (int half = 0; half < 2; half++) {
      int_lanes sum = acc[0][r][half];
      for (int u = 1; u < streams; u++) sum = add_lanes(sum, acc[u][r][half]);
      memcpy(&sums[r][half * INT_LANES], &sum, sizeof sum);
    }
}

static void multiply_rows(
    const Matrix *m, int panel, const uint8_t *quantised, int stride, int rows, int32_t sums[TILE_ROWS][PANEL]) {
  switch (rows) {
    case 1: multiply_tile(m, panel, quantised, stride, 1, sums); break;
    case 2: multiply_tile(m, panel, quantised, stride, 2, sums); break;
    case 3: multiply_tile(m, panel, quantised, stride, 3, sums); break;
    case 4: multiply_tile(m, panel, quantised, stride, 4, sums); break;
#if TILE_ROWS == 8
    case 5: multiply_tile(m, panel, quantised, stride, 5, sums); break;
    case 6: multiply_tile(m, panel, quantised, stride, 6, sums); break;
    case 7: multiply_tile(m, panel, quantised, stride, 7, sums); break;
    case 8: multiply_tile(m, panel, quantised, stride, 8, sums); break;
#endif
  }
}

typedef enum { STORE, ADD, RELU, GATED } Then;

// What becomes of `kept` (a constant where it is inlined) products of one row.
static inline __attribute__((always_inline)) void write_products(const float *y, Then then, int kept, float *to) {
  if (then == GATED)  // one half gates the other
    for (int j = 0; j < kept / 2; j++) to[j] = y[j] * y[INT_LANES + j];
  else if (then == ADD)
    for (int j = 0; j < kept; j++) to[j] += y[j];
  else if (then == RELU)
    for (int j = 0; j < kept; j++) to[j] = y[j] > 0 ? y[j] : 0;
  else
    for (int j = 0; j < kept; j++) to[j] = y[j];
}

static void finish_row(const Matrix *m, int panel, const int32_t *sums, float row_scale, Then then, float *row) {
  float y[PANEL + FLOAT_LANES];
  int at = panel * PANEL, kept = m->rows - at;
  for (int j = 0; j < PANEL; j++) y[j] = (float)(sums[j] - m->offset[at + j]) * (row_scale * m->scale[at + j]);
  if (m->bias)
    for (int j = 0; j < PANEL; j++) y[j] += m->bias[at + j];
  if (then == GATED) {
    float_lanes up = load_floats(y + INT_LANES), gate = load_floats(y);
    store_floats(y, gate / (1.0f + exp_floats(-gate)));
    store_floats(y + INT_LANES, up);
  }
  float *to = row + (then == GATED ? at / 2 : at);
  if (kept >= PANEL) write_products(y, then, PANEL, to);
  else write_products(y, then, kept, to);
}

// y = quantised rows x matrix, shared out by panels among the threads; `then` is what becomes of y in `to`.
static void multiply(const Matrix *m, const Workspace *w, int rows, float *to, int stride, Then then) {
#pragma omp for schedule(static)
  for (int panel = 0; panel < m->panels; panel++)
    for (int first = 0; first < rows; first += TILE_ROWS) {
      int32_t sums[TILE_ROWS][PANEL];
      int tile = rows - first < TILE_ROWS ? rows - first : TILE_ROWS;
      multiply_rows(m, panel, w->quantised + (size_t)first * w->stride, w->stride, tile, sums);
      for (int r = first; r < first + tile; r++)
        finish_row(m, panel, sums[r - first], w->row_scale[r], then, to + (size_t)r * stride);
    }
}

#endif

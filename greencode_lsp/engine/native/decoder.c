// A run of decoder layers on int8 weights: one call per segment, no work per layer left to Python.
//
// Every row (position) is computed by the same operations whatever else is in the batch: activations are quantised
// per row, integer sums are exact, norms and attention are row by row. So a position's bits do not depend on whether
// it came alone, in a verified batch or in a prompt (design, I4), nor on the number of threads.
//
// Letters: T rows, D hidden size, H query heads, G key/value heads, C head size, I inner size, N positions cached.
// Keys are stored [layers][G][N / 16][C][16], values [layers][G][C / 16][N][16]: both are read in whole vectors.
#include <math.h>
#include <stddef.h>

#include "lanes.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
#endif

#define PANEL (2 * INT_LANES)  // output rows of a matrix that are packed and computed together
#define KEY_TILE 64            // keys scored together; the cache's length is a multiple of it
#define UNROLL 4               // quads; a packed row is a multiple of UNROLL quads long

typedef struct {
  const int8_t *packed;   // [panels][quads][PANEL][4]
  const float *scale;     // [panels x PANEL], 0 in padding
  const int32_t *offset;  // [panels x PANEL], ACTIVATION_OFFSET x the row's sum
  const float *bias;      // [panels x PANEL] or NULL
  int32_t rows, panels, quads;
} Matrix;

typedef struct {
  const float *weight, *bias;  // [D]; RMSNorm where bias is NULL, else LayerNorm
} Norm;

typedef struct {
  Norm attention_norm, feed_norm;
  Matrix qkv, out, up, down;  // up: gate and up in turns of INT_LANES rows where `gated`
} Layer;

typedef struct {
  int32_t hidden, heads, groups, head_size, inner, max_positions;
  int32_t gated;       // silu(gate) x up, else ReLU
  int32_t norm_first;  // norms before attention and feed-forward, else after (OPT-350M)
  float eps;
  const float *cosines, *sines;  // [max_positions][C] or NULL: positions enter by RoPE
} Shape;

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

static void normalise_row(const float *x, const Norm *norm, int size, float eps, float *to) {
  float_lanes sums = all_floats(0), squares = all_floats(0);
  float mean = 0, square = 0;
  int whole = size - size % FLOAT_LANES;
  if (norm->bias) {
    for (int i = 0; i < whole; i += FLOAT_LANES) sums += load_floats(x + i);
    mean = sum_floats(sums);
    for (int i = whole; i < size; i++) mean += x[i];
    mean /= size;
  }
  for (int i = 0; i < whole; i += FLOAT_LANES) {
    float_lanes centred = load_floats(x + i) - mean;
    squares += centred * centred;
  }
  square = sum_floats(squares);
  for (int i = whole; i < size; i++) square += (x[i] - mean) * (x[i] - mean);
  float inverse = 1.0f / sqrtf(square / size + eps);
  for (int i = 0; i < size; i++) to[i] = (x[i] - mean) * inverse * norm->weight[i];
  if (norm->bias)
    for (int i = 0; i < size; i++) to[i] += norm->bias[i];
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

static void quantise_rows(const float *x, int rows, int size, const Workspace *w) {
#pragma omp for schedule(static)
  for (int r = 0; r < rows; r++)
    quantise_row(x + (size_t)r * size, size, w->quantised + (size_t)r * w->stride, w->row_scale + r);
}

static void normalise_rows(const float *x, const Norm *norm, int rows, const Shape *s, float *to) {
#pragma omp for schedule(static)
  for (int r = 0; r < rows; r++) normalise_row(x + (size_t)r * s->hidden, norm, s->hidden, s->eps, to + (size_t)r * s->hidden);
}

static void run_layer(const Shape *s, const Layer *layer, const Workspace *w, float *hidden, int rows, int start,
                      float *keys, float *values) {
  int attention_size = s->heads * s->head_size, row_size = attention_size + 2 * s->groups * s->head_size;
  const float *x = hidden;
  if (s->norm_first) normalise_rows(hidden, &layer->attention_norm, rows, s, w->mixed), x = w->mixed;
  quantise_rows(x, rows, s->hidden, w);
  multiply(&layer->qkv, w, rows, w->qkv, row_size, STORE);
#pragma omp for schedule(static)
  for (int r = 0; r < rows; r++) append_row(s, w->qkv + (size_t)r * row_size, start + r, keys, values);
  attend(s, w, rows, start, keys, values);
  quantise_rows(w->mixed, rows, attention_size, w);
  multiply(&layer->out, w, rows, hidden, s->hidden, ADD);
  if (s->norm_first) normalise_rows(hidden, &layer->feed_norm, rows, s, w->mixed);
  else normalise_rows(hidden, &layer->attention_norm, rows, s, hidden);
  quantise_rows(s->norm_first ? w->mixed : hidden, rows, s->hidden, w);
  multiply(&layer->up, w, rows, w->mixed, s->inner, s->gated ? GATED : RELU);
  quantise_rows(w->mixed, rows, s->inner, w);
  multiply(&layer->down, w, rows, hidden, s->hidden, ADD);
  if (!s->norm_first) normalise_rows(hidden, &layer->feed_norm, rows, s, hidden);
}

typedef struct {
  Shape shape;
  const Layer *layers;
  const Norm *final_norm;  // NULL where the family has none
  Matrix vocabulary;
  Workspace workspace;
} Model;

// Run a segment's layers over entering [T][D] at positions start .. start + T - 1 into leaving [T][D].
void greencode_run(const Model *m, int first_layer, int layers, const float *entering, float *leaving, int rows, int start,
                   float *keys, float *values, int threads) {
  const Shape *s = &m->shape;
  size_t layer_size = (size_t)s->groups * s->max_positions * s->head_size;
  memcpy(leaving, entering, (size_t)rows * s->hidden * sizeof(float));
#pragma omp parallel num_threads(threads)
  for (int i = 0; i < layers; i++)
    run_layer(s, m->layers + first_layer + i, &m->workspace, leaving, rows, start, keys + i * layer_size,
              values + i * layer_size);
}

void greencode_normalise(const Model *m, const float *x, int rows, float *to) {
  if (m->final_norm) normalise_rows(x, m->final_norm, rows, &m->shape, to);
  else memcpy(to, x, (size_t)rows * m->shape.hidden * sizeof(float));
}

// logits [T][V] = x [T][inputs] x vocabulary.
void greencode_head(const Model *m, const float *x, int rows, int inputs, float *logits, int threads) {
#pragma omp parallel num_threads(threads)
  {
    quantise_rows(x, rows, inputs, &m->workspace);
    multiply(&m->vocabulary, &m->workspace, rows, logits, m->vocabulary.rows, STORE);
  }
}

typedef struct {
  int32_t segments;
  const int32_t *first_layer;         // [S + 1]
  float *const *states;               // [S + 1] of [N][D]: what enters each segment, and what leaves the last
  float *const *keys, *const *values; // [S]
  int32_t *filled;                    // [S] positions consumed
} Sequence;

typedef struct {
  const float *weights[3];  // [inputs][first], [first][second], [second]: transposed, columns padded to whole vectors
  const float *bias[3];
  int32_t inputs, first, second;
} Agent;

// to = tanh(x W + b), for columns in whole vectors.
static void tanh_layer(const float *x, const float *weights, const float *bias, int inputs, int outputs, float *to) {
  enum { WIDTH = 4 };
  for (int at = 0; at < outputs; at += WIDTH * FLOAT_LANES) {
    int width = (outputs - at) / FLOAT_LANES < WIDTH ? (outputs - at) / FLOAT_LANES : WIDTH;
    float_lanes acc[WIDTH];
    for (int j = 0; j < width; j++) acc[j] = load_floats(bias + at + j * FLOAT_LANES);
    if (width == WIDTH)
      for (int i = 0; i < inputs; i++)
        for (int j = 0; j < WIDTH; j++) acc[j] += x[i] * load_floats(weights + (size_t)i * outputs + at + j * FLOAT_LANES);
    else
      for (int i = 0; i < inputs; i++)
        for (int j = 0; j < width; j++) acc[j] += x[i] * load_floats(weights + (size_t)i * outputs + at + j * FLOAT_LANES);
    for (int j = 0; j < width; j++) store_floats(to + at + j * FLOAT_LANES, 1.0f - 2.0f / (1.0f + exp_floats(2.0f * acc[j])));
  }
}

// The exit logit of the agent's network (engine/policy.py) on a state [D], as `observation` lays it out.
float greencode_exit_logit(const Model *m, const Agent *a, const float *state, int segment, int segments, int pending,
                           int position) {
  int hidden = m->shape.hidden;
  float seen[a->inputs], first[a->first], second[a->second], logit = a->bias[2][0];
  greencode_normalise(m, state, 1, seen);
  for (int s = 0; s + 1 < segments; s++) seen[hidden + s] = s == segment;
  seen[a->inputs - 2] = log1pf((float)pending);
  seen[a->inputs - 1] = (float)position / 16.0f;
  tanh_layer(seen, a->weights[0], a->bias[0], a->inputs, a->first, first);
  tanh_layer(first, a->weights[1], a->bias[1], a->first, a->second, second);
  for (int i = 0; i < a->second; i++) logit += second[i] * a->weights[2][i];
  return logit;
}

// The engine's loop over segments (engine.py), for a backlog short enough not to be heard for: advance each until the
// agent's logit passes the threshold; no agent never leaves. Returns the exit's index.
int greencode_advance_until(const Model *m, const Sequence *q, int fed, const Agent *agent, float threshold,
                            int prompt_tokens, int position, int threads) {
  for (int s = 0;; s++) {
    int start = q->filled[s], rows = fed - start;
    size_t at = (size_t)start * m->shape.hidden;
    greencode_run(m, q->first_layer[s], q->first_layer[s + 1] - q->first_layer[s], q->states[s] + at,
                  q->states[s + 1] + at, rows, start, q->keys[s], q->values[s], threads);
    q->filled[s] = fed;
    if (s + 1 == q->segments) return s;
    if (!agent) continue;
    int behind = q->filled[s + 1] > prompt_tokens - 1 ? q->filled[s + 1] : prompt_tokens - 1;
    const float *state = q->states[s + 1] + (size_t)(fed - 1) * m->shape.hidden;
    if (greencode_exit_logit(m, agent, state, s, q->segments, fed - behind, position) > threshold) return s;
  }
}

int greencode_panel(void) { return PANEL; }
int greencode_key_tile(void) { return KEY_TILE; }
int greencode_unroll(void) { return UNROLL; }
int greencode_activation_offset(void) { return ACTIVATION_OFFSET; }

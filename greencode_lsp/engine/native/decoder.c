// A run of decoder layers on int8 weights: one call per segment, no work per layer left to Python.
//
// Every row (position) is computed by the same operations whatever else is in the batch: activations are quantised
// per row, integer sums are exact, norms and attention are row by row. So a position's bits do not depend on whether
// it came alone, in a verified batch or in a prompt (design, I4), nor on the number of threads.
//
// Letters: T rows, D hidden size, H query heads, G key/value heads, C head size, I inner size, N positions cached.
#include "attention.h"
#include "matrix.h"

typedef struct {
  const float *weight, *bias;  // [D]; RMSNorm where bias is NULL, else LayerNorm
} Norm;

typedef struct {
  Norm attention_norm, feed_norm;
  Matrix qkv, out, up, down;  // up: gate and up in turns of INT_LANES rows where `gated`
} Layer;

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

/* Softmax attention and its slopes, float32, one thread: the scores of a block of queries stay in the first cache, and backward
computes them again (Dao et al., 2022).

Values are positions, heads, features. One head of one example at a time is copied into a scratch of its own. A block is WIDE queries,
which lie in the lanes wherever keys are summed up or queries are compared; sums over queries have features in the lanes. */

#include "shared.h"

#define ROWS 4 /* rows of a small product that stay in registers, two vectors each */

typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* What Python hands over: see `synth.native.attention`. */
typedef struct {
    Int batch, queries, keys, heads, features, outputs, causal;
} Sizes;

static inline Vector spread(float value) {
    Vector all = {0};
    return all + value;
}

static inline Vector either(Ints which, Vector yes, Vector no) { return (Vector)((which & (Ints)yes) | (~which & (Ints)no)); }

/* The exponential, to 2 units in the last place; 0 for what is far below. */
static inline Vector exponential(Vector x) {
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds to whole numbers, which then stand in the lowest bits */
    Ints low = x < -87.0f;
    x = either(low, spread(-87.0f), x);
    Vector whole = x * 1.44269504f + magic;
    Ints power = ((Ints)whole) << 23;
    whole -= magic;
    Vector rest = x - whole * 0.693359375f + whole * 2.12194440e-4f, sum = spread(1.9875691500e-4f);
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    Vector found = (Vector)((Ints)sum + power);
    return either(low, spread(0.0f), found);
}

/* `rows` rows of the product of a (row by row, `step` apart; along a row `stride` apart) and b (WIDE columns), `depth` deep. */
static inline void product(int rows, Int depth, const float *a, Int step, Int stride, const float *b, Int width, Vector found[][2]) {
    for (int row = 0; row < rows; row++) found[row][0] = found[row][1] = spread(0.0f);
    for (Int at = 0; at < depth; at++) {
        Vector left = *(const Vector *)(b + at * width), right = *(const Vector *)(b + at * width + LANES);
        for (int row = 0; row < rows; row++) {
            float by = a[row * step + at * stride];
            found[row][0] += left * by;
            found[row][1] += right * by;
        }
    }
}

/* The same for one vector of columns. */
static inline void narrow(int rows, Int depth, const float *a, Int step, Int stride, const float *b, Int width, Vector found[]) {
    for (int row = 0; row < rows; row++) found[row] = spread(0.0f);
    for (Int at = 0; at < depth; at++) {
        Vector left = *(const Vector *)(b + at * width);
        for (int row = 0; row < rows; row++) found[row] += left * a[row * step + at * stride];
    }
}

/* to (rows × WIDE) = or += a · b, where b has WIDE columns that lie next to one another. */
static void across(Int rows, Int depth, const float *a, Int step, Int stride, const float *b, float *to) {
    Vector found[ROWS][2];
    Int row = 0;
    for (; row + ROWS <= rows; row += ROWS) {
        product(ROWS, depth, a + row * step, step, stride, b, WIDE, found);
        memcpy(to + row * WIDE, found, sizeof found);
    }
    for (; row < rows; row++) {
        product(1, depth, a + row * step, step, stride, b, WIDE, found);
        memcpy(to + row * WIDE, found, sizeof found[0]);
    }
}

static inline void added(float *to, Vector value) { *(Vector *)to += value; }

/* to (rows × width) += a (rows × WIDE) · b (WIDE × width); the width is whole vectors. */
static void along(Int rows, const float *a, const float *b, Int width, float *to) {
    Vector wide[ROWS][2], slim[2 * ROWS];
    Int column = 0;
    for (; column + WIDE <= width; column += WIDE)
        for (Int row = 0; row < rows; row += ROWS) {
            product(ROWS, WIDE, a + row * WIDE, WIDE, 1, b + column, width, wide);
            for (int each = 0; each < ROWS; each++) {
                added(to + (row + each) * width + column, wide[each][0]);
                added(to + (row + each) * width + column + LANES, wide[each][1]);
            }
        }
    for (; column < width; column += LANES) {
        Int row = 0;
        for (; row + 2 * ROWS <= rows; row += 2 * ROWS) {
            narrow(2 * ROWS, WIDE, a + row * WIDE, WIDE, 1, b + column, width, slim);
            for (int each = 0; each < 2 * ROWS; each++) added(to + (row + each) * width + column, slim[each]);
        }
        for (; row < rows; row += ROWS) {
            narrow(ROWS, WIDE, a + row * WIDE, WIDE, 1, b + column, width, slim);
            for (int each = 0; each < ROWS; each++) added(to + (row + each) * width + column, slim[each]);
        }
    }
}

/* Copies one head (positions, `from` apart, of `size` features) to rows of `width`; what lies beyond is 0 and stays so. */
static void gather(const float *source, Int positions, Int from, Int size, Int width, float *to) {
    for (Int at = 0; at < positions; at++) memcpy(to + at * width, source + at * from, size * sizeof(float));
}

static void scatter(const float *source, Int positions, Int from, Int size, Int width, float *to) {
    for (Int at = 0; at < positions; at++) memcpy(to + at * from, source + at * width, size * sizeof(float));
}

/* WIDE rows of `width` as `size` rows of WIDE. */
static void turned(const float *rows, Int size, Int width, float *to) {
    for (Int feature = 0; feature < size; feature++)
        for (int lane = 0; lane < WIDE; lane++) to[feature * WIDE + lane] = rows[lane * width + feature];
}

/* How many keys a block of queries sees, and which of them not all of its queries see. */
static Int seen(const Sizes *s, Int first) { return s->causal ? smaller(s->keys, first + WIDE) : s->keys; }

static void hide(const Sizes *s, Int first, Int keys, float *rows, float value) {
    if (s->causal)
        for (Int key = first + 1; key < keys; key++)
            for (Int lane = 0; lane < key - first; lane++) rows[key * WIDE + lane] = value;
}

typedef struct {
    Int queries, keys, features, outputs; /* rounded to blocks, rows and vectors */
    float *query, *key, *value, *slope, *to_key, *to_value, *to_query;
    float *scores, *slopes, *turned_query, *turned_slope, *result;
} Scratch;

/* One piece of memory for all: zeros. */
static float *scratch(const Sizes *s, int backward, Scratch *c) {
    c->queries = rounded(s->queries, WIDE), c->keys = rounded(s->keys, ROWS);
    c->features = rounded(s->features, LANES), c->outputs = rounded(s->outputs, LANES);
    Int deep = larger(c->features, c->outputs) * WIDE;
    Int sizes[] = {c->queries * c->features, c->keys * c->features, c->keys * c->outputs, c->keys * WIDE, deep, deep,
                   backward ? c->queries * c->outputs : 0, backward ? c->keys * c->features : 0, backward ? c->keys * c->outputs : 0,
                   backward ? c->queries * c->features : 0, backward ? c->keys * WIDE : 0, backward ? deep : 0};
    float **parts[] = {&c->query, &c->key, &c->value, &c->scores, &c->turned_query, &c->result,
                       &c->slope, &c->to_key, &c->to_value, &c->to_query, &c->slopes, &c->turned_slope};
    Int total = 0, count = sizeof sizes / sizeof *sizes;
    for (Int part = 0; part < count; part++) total += rounded(sizes[part], 16);
    float *all = floats(total), *next = all;
    if (!all) return NULL;
    memset(all, 0, larger(total, 1) * sizeof(float));
    for (Int part = 0; part < count; part++) {
        *parts[part] = next;
        next += rounded(sizes[part], 16);
    }
    return all;
}

/* The largest of `count` rows of WIDE, in each lane; by several at once, since each comparison waits for the one before. */
static Vector largest(const float *rows, Int count) {
    Vector most[ROWS];
    for (int each = 0; each < ROWS; each++) most[each] = *(const Vector *)rows;
    Int row = 0;
    for (; row + ROWS <= count; row += ROWS)
        for (int each = 0; each < ROWS; each++) {
            Vector here = *(const Vector *)(rows + (row + each) * WIDE);
            most[each] = either(here > most[each], here, most[each]);
        }
    for (; row < count; row++) most[0] = either(*(const Vector *)(rows + row * WIDE) > most[0], *(const Vector *)(rows + row * WIDE), most[0]);
    for (int each = 1; each < ROWS; each++) most[0] = either(most[each] > most[0], most[each], most[0]);
    return most[0];
}

/* The mean of the values by the softmax of the scores, and the logarithm of what each query's exponentials sum up to. */
static void forward_head(const Sizes *s, const Scratch *c, float *to, Int apart, float *logarithms) {
    for (Int first = 0; first < s->queries; first += WIDE) {
        Int keys = seen(s, first);
        turned(c->query + first * c->features, s->features, c->features, c->turned_query);
        across(keys, s->features, c->key, c->features, 1, c->turned_query, c->scores);
        hide(s, first, keys, c->scores, -1e30f);
        for (int half = 0; half < WIDE; half += LANES) {
            float *scores = c->scores + half;
            Vector most = largest(scores, keys), sum = spread(0.0f);
            for (Int key = 0; key < keys; key++) {
                Vector share = exponential(*(Vector *)(scores + key * WIDE) - most);
                *(Vector *)(scores + key * WIDE) = share;
                sum += share;
            }
            for (int lane = 0; lane < LANES && first + half + lane < s->queries; lane++)
                logarithms[first + half + lane] = most[lane] + __builtin_logf(sum[lane]);
            *(Vector *)(c->turned_query + half) = 1.0f / sum; /* the queries themselves are done with */
        }
        across(s->outputs, keys, c->value, 1, c->outputs, c->scores, c->result);
        for (int lane = 0; lane < WIDE && first + lane < s->queries; lane++)
            for (Int feature = 0; feature < s->outputs; feature++)
                to[(first + lane) * apart + feature] = c->result[feature * WIDE + lane] * c->turned_query[lane];
    }
}

/* The slopes of one head; `out` is what forward found, `slope` lies in the scratch. */
static void backward_head(const Sizes *s, const Scratch *c, const float *out, Int apart, const float *logarithms) {
    memset(c->to_key, 0, c->keys * c->features * sizeof(float));
    memset(c->to_value, 0, c->keys * c->outputs * sizeof(float));
    for (Int first = 0; first < s->queries; first += WIDE) {
        Int keys = seen(s, first);
        float sums[WIDE] = {0}, means[WIDE] = {0};
        for (int lane = 0; lane < WIDE && first + lane < s->queries; lane++) {
            sums[lane] = logarithms[first + lane];
            for (Int feature = 0; feature < s->outputs; feature++)
                means[lane] += out[(first + lane) * apart + feature] * c->slope[(first + lane) * c->outputs + feature];
        }
        turned(c->query + first * c->features, s->features, c->features, c->turned_query);
        turned(c->slope + first * c->outputs, s->outputs, c->outputs, c->turned_slope);
        across(keys, s->features, c->key, c->features, 1, c->turned_query, c->scores);
        hide(s, first, keys, c->scores, -1e30f);
        across(keys, s->outputs, c->value, c->outputs, 1, c->turned_slope, c->slopes);
        for (Int key = 0; key < keys; key++)
            for (int half = 0; half < WIDE; half += LANES) {
                Vector *score = (Vector *)(c->scores + key * WIDE + half), *slope = (Vector *)(c->slopes + key * WIDE + half);
                *score = exponential(*score - *(Vector *)(sums + half));
                *slope = *score * (*slope - *(Vector *)(means + half));
            }
        for (Int key = keys; key < rounded(keys, ROWS); key++) /* rows that only fill a block */
            for (int lane = 0; lane < WIDE; lane++) c->scores[key * WIDE + lane] = c->slopes[key * WIDE + lane] = 0.0f;
        along(rounded(keys, ROWS), c->scores, c->slope + first * c->outputs, c->outputs, c->to_value);
        along(rounded(keys, ROWS), c->slopes, c->query + first * c->features, c->features, c->to_key);
        across(s->features, keys, c->key, 1, c->features, c->slopes, c->result);
        for (int lane = 0; lane < WIDE; lane++)
            for (Int feature = 0; feature < s->features; feature++)
                c->to_query[(first + lane) * c->features + feature] = c->result[feature * WIDE + lane];
    }
}

static int attention(XLA_FFI_CallFrame *frame, const Sizes *s, int backward) {
    Scratch c;
    float *all = scratch(s, backward, &c);
    if (!all) return 0;
    Int in = s->heads * s->features, out = s->heads * s->outputs;
    for (Int example = 0; example < s->batch; example++)
        for (Int head = 0; head < s->heads; head++) {
            Int query = example * s->queries * in + head * s->features, key = example * s->keys * in + head * s->features;
            Int value = example * s->keys * out + head * s->outputs, result = example * s->queries * out + head * s->outputs;
            Int rows = (example * s->heads + head) * s->queries;
            gather(operand(frame, 0) + query, s->queries, in, s->features, c.features, c.query);
            gather(operand(frame, 1) + key, s->keys, in, s->features, c.features, c.key);
            gather(operand(frame, 2) + value, s->keys, out, s->outputs, c.outputs, c.value);
            if (!backward) {
                forward_head(s, &c, outcome(frame, 0) + result, out, outcome(frame, 1) + rows);
                continue;
            }
            gather(operand(frame, 5) + result, s->queries, out, s->outputs, c.outputs, c.slope);
            backward_head(s, &c, operand(frame, 3) + result, out, operand(frame, 4) + rows);
            scatter(c.to_query, s->queries, in, s->features, c.features, outcome(frame, 0) + query);
            scatter(c.to_key, s->keys, in, s->features, c.features, outcome(frame, 1) + key);
            scatter(c.to_value, s->keys, out, s->outputs, c.outputs, outcome(frame, 2) + value);
        }
    free(all);
    return 1;
}

static XLA_FFI_Error *handled(XLA_FFI_CallFrame *frame, int backward) {
    if (answered(frame)) return NULL;
    const Sizes *sizes = numbers_of(frame, backward ? 6 : 3, backward ? 3 : 2, sizeof(Sizes));
    if (!sizes) return refused(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, "attention wants its operands, results and sizes");
    return attention(frame, sizes, backward) ? NULL : refused(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "no memory for attention");
}

XLA_FFI_Error *attention_output(XLA_FFI_CallFrame *frame) { return handled(frame, 0); }
XLA_FFI_Error *attention_slopes(XLA_FFI_CallFrame *frame) { return handled(frame, 1); }

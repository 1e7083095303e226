/* Convolutions over two axes and their slopes, channels last, float32, one thread: the three products of a training step.

All copy some pictures at a time into a padded scratch that stays in the second cache, and then multiply small blocks that stay in
registers. `gathered` is the output, or the slope for the input: every position adds up the places of the window that reach it. A
stride leaves as many kinds of positions of the input as it has rests, each reached by other places ("phase"). `crossed` is the
slope for the kernel. Depthwise convolutions have the channels in the lanes and need no block of features.

Sizes follow the target: LANES floats in a vector, and blocks of ROWS rows times two vectors that fill its registers. */

#include "shared.h"

#if defined(__AVX512F__)
#define ROWS 12
#else
#define ROWS 6
#endif

/* What Python hands over: see `synth.native.geometry`. */
typedef struct {
    Int batch, input[2], channels, window[2], features, output[2], stride[2], dilation[2], low[2], groups;
} Geometry;

/* A place of the window: where it looks, from the position that it counts for, and which place it is. */
typedef struct {
    Int row, column, place;
} Tap;

/* Taps that lie next to one another in memory: `length` values from `from`, `row` rows into the packed kernel. */
typedef struct {
    Int from, length, row;
} Run;

/* A source with a border of zeros, some pictures at a time. */
typedef struct {
    const float *source;
    Int sides[2], low[2], padded[2], channels, stored; /* channels as they are and as they are stored */
    float *scratch;
} Padded;

/* Fills the scratch with pictures first .. first + count; its border is zero already and stays so. */
static void fill(const Padded *p, Int first, Int count) {
    for (Int picture = 0; picture < count; picture++)
        for (Int row = 0; row < p->sides[0]; row++) {
            const float *from = p->source + ((first + picture) * p->sides[0] + row) * p->sides[1] * p->channels;
            float *to = p->scratch + ((picture * p->padded[0] + row + p->low[0]) * p->padded[1] + p->low[1]) * p->stored;
            if (p->stored == p->channels)
                memcpy(to, from, p->sides[1] * p->channels * sizeof(float));
            else
                for (Int column = 0; column < p->sides[1]; column++)
                    memcpy(to + column * p->stored, from + column * p->channels, p->channels * sizeof(float));
        }
}

/* How many pictures make a scratch of about `CACHED` floats, or enough positions to fill blocks. */
#define CACHED 32768
static Int together(const Padded *p, Int positions, Int batch) {
    Int size = p->padded[0] * p->padded[1] * p->stored;
    Int wanted = larger(CACHED / larger(size, 1), (8 * ROWS + positions - 1) / larger(positions, 1));
    return larger(1, smaller(wanted, batch));
}

static int scratched(Padded *p, Int pictures) {
    Int size = pictures * p->padded[0] * p->padded[1] * p->stored + WIDE * ROWS; /* blocks may look past the end */
    p->scratch = floats(size);
    if (p->scratch) memset(p->scratch, 0, size * sizeof(float));
    return p->scratch != NULL;
}

/* Where each of count[0] × count[1] positions of some pictures lies: in a grid of rows of `width` places of `size` floats, `height`
   rows a picture, the first position at `first`, the next ones by `step`. */
static Int *places_of(Int pictures, const Int count[2], const Int first[2], const Int step[2], Int height, Int width, Int size) {
    Int *found = malloc(larger(1, pictures * count[0] * count[1]) * sizeof(Int)), *next = found;
    if (found)
        for (Int picture = 0; picture < pictures; picture++)
            for (Int row = 0; row < count[0]; row++)
                for (Int column = 0; column < count[1]; column++)
                    *next++ = ((picture * height + first[0] + row * step[0]) * width + first[1] + column * step[1]) * size;
    return found;
}

static const Int origin[2] = {0, 0};

/* Where each position starts in the scratch. */
static Int *starts(const Padded *p, Int pictures, const Int count[2], const Int step[2]) {
    return places_of(pictures, count, origin, step, p->padded[0], p->padded[1], p->stored);
}

/* Runs of taps in the order of memory; each tap is `depth` of the scratch's channels. */
static Int runs_of(const Padded *p, const Tap *taps, Int count, Int depth, Run *runs) {
    Int found = 0;
    for (Int index = 0; index < count; index++) {
        Int from = (taps[index].row * p->padded[1] + taps[index].column) * p->stored;
        if (found && runs[found - 1].from + runs[found - 1].length == from)
            runs[found - 1].length += depth;
        else
            runs[found++] = (Run){from, depth, index * depth};
    }
    return found;
}

/* to[t] = Σ source[start[t] + …] × packed rows, for `T` positions and `V` vectors of features. */
#define PRODUCT(NAME, T, V)                                                                                                     \
    static void NAME(const float *source, const Int *start, const Run *runs, Int count, const float *packed, float *const *to) { \
        Vector sum[T][V];                                                                                                       \
        for (int t = 0; t < T; t++)                                                                                             \
            for (int v = 0; v < V; v++) sum[t][v] = (Vector){0};                                                                \
        for (Int r = 0; r < count; r++) {                                                                                       \
            const float *from[T];                                                                                               \
            for (int t = 0; t < T; t++) from[t] = source + start[t] + runs[r].from;                                             \
            const float *row = packed + runs[r].row * V * LANES;                                                                \
            for (Int c = 0; c < runs[r].length; c++, row += V * LANES)                                                          \
                for (int t = 0; t < T; t++)                                                                                     \
                    for (int v = 0; v < V; v++) sum[t][v] += from[t][c] * *(const Vector *)(row + v * LANES);                   \
        }                                                                                                                       \
        for (int t = 0; t < T; t++)                                                                                             \
            for (int v = 0; v < V; v++) *(Vector *)(to[t] + v * LANES) = sum[t][v];                                             \
    }
PRODUCT(product_wide, ROWS, 2)
PRODUCT(product_narrow, 2 * ROWS, 1)

/* One phase of a gathered product: positions of the result from `first` by `step`, `count` of them along each axis. */
typedef struct {
    const Tap *taps;
    Int tap_count, count[2], first[2], step[2], reach[2]; /* `reach`: by how much a position of the source each step is */
} Phase;

/* A kernel (place, channels of a group, features) as read for the output, or turned round for the input. */
typedef struct {
    const float *values;
    Int depth, width, place_stride, depth_stride, width_stride, group_stride;
} Kernel;

static void pack(const Kernel *k, const Phase *phase, Int group, Int from, Int lanes, float *packed) {
    Int wide = smaller(lanes, k->width - from);
    for (Int index = 0; index < phase->tap_count; index++)
        for (Int d = 0; d < k->depth; d++, packed += lanes) {
            const float *row = k->values + phase->taps[index].place * k->place_stride + group * k->group_stride +
                               d * k->depth_stride + from * k->width_stride;
            for (Int w = 0; w < wide; w++) packed[w] = row[w * k->width_stride];
            for (Int w = wide; w < lanes; w++) packed[w] = 0;
        }
}

static int gathered(Padded *source, const Kernel *k, const Phase *phase, Int batch, Int groups, float *result, const Int sides[2]) {
    Int positions = phase->count[0] * phase->count[1], width = groups * k->width, ok = 0;
    if (!positions) return 1;
    Int pictures = together(source, positions, batch), rows = phase->tap_count * k->depth;
    Int padded_width = rounded(k->width, LANES), blocks = (padded_width + WIDE - 1) / WIDE;
    Int *start = scratched(source, pictures) ? starts(source, pictures, phase->count, phase->reach) : NULL;
    Int *end = places_of(pictures, phase->count, phase->first, phase->step, sides[0], sides[1], width);
    float *packed = floats(groups * rows * padded_width);
    Run *runs = malloc(larger(1, phase->tap_count) * sizeof(Run));
    if (start && end && packed && runs) {
        Int run_count = runs_of(source, phase->taps, phase->tap_count, k->depth, runs);
        for (Int g = 0; g < groups; g++)
            for (Int b = 0; b < blocks; b++)
                pack(k, phase, g, b * WIDE, smaller(WIDE, padded_width - b * WIDE), packed + (g * padded_width + b * WIDE) * rows);
        for (Int picture = 0; picture < batch; picture += pictures) {
            Int here = smaller(pictures, batch - picture) * positions;
            fill(source, picture, smaller(pictures, batch - picture));
            for (Int g = 0; g < groups; g++)
                for (Int b = 0; b < blocks; b++) {
                    Int lanes = smaller(WIDE, padded_width - b * WIDE), tile = lanes == WIDE ? ROWS : 2 * ROWS;
                    Int used = smaller(lanes, k->width - b * WIDE);
                    const float *rows_of = packed + (g * padded_width + b * WIDE) * rows;
                    float *goal = result + picture * sides[0] * sides[1] * width + g * k->width;
                    for (Int p = 0; p < here; p += tile) {
                        Int at[2 * ROWS];
                        float *to[2 * ROWS], block[ROWS * WIDE];
                        for (Int t = 0; t < tile; t++) {
                            Int of = smaller(p + t, here - 1); /* the last one again where there is none */
                            at[t] = start[of];
                            to[t] = used < lanes ? block + t * lanes : goal + end[of] + b * WIDE;
                        }
                        (lanes == WIDE ? product_wide : product_narrow)(source->scratch + g * k->depth, at, runs, run_count, rows_of, to);
                        for (Int t = 0; used < lanes && t < smaller(tile, here - p); t++)
                            memcpy(goal + end[p + t] + b * WIDE, block + t * lanes, used * sizeof(float));
                    }
                }
        }
        ok = 1;
    }
    free(runs), free(packed), free(end), free(start), free(source->scratch);
    return ok;
}

/* Depthwise: four positions at a time, the channels in the lanes. */
static int gathered_apart(Padded *source, const float *kernel, const Phase *phase, Int batch, float *result, const Int sides[2]) {
    Int positions = phase->count[0] * phase->count[1], channels = source->channels, stored = source->stored, ok = 0;
    if (!positions) return 1;
    Int pictures = together(source, positions, batch);
    Int *start = scratched(source, pictures) ? starts(source, pictures, phase->count, phase->reach) : NULL;
    Int *end = places_of(pictures, phase->count, phase->first, phase->step, sides[0], sides[1], channels);
    Int *from = malloc(larger(1, phase->tap_count) * sizeof(Int));
    float *packed = floats(phase->tap_count * stored);
    if (start && end && from && packed) {
        memset(packed, 0, phase->tap_count * stored * sizeof(float));
        for (Int k = 0; k < phase->tap_count; k++) {
            from[k] = (phase->taps[k].row * source->padded[1] + phase->taps[k].column) * stored;
            memcpy(packed + k * stored, kernel + phase->taps[k].place * channels, channels * sizeof(float));
        }
        for (Int picture = 0; picture < batch; picture += pictures) {
            Int here = smaller(pictures, batch - picture) * positions;
            fill(source, picture, smaller(pictures, batch - picture));
            for (Int p = 0; p < here; p += 4) {
                const float *at[4];
                float *to[4];
                for (Int t = 0; t < 4; t++) {
                    Int of = smaller(p + t, here - 1);
                    at[t] = source->scratch + start[of];
                    to[t] = result + picture * sides[0] * sides[1] * channels + end[of];
                }
                for (Int c = 0; c < channels; c += LANES) {
                    Vector sum[4] = {{0}, {0}, {0}, {0}};
                    for (Int k = 0; k < phase->tap_count; k++) {
                        Vector weight = *(const Vector *)(packed + k * stored + c);
                        for (int t = 0; t < 4; t++) sum[t] += *(const Vector *)(at[t] + from[k] + c) * weight;
                    }
                    for (int t = 0; t < 4; t++) {
                        if (c + LANES <= channels)
                            *(Vector *)(to[t] + c) = sum[t];
                        else
                            memcpy(to[t] + c, &sum[t], (channels - c) * sizeof(float));
                    }
                }
            }
        }
        ok = 1;
    }
    free(packed), free(from), free(end), free(start), free(source->scratch);
    return ok;
}

/* The source of a gathered product, its border as wide as its phases reach. */
static Padded bordered(const float *source, const Int sides[2], Int channels, const Int low[2], const Int high[2], int apart) {
    Padded p = {.source = source, .channels = channels, .stored = apart ? rounded(channels, LANES) : channels};
    for (int axis = 0; axis < 2; axis++) {
        p.sides[axis] = sides[axis];
        p.low[axis] = larger(0, low[axis]);
        p.padded[axis] = p.low[axis] + sides[axis] + larger(0, high[axis]);
    }
    return p;
}

static int is_apart(const Geometry *g) { return g->groups > 1 && g->groups == g->channels && g->features == g->channels; }

static int output(const Geometry *g, const float *input, const float *kernel, float *result) {
    Int count = g->window[0] * g->window[1], high[2], skipped[2], ok = 0;
    for (int axis = 0; axis < 2; axis++) {
        high[axis] = (g->output[axis] - 1) * g->stride[axis] + (g->window[axis] - 1) * g->dilation[axis] - g->low[axis] - g->input[axis] + 1;
        skipped[axis] = larger(0, -g->low[axis]); /* a negative padding looks into the input */
    }
    Padded source = bordered(input, g->input, g->channels, g->low, high, is_apart(g));
    Tap *taps = malloc(count * sizeof(Tap));
    if (taps) {
        for (Int place = 0; place < count; place++)
            taps[place] = (Tap){place / g->window[1] * g->dilation[0] + skipped[0], place % g->window[1] * g->dilation[1] + skipped[1], place};
        Phase phase = {taps, count, {g->output[0], g->output[1]}, {0, 0}, {1, 1}, {g->stride[0], g->stride[1]}};
        Int depth = g->channels / g->groups, width = g->features / g->groups;
        Kernel k = {kernel, depth, width, depth * g->features, g->features, 1, width};
        ok = is_apart(g) ? gathered_apart(&source, kernel, &phase, g->batch, result, g->output)
                         : gathered(&source, &k, &phase, g->batch, g->groups, result, g->output);
    }
    free(taps);
    return ok;
}

/* The places of the window along an axis that reach positions of the input with this rest, and where, in ascending order. */
static Int reaching(const Geometry *g, int axis, Int rest, Int *places, Int *where) {
    Int found = 0;
    for (Int place = g->window[axis] - 1; place >= 0; place--) {
        Int over = rest + g->low[axis] - place * g->dilation[axis];
        if (over % g->stride[axis] == 0) places[found] = place, where[found++] = over / g->stride[axis];
    }
    return found;
}

static int input_slope(const Geometry *g, const float *slope, const float *kernel, float *result) {
    Int most = larger(g->window[0], g->window[1]), low[2] = {0, 0}, high[2] = {0, 0}, ok = 0;
    Int *work = malloc(4 * most * sizeof(Int));
    Tap *taps = malloc(g->window[0] * g->window[1] * sizeof(Tap));
    if (work && taps) {
        Int *places[2] = {work, work + most}, *where[2] = {work + 2 * most, work + 3 * most}, found[2], count[2];
        for (int axis = 0; axis < 2; axis++)
            for (Int rest = 0; rest < g->stride[axis]; rest++) {
                Int last = (g->input[axis] - rest + g->stride[axis] - 1) / g->stride[axis] - 1;
                found[axis] = reaching(g, axis, rest, places[axis], where[axis]);
                if (found[axis] && last >= 0) {
                    low[axis] = larger(low[axis], -where[axis][0]);
                    high[axis] = larger(high[axis], last + where[axis][found[axis] - 1] - g->output[axis] + 1);
                }
            }
        ok = 1;
        for (Int rests = 0; ok && rests < g->stride[0] * g->stride[1]; rests++) {
            Int rest[2] = {rests / g->stride[1], rests % g->stride[1]}, tap_count = 0;
            for (int axis = 0; axis < 2; axis++) {
                count[axis] = larger(0, (g->input[axis] - rest[axis] + g->stride[axis] - 1) / g->stride[axis]);
                found[axis] = reaching(g, axis, rest[axis], places[axis], where[axis]);
            }
            for (Int row = 0; row < found[0]; row++)
                for (Int column = 0; column < found[1]; column++)
                    taps[tap_count++] = (Tap){where[0][row] + low[0], where[1][column] + low[1],
                                              places[0][row] * g->window[1] + places[1][column]};
            Padded source = bordered(slope, g->output, g->features, low, high, is_apart(g));
            Phase phase = {taps, tap_count, {count[0], count[1]}, {rest[0], rest[1]}, {g->stride[0], g->stride[1]}, {1, 1}};
            Int depth = g->features / g->groups, width = g->channels / g->groups;
            Kernel k = {kernel, depth, width, width * g->features, 1, g->features, depth};
            ok = is_apart(g) ? gathered_apart(&source, kernel, &phase, g->batch, result, g->input)
                             : gathered(&source, &k, &phase, g->batch, g->groups, result, g->input);
        }
    }
    free(taps), free(work);
    return ok;
}

/* sums[t] += Σ over positions of source[start + t] × slope, for `T` values of a run and `V` vectors of features. */
#define CROSSED(NAME, T, V)                                                                                         \
    static void NAME(const float *source, const Int *start, const float *slope, Int stride, Int count, float *sums) { \
        Vector sum[T][V];                                                                                           \
        for (int t = 0; t < T; t++)                                                                                 \
            for (int v = 0; v < V; v++) sum[t][v] = *(Vector *)(sums + (t * V + v) * LANES);                        \
        for (Int p = 0; p < count; p++, slope += stride) {                                                          \
            const float *from = source + start[p];                                                                  \
            for (int t = 0; t < T; t++)                                                                             \
                for (int v = 0; v < V; v++) sum[t][v] += from[t] * *(const Vector *)(slope + v * LANES);            \
        }                                                                                                           \
        for (int t = 0; t < T; t++)                                                                                 \
            for (int v = 0; v < V; v++) *(Vector *)(sums + (t * V + v) * LANES) = sum[t][v];                        \
    }
CROSSED(crossed_wide, ROWS, 2)
CROSSED(crossed_narrow, 2 * ROWS, 1)

/* Copies `count` rows of a group's features next to one another, padded with zeros to whole vectors. */
static void aligned_rows(const float *from, Int stride, Int width, Int padded, Int count, float *to) {
    for (Int row = 0; row < count; row++, from += stride, to += padded) {
        memcpy(to, from, width * sizeof(float));
        for (Int w = width; w < padded; w++) to[w] = 0;
    }
}

#define POSITIONS 512 /* at most so many positions at a time for the slope of the kernel */

static int kernel_slope(const Geometry *g, const float *input, const float *slope, float *result) {
    Int count = g->window[0] * g->window[1], depth = g->channels / g->groups, width = g->features / g->groups;
    Int positions = g->output[0] * g->output[1], padded = rounded(width, LANES), high[2], skipped[2], ok = 0;
    for (int axis = 0; axis < 2; axis++) {
        high[axis] = (g->output[axis] - 1) * g->stride[axis] + (g->window[axis] - 1) * g->dilation[axis] - g->low[axis] - g->input[axis] + 1;
        skipped[axis] = larger(0, -g->low[axis]);
    }
    Padded source = bordered(input, g->input, g->channels, g->low, high, 0);
    Int pictures = together(&source, positions, g->batch), run_count = 0, rows = 0;
    Int chunk = larger(64, smaller(POSITIONS, 6144 / larger(1, g->channels)));
    Int *start = scratched(&source, pictures) ? starts(&source, pictures, g->output, g->stride) : NULL;
    Tap *taps = malloc(count * sizeof(Tap));
    Run *runs = malloc(count * sizeof(Run));
    Int *row_of = malloc(count * sizeof(Int));
    float *near = floats(chunk * padded), *sums = NULL;
    if (start && taps && runs && row_of && near) {
        for (Int place = 0; place < count; place++)
            taps[place] = (Tap){place / g->window[1] * g->dilation[0] + skipped[0], place % g->window[1] * g->dilation[1] + skipped[1], place};
        run_count = runs_of(&source, taps, count, depth, runs);
        for (Int r = 0; r < run_count; r++) row_of[r] = rows, rows += rounded(runs[r].length, 2 * ROWS);
        sums = floats(g->groups * rows * padded);
    }
    if (sums) {
        memset(sums, 0, g->groups * rows * padded * sizeof(float));
        for (Int picture = 0; picture < g->batch; picture += pictures) {
            Int here = smaller(pictures, g->batch - picture) * positions;
            fill(&source, picture, smaller(pictures, g->batch - picture));
            for (Int p = 0; p < here; p += chunk)
                for (Int group = 0; group < g->groups; group++) {
                    Int some = smaller(chunk, here - p);
                    aligned_rows(slope + (picture * positions + p) * g->features + group * width, g->features, width, padded, some, near);
                    for (Int b = 0; b < padded; b += WIDE) {
                        int wide = b + WIDE <= padded;
                        Int lanes = wide ? WIDE : LANES, tile = wide ? ROWS : 2 * ROWS;
                        float *block = sums + (group * padded + b) * rows;
                        for (Int r = 0; r < run_count; r++)
                            for (Int t = 0; t < runs[r].length; t += tile)
                                (wide ? crossed_wide : crossed_narrow)(source.scratch + group * depth + runs[r].from + t, start + p,
                                                                       near + b, padded, some, block + (row_of[r] + t) * lanes);
                    }
                }
        }
        for (Int r = 0; r < run_count; r++)
            for (Int t = 0; t < runs[r].length; t++) {
                Int row = runs[r].row + t; /* place × depth + channel */
                for (Int group = 0; group < g->groups; group++)
                    for (Int w = 0; w < width; w++) {
                        Int b = w / WIDE * WIDE, lanes = smaller(WIDE, padded - b);
                        result[row * g->features + group * width + w] =
                            sums[(group * padded + b) * rows + (row_of[r] + t) * lanes + w - b];
                    }
            }
        ok = 1;
    }
    free(sums), free(near), free(row_of), free(runs), free(taps), free(start), free(source.scratch);
    return ok;
}

#define TAPS 8 /* places of the window that are summed up at a time */

static int kernel_slope_apart(const Geometry *g, const float *input, const float *slope, float *result) {
    Int count = g->window[0] * g->window[1], positions = g->output[0] * g->output[1], high[2], skipped[2], ok = 0;
    for (int axis = 0; axis < 2; axis++) {
        high[axis] = (g->output[axis] - 1) * g->stride[axis] + (g->window[axis] - 1) * g->dilation[axis] - g->low[axis] - g->input[axis] + 1;
        skipped[axis] = larger(0, -g->low[axis]);
    }
    Padded source = bordered(input, g->input, g->channels, g->low, high, 1);
    Int pictures = together(&source, positions, g->batch), stored = source.stored, chunk = larger(16, 4096 / stored);
    Int *start = scratched(&source, pictures) ? starts(&source, pictures, g->output, g->stride) : NULL;
    Int *from = malloc((count + TAPS) * sizeof(Int));
    float *sums = floats((count + TAPS) * stored), *near = floats(chunk * stored);
    if (start && from && sums && near) {
        memset(sums, 0, (count + TAPS) * stored * sizeof(float));
        for (Int place = 0; place < count + TAPS; place++) {
            Int real = smaller(place, count - 1);
            from[place] = ((real / g->window[1] * g->dilation[0] + skipped[0]) * source.padded[1] +
                           real % g->window[1] * g->dilation[1] + skipped[1]) * stored;
        }
        for (Int picture = 0; picture < g->batch; picture += pictures) {
            Int here = smaller(pictures, g->batch - picture) * positions;
            fill(&source, picture, smaller(pictures, g->batch - picture));
            for (Int p = 0; p < here; p += chunk) {
                Int some = smaller(chunk, here - p);
                aligned_rows(slope + (picture * positions + p) * g->channels, g->channels, g->channels, stored, some, near);
                for (Int c = 0; c < stored; c += LANES)
                    for (Int first = 0; first < count; first += TAPS) {
                        Vector sum[TAPS];
                        for (int k = 0; k < TAPS; k++) sum[k] = *(Vector *)(sums + (first + k) * stored + c);
                        for (Int q = 0; q < some; q++) {
                            const float *at = source.scratch + start[p + q] + c;
                            Vector by = *(const Vector *)(near + q * stored + c);
                            for (int k = 0; k < TAPS; k++) sum[k] += *(const Vector *)(at + from[first + k]) * by;
                        }
                        for (int k = 0; k < TAPS; k++) *(Vector *)(sums + (first + k) * stored + c) = sum[k];
                    }
            }
        }
        for (Int place = 0; place < count; place++) memcpy(result + place * g->channels, sums + place * stored, g->channels * sizeof(float));
        ok = 1;
    }
    free(near), free(sums), free(from), free(start), free(source.scratch);
    return ok;
}

static int kernel_slopes(const Geometry *g, const float *input, const float *slope, float *result) {
    return is_apart(g) ? kernel_slope_apart(g, input, slope, result) : kernel_slope(g, input, slope, result);
}

/* A handler has two operands, one result and an array of numbers that is a Geometry. */
typedef int Product(const Geometry *, const float *, const float *, float *);

static XLA_FFI_Error *handled(XLA_FFI_CallFrame *frame, Product *product) {
    if (answered(frame)) return NULL;
    const Geometry *geometry = numbers_of(frame, 2, 1, sizeof(Geometry));
    if (!geometry) return refused(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, "a convolution has two operands, one result, one geometry");
    if (!product(geometry, operand(frame, 0), operand(frame, 1), outcome(frame, 0)))
        return refused(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "no memory for a convolution");
    return NULL;
}

XLA_FFI_Error *convolution_output(XLA_FFI_CallFrame *frame) { return handled(frame, output); }
XLA_FFI_Error *convolution_input_slope(XLA_FFI_CallFrame *frame) { return handled(frame, input_slope); }
XLA_FFI_Error *convolution_kernel_slope(XLA_FFI_CallFrame *frame) { return handled(frame, kernel_slopes); }

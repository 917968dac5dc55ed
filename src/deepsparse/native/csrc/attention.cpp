#include "attention.h"

#include <algorithm>
#include <cmath>

namespace resparse {
namespace {

constexpr uint32_t kTokensOfRotation = 16;  // in a task

bool same_frequencies(const OpenLayer& a, const OpenLayer& b) {
  return a.frequencies == b.frequencies && a.head_size() == b.head_size();
}

std::vector<const OpenLayer*> with_distinct_frequencies(const OpenModel& model) {
  std::vector<const OpenLayer*> found;
  for (const OpenLayer& layer : model.layers) {
    const auto same = [&](const OpenLayer* one) { return same_frequencies(*one, layer); };
    if (layer.frequencies != nullptr && std::none_of(found.begin(), found.end(), same)) found.push_back(&layer);
  }
  return found;
}

}  // namespace

Attention::Attention(const OpenModel& model, const Tokens& tokens, const BufferSizes& sizes, Products& products,
                     uint32_t threads)
    : queries(tokens.count() * sizes.bytes_stride),
      keys(tokens.count() * sizes.bytes_stride),
      values(tokens.count() * sizes.bytes_stride),
      context(tokens.count() * sizes.bytes_stride),
      float_queries(tokens.count() * sizes.floats_stride),
      float_keys(tokens.count() * sizes.floats_stride),
      float_values(tokens.count() * sizes.floats_stride),
      float_context(tokens.count() * sizes.floats_stride),
      kernels_(*model.kernels),
      tokens_(tokens),
      sizes_(sizes),
      products_(products),
      rotary_(with_distinct_frequencies(model)),
      angles_(rotary_.size() * sizes.longest * sizes.angles_stride),
      scratch_(sizes.attention_scratch * threads),
      peaks_(sizes.peaks) {}

void Attention::of_integers(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only) {
  attend(team, thread, layer, first_only, nullptr);
}

void Attention::of_floats(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only) {
  if (layer.frequencies != nullptr) rotate(team, layer, first_only);
  if (layer.record->attention != kIntegerAttention) {
    round(team, layer, first_only);
    return attend_floats(team, thread, layer, first_only);
  }
  quantize(team, layer, first_only);
  attend(team, thread, layer, first_only, float_context.data());
}

// --- rotary positions ---

// Of every place in a text.
void Attention::compute_angles(Team::Member& team) {
  if (rotary_.empty()) return;
  team.step(static_cast<uint32_t>(rotary_.size()) * sizes_.longest, [&](uint32_t task) {
    const OpenLayer& layer = *rotary_[task / sizes_.longest];
    const auto place = static_cast<float>(task % sizes_.longest);
    const uint32_t half = layer.head_size() / 2;
    float* const angles = &angles_[task * sizes_.angles_stride];
    for (uint32_t i = 0; i < half; ++i) {
      angles[i] = std::cos(place * layer.frequencies[i]);
      angles[half + i] = std::sin(place * layer.frequencies[i]);
    }
  });
}

// From the first place on.
const float* Attention::angles_of(const OpenLayer& layer) const {
  size_t index = 0;
  while (!same_frequencies(*rotary_[index], layer)) ++index;
  return angles_.data() + index * sizes_.longest * sizes_.angles_stride;
}

void Attention::rotate(Team::Member& team, const OpenLayer& layer, bool first_only) {
  const float* const angles = angles_of(layer);
  const uint32_t heads = layer.record->heads, blocks = divide_up(sizes_.longest, kTokensOfRotation);
  team.step(tokens_.texts * blocks, [&](uint32_t task) {
    const uint32_t text = task / blocks, first = task % blocks * kTokensOfRotation;
    const uint32_t last = std::min(first + kTokensOfRotation, tokens_.length_of(text));
    for (uint32_t place = first; place < last; ++place) {
      const size_t at = (tokens_.start_of(text) + place) * sizes_.floats_stride;
      const float* const of_place = angles + place * sizes_.angles_stride;
      kernels_.rotate(&float_keys[at], heads, layer.head_size(), of_place);
      // Where only first tokens have queries, their place, 0, does not rotate them.
      if (!first_only) kernels_.rotate(&float_queries[at], heads, layer.head_size(), of_place);
    }
  });
}

// --- heads ---

void Attention::quantize(Team::Member& team, const OpenLayer& layer, bool first_only) {
  const auto quantize_row = [&](const Buffer<float>& from, uint32_t row, Grid grid, Buffer<uint8_t>& to) {
    kernels_.quantize(from.data() + row * sizes_.floats_stride, layer.width(), grid, &to[row * sizes_.bytes_stride]);
  };
  const uint32_t query_rows = first_only ? tokens_.texts : tokens_.count();
  team.step(tokens_.count(), [&](uint32_t row) {
    if (row < query_rows) quantize_row(float_queries, row, layer.record->query_grid, queries);
    quantize_row(float_keys, row, layer.record->key_grid, keys);
    quantize_row(float_values, row, layer.record->value_grid, values);
  });
}

void Attention::round(Team::Member& team, const OpenLayer& layer, bool first_only) {
  const Layer& record = *layer.record;
  if (record.query_grid.scale == 0 && record.key_grid.scale == 0 && record.value_grid.scale == 0) return;
  const auto round_row = [&](Buffer<float>& rows, uint32_t row, const Grid& grid) {
    float* const at = &rows[row * sizes_.floats_stride];
    if (grid.scale != 0) kernels_.round(at, layer.width(), grid, at);
  };
  const uint32_t query_rows = first_only ? tokens_.texts : tokens_.count();
  team.step(tokens_.count(), [&](uint32_t row) {
    if (row < query_rows) round_row(float_queries, row, record.query_grid);
    round_row(float_keys, row, record.key_grid);
    round_row(float_values, row, record.value_grid);
  });
}

// Some queries of a head of a text, and the keys that they attend to: the first row and the number of each.
struct Attention::Part {
  size_t column;  // where the head begins
  uint32_t text, index;  // among all parts
  uint32_t query, query_count, key, key_count;
  Places places;
};

// Calls attend(part) for parts of all queries of every head of every text.
template <typename Attend>
void Attention::each_part(Team::Member& team, const OpenLayer& layer, bool first_only, const Attend& attend) const {
  const uint32_t heads = layer.record->heads, window = layer.record->window, reach = layer.record->reach;
  const uint32_t parts = first_only ? 1 : divide_up(sizes_.longest, kQueriesOfTask);
  team.step(tokens_.texts * heads * parts, [&](uint32_t task) {
    const uint32_t text = task / parts / heads, head = task / parts % heads, first = task % parts * kQueriesOfTask;
    const uint32_t start = tokens_.start_of(text), length = tokens_.length_of(text);
    if (first >= length) return;
    Part part{};
    part.text = text;
    part.index = task;
    part.column = size_t{head} * layer.head_size();
    part.query = first_only ? text : start + first;
    part.query_count = first_only ? 1 : std::min(kQueriesOfTask, length - first);
    const uint32_t before = std::min(first, window);
    const uint64_t end = uint64_t{first} + part.query_count + window;
    part.key = start + first - before;
    part.key_count = static_cast<uint32_t>(std::min<uint64_t>(length, end)) - (first - before);
    part.places = {before, window, nullptr};
    if (layer.bias != nullptr) part.places.bias = layer.bias + head * bias_stride(reach) + (reach - 1);
    attend(part);
  });
}

// Of quantized queries, keys and values: to `context`, or to `floats` where it is not null.
void Attention::attend(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only, float* floats) {
  const Layer& record = *layer.record;
  each_part(team, layer, first_only, [&](const Part& part) {
    const size_t stride = sizes_.bytes_stride;
    AttentionTask task{};
    task.queries = &queries[part.query * stride + part.column];
    task.keys = &keys[part.key * stride + part.column];
    task.values = &values[part.key * stride + part.column];
    task.context = &context[part.query * stride + part.column];
    task.query_stride = task.stride = task.context_stride = stride;
    if (floats != nullptr) task.floats = floats + part.query * sizes_.floats_stride + part.column;
    task.float_stride = sizes_.floats_stride;
    task.tokens = part.key_count;
    task.query_count = part.query_count;
    task.places = part.places;
    task.head_size = layer.head_size();
    task.query_grid = record.query_grid;
    task.probabilities_grid = record.probabilities_grid;
    task.context_grid = floats != nullptr ? kUnused : layer.attention_output.input;
    task.score_scale = record.query_grid.scale * record.score_scale * record.key_grid.scale;
    task.context_scale = record.probabilities_grid.scale * record.value_grid.scale;
    kernels_.attend(task, &scratch_[thread * sizes_.attention_scratch]);
  });
}

void Attention::attend_floats(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only) {
  const bool by_range = layer.record->attention == kAttentionByRange;
  if (by_range) find_peaks(team, thread, layer, first_only);
  each_part(team, layer, first_only, [&](const Part& part) {
    FloatAttentionTask task = float_task(layer, part);
    if (by_range) task.probabilities_grid = grid_of_range(0, peak_of(part.text, layer));
    kernels_.attend_floats(task, &scratch_[thread * sizes_.attention_scratch]);
  });
  const Grid& grid = layer.record->context_grid;
  if (grid.scale == 0) return;
  team.step(first_only ? tokens_.texts : tokens_.count(), [&](uint32_t row) {
    float* const at = &float_context[row * sizes_.floats_stride];
    kernels_.round(at, layer.width(), grid, at);
  });
}

FloatAttentionTask Attention::float_task(const OpenLayer& layer, const Part& part) {
  const size_t stride = sizes_.floats_stride;
  FloatAttentionTask task{};
  task.queries = &float_queries[part.query * stride + part.column];
  task.keys = &float_keys[part.key * stride + part.column];
  task.values = &float_values[part.key * stride + part.column];
  task.context = &float_context[part.query * stride + part.column];
  task.query_stride = task.stride = task.context_stride = stride;
  task.tokens = part.key_count;
  task.query_count = part.query_count;
  task.places = part.places;
  task.head_size = layer.head_size();
  task.score_scale = layer.record->score_scale;
  std::copy_n(layer.record->score_grids, kMaxScoreGrids, task.score_grids);
  task.softmax_grid = layer.record->softmax_grid;
  task.probabilities_grid = layer.record->probabilities_grid;
  return task;
}

// Rounds queries, keys and values by the ranges of texts, and finds the largest probability of each part.
void Attention::find_peaks(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only) {
  for (Buffer<float>* factor : {&float_queries, &float_keys, &float_values})
    products_.round_by_range(team, factor->data(), sizes_.floats_stride, layer.width());
  team.step(1, [&](uint32_t) { std::fill_n(peaks_.data(), sizes_.peaks, 0.0f); });
  each_part(team, layer, first_only, [&](const Part& part) {
    FloatAttentionTask task = float_task(layer, part);
    task.peak = &peaks_[part.index];
    kernels_.attend_floats(task, &scratch_[thread * sizes_.attention_scratch]);
  });
}

float Attention::peak_of(uint32_t text, const OpenLayer& layer) const {
  const size_t parts = size_t{layer.record->heads} * divide_up(sizes_.longest, kQueriesOfTask);
  const float* const first = peaks_.data() + text * parts;
  return *std::max_element(first, first + parts);
}

}  // namespace resparse
